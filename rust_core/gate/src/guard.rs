//! A defect in one call is that call's INTERNAL and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use hyper::Response;

use crate::body::{Body, Broken};
use crate::events::{EventKind, Events};
use crate::respond;

/// Awaits an answer; a panic becomes INTERNAL. What the panic says may hold a client's words and
/// stays out of the event.
pub(crate) async fn guarded(
    answer: impl Future<Output = Result<Response<Body>, Broken>>,
    events: &Events,
) -> Result<Response<Body>, Broken> {
    let mut answer = pin!(answer);
    // Nothing of a call that has panicked is looked at again.
    std::future::poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))).unwrap_or_else(|_| {
            events.push(EventKind::Panicked, "");
            Poll::Ready(Ok(respond::status(respond::INTERNAL)))
        })
    })
    .await
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used, reason = "this is what is tested")]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_internal_and_an_event() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let events = Events::default();
        let answer = runtime
            .block_on(guarded(async { panic!("a panic for a test") }, &events))
            .unwrap();
        assert_eq!(answer.headers().get("grpc-status").unwrap(), "13");
        let kinds: Vec<EventKind> = events.drain().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Panicked]);
    }
}
