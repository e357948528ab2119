//! What an operator should know, in a bounded queue: no thread of the gate ever waits for Python.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::settings::EVENTS_MAX;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `accept` failed.
    AcceptFailed,
    /// There were as many connections as there may be.
    ConnectionRefused,
    /// The connection to grpc.aio ended or could not be made.
    UpstreamLost,
    /// A call met a defect of the gate and was answered INTERNAL.
    Panicked,
    /// The queue was full.
    EventsDropped,
}

/// One event, or several of one kind and detail in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has happened.
    pub kind: EventKind,
    /// What the operating system or the library said; nothing that a client sent.
    pub detail: String,
    /// How often.
    pub count: u64,
}

#[derive(Default)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Event>,
    dropped: u64,
}

impl Events {
    /// Adds an event; one like the last is counted with it, one too many is counted as dropped.
    pub(crate) fn push(&self, kind: EventKind, detail: impl Into<String>) {
        let detail = detail.into();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = queue.waiting.back_mut()
            && last.kind == kind
            && last.detail == detail
        {
            last.count = last.count.saturating_add(1);
        } else if queue.waiting.len() < EVENTS_MAX {
            queue.waiting.push_back(Event {
                kind,
                detail,
                count: 1,
            });
        } else {
            queue.dropped = queue.dropped.saturating_add(1);
        }
    }

    /// Takes everything that waits, the oldest first.
    pub(crate) fn drain(&self) -> Vec<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events: Vec<Event> = queue.waiting.drain(..).collect();
        let dropped = std::mem::take(&mut queue.dropped);
        if dropped > 0 {
            events.push(Event {
                kind: EventKind::EventsDropped,
                detail: String::new(),
                count: dropped,
            });
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_a_row_are_counted_together() {
        let events = Events::default();
        for _ in 0..3 {
            events.push(EventKind::ConnectionRefused, "");
        }
        events.push(EventKind::AcceptFailed, "EMFILE");
        let counts: Vec<u64> = events.drain().iter().map(|event| event.count).collect();
        assert_eq!(counts, [3, 1]);
        assert!(events.drain().is_empty());
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let events = Events::default();
        for number in 0..EVENTS_MAX + 7 {
            events.push(EventKind::AcceptFailed, number.to_string());
        }
        let drained = events.drain();
        assert_eq!(drained.len(), EVENTS_MAX + 1);
        let last = drained.last().map(|event| (event.kind, event.count));
        assert_eq!(last, Some((EventKind::EventsDropped, 7)));
    }
}
