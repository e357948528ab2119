//! What session checks are answered from: keys, callers, the cache and its lease.
//!
//! Python fills it and tells it of changes; the threads of the gate only read.

use std::collections::HashSet;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use watchword_core::cache::{Cache, Change, Fill, Lease, LookUp, Settings, Ticket};
use watchword_core::{Id, KeyRing};

use crate::last_seen::Seen;

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

/// A hit, written as the answer of `ValidateSession`.
pub(crate) struct Answer(pub(crate) Vec<u8>);

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

    /// Answers whose session a token is; None where Python has to be asked.
    pub(crate) fn validate(&self, token: &str) -> Option<Answer> {
        let presented = self.keys.parse_session_token(token)?;
        let asked = boottime_us();
        if !self.lease.good(asked) {
            return None;
        }
        let as_of = self.lease.as_of()?;
        let now = self.lease.database_now(asked)?;
        let found = self
            .cache
            .look_up(&presented.session_id, &presented.verifier, now, |hit| {
                let answer = crate::validate::write_answer(hit.session, hit.user, as_of);
                (answer, hit.report_last_seen)
            });
        if let LookUp::Hit((_, true)) = found {
            self.seen.push(presented.session_id, now);
        }
        match found {
            // Once more, as the last step: this thread may have been stopped meanwhile.
            LookUp::Hit((answer, _)) if self.lease.good(boottime_us()) => Some(Answer(answer)),
            _ => None,
        }
    }
}

/// Microseconds since boot; unlike the monotonic clock it goes on while the machine sleeps.
fn boottime_us() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec.checked_div(1_000).unwrap_or(0))
}
