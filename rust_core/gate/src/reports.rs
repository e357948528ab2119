//! What hits found to be reported, in bounded queues: no thread of the gate ever waits for Python.

use std::sync::{Mutex, PoisonError};

use crate::settings::SEEN_MAX;

/// What waits for Python. When it is full a report is dropped, which is safe: nothing was stored of
/// it, so the session's next miss, a minute later at most if it is used (`cache::MAX_AGE`), finds
/// what is stored and Python notes it, or the next hit reports it again.
pub(crate) struct Reports<T> {
    waiting: Mutex<Waiting<T>>,
}

struct Waiting<T> {
    reports: Vec<T>,
    dropped: u64,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            reports: Vec::new(),
            dropped: 0,
        }
    }
}

impl<T> Default for Reports<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
        }
    }
}

impl<T> Reports<T> {
    /// Adds a report, or counts it as dropped.
    pub(crate) fn push(&self, report: T) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.reports.len() < SEEN_MAX {
            waiting.reports.push(report);
        } else {
            waiting.dropped = waiting.dropped.saturating_add(1);
        }
    }

    /// Takes everything that waits, and how many were dropped since the last time.
    pub(crate) fn take(&self) -> (Vec<T>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { reports, dropped } = std::mem::take(&mut *waiting);
        (reports, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_taken_once_in_its_order() {
        let seen = Reports::default();
        seen.push(10);
        seen.push(11);
        assert_eq!(seen.take(), (vec![10, 11], 0));
        assert_eq!(seen.take(), (vec![], 0));
    }

    #[test]
    fn a_full_queue_drops_counts_and_has_room_again() {
        let seen = Reports::default();
        for time in (0..).take(SEEN_MAX + 7) {
            seen.push(time);
        }
        let (reports, dropped) = seen.take();
        assert_eq!((reports.len(), dropped), (SEEN_MAX, 7));
        seen.push(0);
        assert_eq!(seen.take(), (vec![0], 0));
    }
}
