//! How many calls Python has at once: more than it gets done would only wait there, in front of
//! everything that sheds, until their time is over.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::settings::{CALLS_MAX, CANCEL_HOLD, STRANGERS_CALLS_MAX};

/// Room for the calls of callers, and a smaller one for those of everybody else, who cannot take
/// the callers' away.
pub(crate) struct Room {
    callers: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// The place of one call until Python has ended it.
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            callers: Arc::new(Semaphore::new(CALLS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_CALLS_MAX)),
        }
    }

    /// Gives a place, None if there is none.
    pub(crate) fn enter(&self, is_caller: bool) -> Option<Place> {
        let room = if is_caller {
            &self.callers
        } else {
            &self.strangers
        };
        let permit = Arc::clone(room).try_acquire_owned().ok()?;
        Some(Place {
            permit: Some(permit),
        })
    }
}

impl Place {
    /// Python has ended the call.
    pub(crate) fn leave(mut self) {
        self.permit = None;
    }
}

impl Drop for Place {
    /// Nothing says when a call that was given up has ended in grpc.aio; until it has, it costs what any
    /// other does (CVE-2023-44487). So its place is taken for a while that is enough for that as
    /// long as the event loop turns.
    fn drop(&mut self) {
        if let (Some(permit), Ok(runtime)) = (self.permit.take(), Handle::try_current()) {
            runtime.spawn(async move {
                sleep(CANCEL_HOLD).await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Callers and strangers have rooms of their own, each of its size.
    #[tokio::test]
    async fn rooms_are_bounded_and_apart() {
        let room = Room::new();
        for (is_caller, size) in [(false, STRANGERS_CALLS_MAX), (true, CALLS_MAX)] {
            let mut places: Vec<Place> = (0..size).map_while(|_| room.enter(is_caller)).collect();
            assert_eq!(places.len(), size);
            assert!(room.enter(is_caller).is_none());
            places.pop().unwrap().leave();
            assert!(room.enter(is_caller).is_some());
        }
    }

    /// A call that was given up keeps its place for a while.
    #[tokio::test]
    async fn a_call_given_up_leaves_later() {
        let room = Room::new();
        let places: Vec<Place> = (0..CALLS_MAX).map_while(|_| room.enter(true)).collect();
        drop(places);
        assert!(room.enter(true).is_none());
        sleep(CANCEL_HOLD * 2).await;
        assert!(room.enter(true).is_some());
    }
}
