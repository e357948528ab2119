//! A defect in one call is that call's INTERNAL and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::events::{EventKind, Events};

/// Runs a part of a call; None, and an event, if it panics. Nothing of the call may be looked at
/// again then. What the panic says may hold a client's words and stays out of the event.
pub(crate) fn caught<R>(part: impl FnOnce() -> R, events: &Events) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(part));
    if result.is_err() {
        events.push(EventKind::Panicked, "");
    }
    result.ok()
}

#[cfg(test)]
#[allow(clippy::panic, reason = "this is what is tested")]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_event() {
        let events = Events::default();
        assert_eq!(caught(|| 7, &events), Some(7));
        assert_eq!(caught(|| panic!("a panic for a test"), &events), None::<()>);
        let kinds: Vec<EventKind> = events.drain().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Panicked]);
    }
}
