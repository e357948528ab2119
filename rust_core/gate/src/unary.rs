//! Calls that Python answers, handed over without grpc.aio: one message each way, a queue that
//! wakes the event loop, and an answer by channel.
//!
//! A call has its place ([`Place`]) until Python has ended it, whether or not its client still
//! waits; Python is told of those whose clients have gone.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{AUTHORIZATION, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::intake::Intake;
use crate::refusal::Refusal;
use crate::request::{PREFIX_BYTES, message_of};
use crate::room::Place;
use crate::wake::Wake;
use crate::{headers, message, respond};

/// The longest request that is handed over: longer ones than any of Watchword's are grpc.aio's to
/// judge.
pub(crate) const HANDED_OVER_BYTES: usize = 8 * 1024;

/// The queue of a listener.
pub struct UnaryCalls {
    methods: HashMap<String, usize>,
    waiting: Mutex<VecDeque<UnaryCall>>,
    given_up: Mutex<Vec<u64>>,
    numbers: AtomicU64,
    wake: Wake,
}

/// One call. Dropped without an answer it is INTERNAL.
pub struct UnaryCall {
    number: u64,
    method: usize,
    /// With its prefix.
    body: Bytes,
    authorization: HeaderValue,
    end: Option<Instant>,
    answer: oneshot::Sender<Answer>,
    place: Place,
}

enum Answer {
    Message(Bytes),
    Refused(Refusal),
}

/// What a call asks.
pub(crate) struct Question {
    method: usize,
    body: Bytes,
    authorization: HeaderValue,
    /// When its client stops waiting.
    end: Option<Instant>,
}

impl UnaryCalls {
    /// A queue for these methods, `package.Service/Method`; a call says which by its place.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn new(methods: Vec<String>) -> io::Result<Self> {
        let named = methods.into_iter().map(|name| format!("/{name}"));
        Ok(Self {
            methods: named.zip(0..).collect(),
            waiting: Mutex::default(),
            given_up: Mutex::default(),
            numbers: AtomicU64::new(0),
            wake: Wake::new()?,
        })
    }

    /// The eventfd that is readable when there is something to take.
    #[must_use]
    pub fn wake_fd(&self) -> i32 {
        self.wake.fd()
    }

    /// Takes the call that has waited longest; None if there is none.
    #[must_use]
    pub fn take(&self) -> Option<UnaryCall> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }

    /// Takes the numbers of calls that were taken and whose clients have gone.
    #[must_use]
    pub fn take_given_up(&self) -> Vec<u64> {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut given_up)
    }

    /// Reads what a request of a caller's asks; None where grpc.aio has to look at it.
    pub(crate) fn question(&self, intake: &Intake, began: Instant) -> Option<Question> {
        let body = intake.whole()?;
        message_of(body)?;
        let headers = intake.headers();
        let end = match headers::timeout(headers) {
            Some(given) => began.checked_add(given),
            None if headers.contains_key(headers::GRPC_TIMEOUT) => return None,
            None => None,
        };
        Some(Question {
            method: *self.methods.get(intake.path())?,
            body: body.clone(),
            authorization: headers.get(AUTHORIZATION)?.clone(),
            end,
        })
    }

    /// Has Python answer. Dropping this gives the call up.
    pub(crate) async fn ask(&self, question: Question, place: Place) -> Response<Body> {
        let (answer, answered) = oneshot::channel();
        let (number, end) = (self.numbers.fetch_add(1, Ordering::Relaxed), question.end);
        let mut waits = Waits {
            calls: self,
            number,
            over: false,
        };
        self.push(UnaryCall {
            number,
            method: question.method,
            body: question.body,
            authorization: question.authorization,
            end,
            answer,
            place,
        });
        let answered = match end {
            None => answered.await,
            Some(end) => match timeout_at(end, answered).await {
                Ok(answered) => answered,
                Err(_late) => return respond::status(respond::DEADLINE_EXCEEDED),
            },
        };
        waits.over = true;
        match answered {
            Ok(Answer::Message(message)) => respond::message(message),
            Ok(Answer::Refused(refusal)) => respond::refused(&refusal),
            Err(_dropped) => respond::status(respond::INTERNAL),
        }
    }

    fn push(&self, call: UnaryCall) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let first = waiting.is_empty();
        waiting.push_back(call);
        drop(waiting);
        if first {
            self.wake.wake();
        }
    }

    fn give_up(&self, number: u64) {
        if let Some(call) = self.take_back(number) {
            call.place.leave();
            return;
        }
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let first = given_up.is_empty();
        given_up.push(number);
        drop(given_up);
        if first {
            self.wake.wake();
        }
    }

    fn take_back(&self, number: u64) -> Option<UnaryCall> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|call| call.number == number)?;
        waiting.remove(at)
    }
}

impl fmt::Debug for UnaryCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnaryCalls").finish_non_exhaustive()
    }
}

/// A client that waits; when it goes first, Python is told.
struct Waits<'a> {
    calls: &'a UnaryCalls,
    number: u64,
    over: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.calls.give_up(self.number);
        }
    }
}

impl UnaryCall {
    /// What the call is called when it is given up.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The place of its method among those of the queue.
    #[must_use]
    pub fn method(&self) -> usize {
        self.method
    }

    /// The encoded request.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.body.get(PREFIX_BYTES..).unwrap_or_default()
    }

    /// The one `authorization` header, that of a caller.
    #[must_use]
    pub fn authorization(&self) -> &str {
        self.authorization.to_str().unwrap_or_default()
    }

    /// How long its client goes on waiting; None for ever.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.end
            .map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Answers OK with an encoded message.
    pub fn end(self, message: &[u8]) {
        self.tell(Answer::Message(message::framed(message).into()));
    }

    /// Answers with another status.
    pub fn fail(self, refusal: Refusal) {
        self.tell(Answer::Refused(refusal));
    }

    fn tell(self, answer: Answer) {
        self.place.leave();
        // A client that has gone needs none.
        let _gone = self.answer.send(answer);
    }
}

impl fmt::Debug for UnaryCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnaryCall")
            .field("number", &self.number)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::pin::pin;

    use tokio::time::sleep;

    use super::*;
    use crate::room::Room;
    use crate::settings::CALLS_MAX;

    fn question(end: Option<Instant>) -> Question {
        Question {
            method: 1,
            body: Bytes::from_static(b"\0\0\0\0\x02hi"),
            authorization: HeaderValue::from_static("Bearer x"),
            end,
        }
    }

    fn code(answer: &Response<Body>) -> Option<&str> {
        answer.headers().get("grpc-status")?.to_str().ok()
    }

    /// A room with one place left, and all others.
    fn almost_full() -> (Room, Vec<Place>) {
        let room = Room::new();
        let places = (1..CALLS_MAX).map_while(|_| room.enter(true)).collect();
        (room, places)
    }

    /// What was asked is what is taken, and the first wakes; each end is its client's.
    #[tokio::test]
    async fn every_end_is_the_clients() {
        let calls = UnaryCalls::new(vec!["a.B/C".to_owned(), "a.B/D".to_owned()]).unwrap();
        let room = Room::new();
        let end = Instant::now() + Duration::from_secs(60);
        let asked = || calls.ask(question(Some(end)), room.enter(true).unwrap());
        let answers = async { tokio::join!(asked(), asked(), asked()) };
        let python = async {
            let taken: Vec<UnaryCall> = std::iter::from_fn(|| calls.take()).collect();
            assert!(calls.wake.was_woken());
            let [first, second, third] = taken.try_into().unwrap();
            assert_eq!((first.method(), first.message()), (1, &b"hi"[..]));
            assert_eq!(first.authorization(), "Bearer x");
            let left = first.time_left().unwrap();
            assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60));
            first.end(b"answer");
            second.fail(Refusal::new(5, "none", b""));
            drop(third);
        };
        let ((first, second, third), ()) = tokio::join!(answers, python);
        assert_eq!((first.status().as_u16(), code(&first)), (200, None));
        assert_eq!((code(&second), code(&third)), (Some("5"), Some("13")));
        assert!(calls.take_given_up().is_empty());
    }

    /// A call that its client gives up before it is taken is not taken, and leaves its place at once.
    #[tokio::test]
    async fn given_up_before_it_is_taken() {
        let calls = UnaryCalls::new(Vec::new()).unwrap();
        let (room, _places) = almost_full();
        let place = room.enter(true).unwrap();
        let end = Instant::now() + Duration::from_millis(10);
        let late = calls.ask(question(Some(end)), place).await;
        assert_eq!(code(&late), Some("4"));
        assert!(calls.take().is_none());
        assert!(calls.take_given_up().is_empty());
        assert!(room.enter(true).is_some());
    }

    /// One that was taken is told to Python, which has it until it ends it.
    #[tokio::test]
    async fn given_up_after_it_was_taken() {
        let calls = UnaryCalls::new(Vec::new()).unwrap();
        let (room, _places) = almost_full();
        let place = room.enter(true).unwrap();
        let taken = {
            let mut asked = pin!(calls.ask(question(None), place));
            tokio::select! {
                biased;
                _ = asked.as_mut() => None,
                () = sleep(Duration::ZERO) => calls.take(),
            }
        };
        let taken = taken.unwrap();
        assert_eq!(taken.time_left(), None);
        assert_eq!(calls.take_given_up(), [taken.number()]);
        assert!(calls.take_given_up().is_empty());
        assert!(room.enter(true).is_none());
        taken.end(b"");
        assert!(room.enter(true).is_some());
    }
}
