//! Waking Python's event loop: an eventfd among what it waits for.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd. Whoever takes goes on until nothing is left, so only what comes into an empty queue
/// has to wake.
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// The descriptor that is readable once it was woken.
    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub(crate) fn wake(&self) {
        // It fails when 2^64 wakes are unread alone, and then it is readable.
        let _full = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Whether it was woken since the last time.
    #[cfg(test)]
    pub(crate) fn was_woken(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}
