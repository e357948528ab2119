//! Sessions that the database has to be asked for: a bounded queue that wakes Python, and what
//! Python takes of it in one turn.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use watchword_core::cache::{ENDLESS, Fill, SessionFill, Ticket};
use watchword_core::{Id, PresentedSession, verifier_matches};

use crate::live_row::uuid_text;
use crate::message::Parts;
use crate::refusal::Refusal;
use crate::settings::{REFILLS_MAX, WAITING_MAX};
use crate::wake::Wake;

/// What one read says of a session, for those who wait for it.
pub(crate) struct Reading {
    /// None if it is not live, not there, or another secret's: the same for who asks.
    live: Option<Messages>,
    /// The database's time of the read.
    pub(crate) as_of: i64,
    /// When the turn began; microseconds since boot.
    pub(crate) began: i64,
}

struct Messages {
    auth_time: i64,
    session: Box<[u8]>,
    user: Box<[u8]>,
    roles: Box<[u8]>,
}

impl Reading {
    /// When the user of a live session last proved control of the address.
    pub(crate) fn auth_time(&self) -> i64 {
        self.live.as_ref().map_or(i64::MIN, |live| live.auth_time)
    }

    pub(crate) fn live(&self) -> Option<Parts<'_>> {
        self.live.as_ref().map(|messages| Parts {
            session: &messages.session,
            user: &messages.user,
            roles: &messages.roles,
        })
    }
}

/// What became of a session that was waited for.
#[derive(Clone)]
pub(crate) enum Outcome {
    Read(Arc<Reading>),
    Failed(Refusal),
}

struct Waiter {
    presented: PresentedSession,
    outcome: oneshot::Sender<Outcome>,
}

/// There is no room for so many.
#[derive(Debug)]
pub(crate) struct Full;

/// What waits for Python.
pub(crate) struct Misses {
    waiting: Mutex<VecDeque<Waiter>>,
    refills: Mutex<VecDeque<Id>>,
    wake: Wake,
}

impl Misses {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::default(),
            refills: Mutex::default(),
            wake: Wake::new()?,
        })
    }

    /// The eventfd that is readable when there is something to take.
    pub(crate) fn wake_fd(&self) -> i32 {
        self.wake.fd()
    }

    /// Queues sessions, all or none; each outcome comes in its place.
    pub(crate) fn push(
        &self,
        sessions: Vec<PresentedSession>,
    ) -> Result<Vec<oneshot::Receiver<Outcome>>, Full> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len().saturating_add(sessions.len()) > WAITING_MAX {
            return Err(Full);
        }
        let first = waiting.is_empty();
        let mut outcomes = Vec::with_capacity(sessions.len());
        for presented in sessions {
            let (outcome, receiver) = oneshot::channel();
            waiting.push_back(Waiter { presented, outcome });
            outcomes.push(receiver);
        }
        drop(waiting);
        if first {
            self.wake.wake();
        }
        Ok(outcomes)
    }

    /// Whether nobody more would be queued just now.
    pub(crate) fn is_full(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.len() >= WAITING_MAX
    }

    /// Queues a session to be read again before its entry is too old. Who finds no room is read
    /// when it is missed.
    pub(crate) fn push_refill(&self, session_id: Id) {
        let mut refills = self.refills.lock().unwrap_or_else(PoisonError::into_inner);
        if refills.len() < REFILLS_MAX {
            refills.push_back(session_id);
        }
    }

    /// Takes those who wait, of `most` sessions; None if nobody does. Who has gone is left out.
    pub(crate) fn take(&self, most: usize) -> Option<HashMap<Id, Waiters>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: HashMap<Id, Waiters> = HashMap::new();
        while let Some(next) = waiting.front() {
            if taken.len() >= most && !taken.contains_key(&next.presented.session_id) {
                break;
            }
            if let Some(waiter) = waiting.pop_front()
                && !waiter.outcome.is_closed()
            {
                let id = waiter.presented.session_id;
                taken.entry(id).or_default().0.push(waiter);
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes sessions to be read again, `most` at most; None if there are none.
    pub(crate) fn take_refills(&self, most: usize) -> Option<HashMap<Id, Waiters>> {
        let mut refills = self.refills.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refills.len().min(most);
        let taken = refills.drain(..count).map(|id| (id, Waiters::default()));
        let taken: HashMap<Id, Waiters> = taken.collect();
        (!taken.is_empty()).then_some(taken)
    }
}

/// Those who wait for one session; nobody for one that is only read again.
#[derive(Default)]
pub(crate) struct Waiters(Vec<Waiter>);

/// What Python reads with one statement: every session once, whoever waits for it. Whoever is not
/// told anything when it is dropped is told that the call failed.
pub struct Turn {
    /// None while nothing may be cached.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) began: i64,
    pub(crate) waiters: HashMap<Id, Waiters>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("sessions", &self.waiters.len())
            .finish_non_exhaustive()
    }
}

impl Turn {
    /// The sessions that were not found yet, each once, as text.
    pub fn session_ids(&self) -> impl Iterator<Item = [u8; 36]> {
        self.waiters.keys().map(uuid_text)
    }

    /// Takes the waiters of a session, those with its secret and the others.
    pub(crate) fn take(&mut self, session: &SessionFill<'_>, now: i64) -> (Waiters, Waiters) {
        let waiters = self.waiters.remove(&session.id).unwrap_or_default();
        let previous = session.previous.filter(|previous| now < previous.1);
        let (right, wrong) = waiters.0.into_iter().partition(|waiter| {
            let presented = &waiter.presented.verifier;
            verifier_matches(&session.verifier, presented)
                || previous.is_some_and(|previous| verifier_matches(&previous.0, presented))
        });
        (Waiters(right), Waiters(wrong))
    }

    /// What to tell of a session that was found live at `as_of`, a time of the database.
    pub(crate) fn found(&self, fill: &Fill<'_>, as_of: i64) -> Outcome {
        let messages = Messages {
            auth_time: fill.session.auth_time,
            session: fill.session.message.into(),
            user: fill.user.message.into(),
            roles: fill.user.roles.into(),
        };
        self.read(Some(messages), as_of)
    }

    /// What to tell of one that was not.
    pub(crate) fn not_found(&self, as_of: i64) -> Outcome {
        self.read(None, as_of)
    }

    /// The read is over: what it has not found is not live.
    pub(crate) fn end(&mut self, as_of: i64) {
        let not_found = self.not_found(as_of);
        for (_, waiters) in self.waiters.drain() {
            waiters.tell(&not_found);
        }
    }

    /// There was no read.
    pub fn fail(mut self, refusal: &Refusal) {
        for (_, waiters) in self.waiters.drain() {
            waiters.tell(&Outcome::Failed(refusal.clone()));
        }
    }

    fn read(&self, live: Option<Messages>, as_of: i64) -> Outcome {
        let began = self.began;
        Outcome::Read(Arc::new(Reading { live, as_of, began }))
    }
}

impl Waiters {
    /// Whether one of them uses the present secret of a session whose previous one has no end yet.
    pub(crate) fn use_first(&self, session: &SessionFill<'_>) -> bool {
        let presented =
            |waiter: &Waiter| verifier_matches(&session.verifier, &waiter.presented.verifier);
        session
            .previous
            .is_some_and(|previous| previous.1 == ENDLESS)
            && self.0.iter().any(presented)
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives each its outcome; who has gone meanwhile needs none.
    pub(crate) fn tell(self, outcome: &Outcome) {
        for waiter in self.0 {
            let _gone = waiter.outcome.send(outcome.clone());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn presented(session: u8, secret: u8) -> PresentedSession {
        PresentedSession {
            session_id: [session; 16],
            key_id: 1,
            verifier: [secret; 32],
        }
    }

    fn sizes(taken: Option<HashMap<Id, Waiters>>) -> Vec<(u8, usize)> {
        let mut sizes: Vec<(u8, usize)> = taken
            .into_iter()
            .flatten()
            .map(|(id, waiters)| (*id.first().unwrap(), waiters.0.len()))
            .collect();
        sizes.sort_unstable();
        sizes
    }

    /// Who waits for the same session is in one turn; what is over the turn waits for the next.
    #[test]
    fn a_turn_has_each_session_once() {
        let misses = Misses::new().unwrap();
        let sessions = [1, 2, 1, 3, 2].map(|session| presented(session, 0));
        let _waiting = misses.push(sessions.into()).unwrap();
        assert_eq!(sizes(misses.take(2)), [(1, 2), (2, 1)]);
        assert_eq!(sizes(misses.take(2)), [(2, 1), (3, 1)]);
        assert!(misses.take(2).is_none());
    }

    /// The first wakes Python, who then takes until there is nothing.
    #[test]
    fn the_first_wakes() {
        let misses = Misses::new().unwrap();
        assert!(!misses.wake.was_woken());
        let _one = misses.push(vec![presented(1, 0)]).unwrap();
        let _two = misses.push(vec![presented(2, 0)]).unwrap();
        assert!(misses.wake.was_woken());
        assert!(!misses.wake.was_woken());
        assert_eq!(sizes(misses.take(9)), [(1, 1), (2, 1)]);
        let _three = misses.push(vec![presented(3, 0)]).unwrap();
        assert!(misses.wake.was_woken());
    }

    /// A batch for which there is no room is refused as a whole, and takes none.
    #[test]
    fn a_full_queue_refuses() {
        let misses = Misses::new().unwrap();
        let all = vec![presented(1, 0); WAITING_MAX - 1];
        let _waiting = misses.push(all).unwrap();
        assert!(misses.push(vec![presented(2, 0); 2]).is_err());
        assert!(!misses.is_full());
        let _last = misses.push(vec![presented(3, 0)]).unwrap();
        assert!(misses.is_full());
        assert!(misses.push(vec![presented(4, 0)]).is_err());
        assert_eq!(sizes(misses.take(9)), [(1, WAITING_MAX - 1), (3, 1)]);
    }

    /// Who has gone is not asked for.
    #[test]
    fn who_has_gone_is_left_out() {
        let misses = Misses::new().unwrap();
        drop(misses.push(vec![presented(1, 0)]).unwrap());
        assert!(misses.take(9).is_none());
        drop(misses.push(vec![presented(1, 0)]).unwrap());
        let _waiting = misses.push(vec![presented(2, 0)]).unwrap();
        assert_eq!(sizes(misses.take(9)), [(2, 1)]);
    }

    /// Refills gather without waking anybody; there is no end to them, but a bound.
    #[test]
    fn refills_gather() {
        let misses = Misses::new().unwrap();
        for number in 0..=u8::MAX {
            misses.push_refill([number; 16]);
        }
        assert!(!misses.wake.was_woken());
        assert_eq!(misses.take_refills(200).unwrap().len(), 200);
        assert_eq!(misses.take_refills(200).unwrap().len(), 56);
        assert!(misses.take_refills(200).is_none());
        for _ in 0..=REFILLS_MAX {
            misses.push_refill([1; 16]);
        }
        assert_eq!(misses.refills.lock().unwrap().len(), REFILLS_MAX);
    }
}
