//! How long a replica may answer from its cache, and what time the database has.

use crate::sync::{AtomicI64, Ordering};

/// From the start of the last good poll: 1 s. Microseconds.
pub const LEASE: i64 = 1_000_000;

/// Database times are rounded up to this, 1 ms, so that reading them seldom writes. Microseconds.
pub const TICK: i64 = 1_000;

const NEVER: i64 = i64::MIN;

/// The last good poll of the changes. Reads take no lock.
///
/// Monotonic times are microseconds of a clock that goes on while the machine sleeps
/// (`CLOCK_BOOTTIME`): a process that was stopped must find its lease over.
pub struct Lease {
    /// Monotonic time at which the last good poll was sent.
    start: AtomicI64,
    /// The database's clock minus the monotonic one.
    offset: AtomicI64,
    /// The latest database time that was given out.
    given: AtomicI64,
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}

impl Lease {
    /// A lease that is not good until the first poll.
    #[must_use]
    pub fn new() -> Self {
        let never = || AtomicI64::new(NEVER);
        Self {
            start: never(),
            offset: never(),
            given: never(),
        }
    }

    /// Begins anew: a poll that was sent at `sent` (monotonic) read `database_time`, and **every
    /// change that it read has been applied**. A poll sent before the last good one changes
    /// nothing. One thread polls; two must not renew at once.
    pub fn renew(&self, sent: i64, database_time: i64) {
        if sent > self.start.load(Ordering::Acquire) {
            // Before the start: who sees the lease begun has a time, too.
            self.offset
                .store(database_time.saturating_sub(sent), Ordering::Release);
            self.start.store(sent, Ordering::Release);
        }
    }

    /// Ends the lease at once, as is needed when changes may have been missed.
    pub fn end(&self) {
        self.start.store(NEVER, Ordering::Release);
    }

    /// The database's time of the last good poll: everything that was committed before it has been
    /// applied. None before the first.
    #[must_use]
    pub fn as_of(&self) -> Option<i64> {
        let start = self.start.load(Ordering::Acquire);
        (start != NEVER).then(|| start.saturating_add(self.offset.load(Ordering::Acquire)))
    }

    /// Whether answers may come from the cache; to be asked again as the last step before one.
    #[must_use]
    pub fn good(&self, now: i64) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != NEVER && now.saturating_sub(start) <= LEASE
    }

    /// The database's time at `now` (monotonic): that of the poll and what has passed since the
    /// poll was sent, rounded up to a [`TICK`]; so it is ahead of the database's own clock by no
    /// more than the poll took and a tick, and what has ended there has ended here. It never goes
    /// backwards: when a poll gives an earlier time, it stands still until that is caught up with.
    /// None before the first good poll.
    #[must_use]
    pub fn database_now(&self, now: i64) -> Option<i64> {
        if self.start.load(Ordering::Acquire) == NEVER {
            return None;
        }
        let exact = now.saturating_add(self.offset.load(Ordering::Acquire));
        let past = exact.rem_euclid(TICK);
        let up = if past == 0 {
            0
        } else {
            TICK.saturating_sub(past)
        };
        let time = exact.saturating_add(up);
        let given = self.given.load(Ordering::Relaxed);
        if time <= given {
            return Some(given);
        }
        Some(time.max(self.given.fetch_max(time, Ordering::Relaxed)))
    }
}
