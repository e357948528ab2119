//! A stream that notes how much was read of it, so that somebody can see that nothing comes, and
//! that writes when it is told to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's end of a connection.
pub(crate) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

/// What of a stream is known and said beside it.
#[derive(Default)]
pub(crate) struct Meter {
    read_bytes: AtomicU64,
    holding: AtomicBool,
    held: AtomicBool,
}

impl Meter {
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Polls what reads and writes the stream, so that it writes at the end, and all at once: what
    /// it would write while it reads waits for a second poll.
    pub(crate) fn poll_together<R>(&self, mut poll: impl FnMut() -> Poll<R>) -> Poll<R> {
        self.held.store(false, Ordering::Relaxed);
        self.holding.store(true, Ordering::Relaxed);
        let polled = poll();
        self.holding.store(false, Ordering::Relaxed);
        // Nobody was woken for what is held.
        if polled.is_pending() && self.held.load(Ordering::Relaxed) {
            return poll();
        }
        polled
    }

    /// Whether a writer has to wait; notes that one does.
    fn holds(&self) -> bool {
        let holding = self.holding.load(Ordering::Relaxed);
        if holding {
            self.held.store(true, Ordering::Relaxed);
        }
        holding
    }
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let shared = Arc::clone(&meter);
        (Self { stream, meter }, shared)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.meter.read_bytes.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.meter.holds() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not before what is held.
        if self.meter.holds() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    // No `poll_write_vectored`: h2 would write each answer of more than 256 bytes by itself. So it
    // copies those of up to 1 KiB together, and what is ready at once is one system call.
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What is held is written by a second poll, and without there is none.
    #[test]
    fn what_is_held_waits() {
        let (mut stream, meter) = Metered::new(Vec::new());
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = Vec::new();
        let written = meter.poll_together(|| {
            let polled = Pin::new(&mut stream).poll_write(&mut context, b"written");
            polls.push(polled.is_ready());
            polled
        });
        assert!(matches!(written, Poll::Ready(Ok(7))));
        assert_eq!(polls, [false, true]);
        assert_eq!(stream.stream, b"written");
        let mut polls = 0;
        let nothing: Poll<()> = meter.poll_together(|| {
            polls += 1;
            Poll::Pending
        });
        assert!(nothing.is_pending());
        assert_eq!(polls, 1);
    }
}
