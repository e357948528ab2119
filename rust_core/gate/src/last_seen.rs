//! Sessions that hits found to be reported, in a bounded queue: no thread of the gate ever waits
//! for Python.

use std::sync::{Mutex, PoisonError};

use watchword_core::Id;

use crate::settings::SEEN_MAX;

/// What waits for Python. When it is full a report is dropped, which is safe: nothing was stored of
/// it, so the session's next miss, a minute later at most if it is used (`cache::MAX_AGE`), finds
/// the old time in the database and Python notes it. The next hit to report comes a period later.
#[derive(Default)]
pub(crate) struct Seen {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    reports: Vec<(Id, i64)>,
    dropped: u64,
}

impl Seen {
    /// Adds that a session was seen at a time of the database, or counts it as dropped.
    pub(crate) fn push(&self, session_id: Id, time: i64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.reports.len() < SEEN_MAX {
            waiting.reports.push((session_id, time));
        } else {
            waiting.dropped = waiting.dropped.saturating_add(1);
        }
    }

    /// Takes everything that waits, and how many were dropped since the last time.
    pub(crate) fn take(&self) -> (Vec<(Id, i64)>, u64) {
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
        let seen = Seen::default();
        seen.push([1; 16], 10);
        seen.push([2; 16], 11);
        assert_eq!(seen.take(), (vec![([1; 16], 10), ([2; 16], 11)], 0));
        assert_eq!(seen.take(), (vec![], 0));
    }

    #[test]
    fn a_full_queue_drops_counts_and_has_room_again() {
        let seen = Seen::default();
        for time in (0..).take(SEEN_MAX + 7) {
            seen.push([1; 16], time);
        }
        let (reports, dropped) = seen.take();
        assert_eq!((reports.len(), dropped), (SEEN_MAX, 7));
        seen.push([1; 16], 0);
        assert_eq!(seen.take(), (vec![([1; 16], 0)], 0));
    }
}
