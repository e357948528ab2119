//! What session checks are answered from: keys, callers, the cache and its lease.
//!
//! Python fills it and tells it of changes; the threads of the gate only read.

use std::collections::HashSet;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use watchword_core::cache::{Cache, Change, Fill, Hit, Lease, LookUp, Settings, Ticket};
use watchword_core::{Id, KeyRing, KnownChange, PresentedSession};

use crate::last_seen::Seen;
use crate::message::{self, Batch};

/// The keys of an installation, who may validate, and the sessions that are known.
pub struct Lane {
    keys: Arc<KeyRing>,
    /// SHA-256 of the service keys of callers that may validate, as the ring gives it. Secrets of
    /// 256 bits whose tags were checked: looking one up tells a guesser nothing.
    callers: HashSet<[u8; 32]>,
    cache: Cache,
    lease: Lease,
    seen: Seen,
}

/// When a check is answered; microseconds of the database's clock.
#[derive(Clone, Copy)]
struct Moment {
    now: i64,
    /// Everything that was committed before it is known.
    as_of: i64,
}

impl Lane {
    /// A lane without a lease: nothing is answered before the first poll.
    #[must_use]
    pub fn new(keys: Arc<KeyRing>, callers: Vec<[u8; 32]>, settings: Settings) -> Self {
        Self {
            keys,
            callers: callers.into_iter().collect(),
            cache: Cache::new(settings),
            lease: Lease::new(),
            seen: Seen::default(),
        }
    }

    /// Begins a miss, before the database is asked; None while there is no lease.
    #[must_use]
    pub fn begin_fill(&self) -> Option<Ticket> {
        let now = boottime_us();
        let time = self.lease.database_now(now)?;
        self.lease.good(now).then(|| self.cache.begin_fill(time))
    }

    /// Takes what was read since `ticket`; false if it is refused.
    pub fn fill(&self, ticket: Ticket, fill: &Fill<'_>) -> bool {
        self.lease
            .database_now(boottime_us())
            .is_some_and(|now| self.cache.fill(ticket, fill, now))
    }

    /// Applies a committed change.
    pub fn apply(&self, change: &Change) {
        match self.lease.database_now(boottime_us()) {
            Some(now) => self.cache.apply(change, now),
            // No lease was ever begun, so nothing was filled.
            None => self.cache.clear(),
        }
    }

    /// Empties the cache, fills under way as well, and ends the lease.
    pub fn clear(&self) {
        self.lease.end();
        self.cache.clear();
    }

    /// Begins the lease anew: microseconds of `CLOCK_BOOTTIME` at which the poll was sent, and the
    /// database's time that it read. Every change that it read has been applied.
    pub fn renew(&self, sent: i64, database_time: i64) {
        self.lease.renew(sent, database_time);
    }

    /// Takes the sessions that hits found to be reported, each with the database's time, and how
    /// many had no room.
    #[must_use]
    pub fn take_seen(&self) -> (Vec<(Id, i64)>, u64) {
        self.seen.take()
    }

    /// Bytes that the cache takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Whether a service key is that of a caller that may validate.
    pub(crate) fn may_validate(&self, credential: &str) -> bool {
        self.keys
            .parse_service_key(credential)
            .is_some_and(|digest| self.callers.contains(&digest))
    }

    /// Answers whose session a token is, knowing at least what the change token says; None where
    /// Python has to be asked.
    pub(crate) fn validate(&self, token: &str, min_change_token: Option<&str>) -> Option<Vec<u8>> {
        let changes = match min_change_token {
            Some(changes) => self.keys.parse_change_token(changes)?,
            None => Vec::new(),
        };
        self.of_session(token, |hit, as_of| {
            knows(hit, &changes).then(|| message::validated(hit, as_of))
        })
    }

    /// Answers what the user of a session may do; None where Python has to be asked.
    pub(crate) fn roles(&self, token: &str) -> Option<Vec<u8>> {
        self.of_session(token, |hit, as_of| Some(message::roles(hit, as_of)))
    }

    /// Answers for each token whose session it is; None where Python has to be asked for any.
    pub(crate) fn validate_batch(&self, tokens: &[&str]) -> Option<Vec<u8>> {
        self.within_lease(|moment| {
            let mut batch = Batch::new(tokens.len());
            for token in tokens {
                // A token that was not minted here is refused for ever, as is a dead session.
                let Some(presented) = self.keys.parse_session_token(token) else {
                    batch.refused();
                    continue;
                };
                match self.look_up(&presented, moment, |hit| batch.live(hit)) {
                    LookUp::Hit(()) => {}
                    LookUp::Dead => batch.refused(),
                    LookUp::Miss => return None,
                }
            }
            Some(batch.ended(moment.as_of))
        })
    }

    /// Looks one session up; `write` gets the hit and the answer's `as_of_time`.
    fn of_session<R>(
        &self,
        token: &str,
        write: impl FnOnce(&Hit<'_>, i64) -> Option<R>,
    ) -> Option<R> {
        let presented = self.keys.parse_session_token(token)?;
        self.within_lease(|moment| {
            match self.look_up(&presented, moment, |hit| write(hit, moment.as_of)) {
                LookUp::Hit(answer) => answer,
                LookUp::Dead | LookUp::Miss => None,
            }
        })
    }

    /// Looks a session up, and has a hit reported as seen when it is time for that.
    fn look_up<R>(
        &self,
        presented: &PresentedSession,
        moment: Moment,
        read: impl FnOnce(&Hit<'_>) -> R,
    ) -> LookUp<R> {
        let (id, verifier) = (&presented.session_id, &presented.verifier);
        let mut report = false;
        let found = self.cache.look_up(id, verifier, moment.now, |hit| {
            report = hit.report_last_seen;
            read(hit)
        });
        if report {
            self.seen.push(presented.session_id, moment.now);
        }
        found
    }

    /// Answers while the lease is good, which is looked at before and, as the last step, once more:
    /// this thread may have been stopped meanwhile.
    fn within_lease<R>(&self, answer: impl FnOnce(Moment) -> Option<R>) -> Option<R> {
        let asked = boottime_us();
        if !self.lease.good(asked) {
            return None;
        }
        let moment = Moment {
            as_of: self.lease.as_of()?,
            now: self.lease.database_now(asked)?,
        };
        answer(moment).filter(|_| self.lease.good(boottime_us()))
    }
}

/// Whether an answer has these changes in it; of any but the user's own this cache cannot say.
fn knows(hit: &Hit<'_>, changes: &[KnownChange]) -> bool {
    changes.iter().all(|change| {
        change.kind == KnownChange::USER
            && change.id == *hit.user_id
            && hit.version >= change.version
            && hit.epoch >= change.epoch
    })
}

/// Microseconds since boot; unlike the monotonic clock it goes on while the machine sleeps.
fn boottime_us() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec.checked_div(1_000).unwrap_or(0))
}
