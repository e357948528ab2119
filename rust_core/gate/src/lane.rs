//! What session checks are answered from: keys, callers, the cache and its lease, and the queue of
//! what Python has to read.
//!
//! Python fills it and tells it of changes; the threads of the gate only read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use rustix::time::{ClockId, clock_gettime};
use watchword_core::cache::{Cache, Change, Fill, Hit, LEASE, Lease, LookUp, Settings, Token};
use watchword_core::{Id, KeyRing, PresentedSession, ReadSession, Verifier};

use crate::callers::{Callers, Digest};
use crate::credential::LastCredential;
use crate::live_row::{Row, Unreadable};
use crate::misses::{Misses, Outcome, Reading, Turn, Waiters};
use crate::refusal::{Refusal, Refusals};
use crate::reports::Reports;

/// What a lane is told besides the keys.
pub struct LaneSettings {
    /// SHA-256 of each service key, as the ring gives it, and whether its caller may validate.
    /// Secrets of 256 bits whose tags were checked: looking one up tells a guesser nothing.
    pub callers: HashMap<Digest, bool>,
    /// What is answered where nothing has to be asked.
    pub refusals: Refusals,
    /// The numbers of the cache.
    pub cache: Settings,
}

/// The keys of an installation, who may validate, and the sessions that are known.
pub struct Lane {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) refusals: Refusals,
    pub(crate) misses: Misses,
    callers: Callers,
    report_every: i64,
    cache: Cache,
    lease: Lease,
    seen: Reports<(Id, i64)>,
    first_uses: Reports<(Id, Verifier)>,
}

/// When a check is answered; microseconds of the database's clock.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    now: i64,
    /// Everything that was committed before it is known.
    pub(crate) as_of: i64,
}

impl Moment {
    pub(crate) fn now(self) -> i64 {
        self.now
    }
}

impl Lane {
    /// A lane without a lease: everything is a miss before the first poll.
    ///
    /// # Errors
    /// When there is no descriptor left for the queue of misses.
    pub fn new(keys: Arc<KeyRing>, settings: LaneSettings) -> io::Result<Self> {
        Ok(Self {
            keys,
            refusals: settings.refusals,
            misses: Misses::new()?,
            callers: Callers::new(settings.callers),
            report_every: settings.cache.report_every,
            cache: Cache::new(settings.cache),
            lease: Lease::new(),
            seen: Reports::default(),
            first_uses: Reports::default(),
        })
    }

    /// The eventfd that is readable when [`Lane::take_misses`] has something.
    #[must_use]
    pub fn wake_fd(&self) -> i32 {
        self.misses.wake_fd()
    }

    /// Takes what waits, `most` sessions of it, before the database is asked for them; None if
    /// nothing does.
    #[must_use]
    pub fn take_misses(&self, most: usize) -> Option<Turn> {
        self.misses.take(most).map(|waiters| self.turn(waiters))
    }

    /// Takes sessions that are to be read again before they are too old, likewise.
    #[must_use]
    pub fn take_refills(&self, most: usize) -> Option<Turn> {
        let waiters = self.misses.take_refills(most)?;
        Some(self.turn(waiters))
    }

    /// Takes the rows that a turn's statement read (`live_row.rs`), tells all who wait and ends the
    /// turn.
    ///
    /// # Errors
    /// For a row that cannot be read: the turn is as it was, but for the sessions before that row.
    pub fn take_rows(&self, turn: &mut Turn, rows: &[&[u8]]) -> Result<(), Unreadable> {
        let mut as_of = None;
        for row in rows {
            let row = Row::read(row)?;
            as_of = Some(row.as_of);
            if let Some(live) = &row.live {
                self.found(turn, live.fill(), row.as_of);
            }
        }
        turn.end(as_of.ok_or(Unreadable)?);
        Ok(())
    }

    /// Takes a live session that was read at `as_of`, a time of the database: caches it, and tells
    /// those who wait for it.
    fn found(&self, turn: &mut Turn, mut fill: Fill<'_>, as_of: i64) {
        let (right, wrong) = turn.take(&fill.session, as_of);
        if right.use_first(&fill.session) {
            self.first_uses
                .push((fill.session.id, fill.session.verifier));
        }
        if !right.are_none() && as_of.saturating_sub(fill.session.last_seen) >= self.report_every {
            self.seen.push((fill.session.id, as_of));
            // The cache does not report the same use again.
            fill.session.last_seen = as_of;
        }
        // Before anybody is told: who asks again then finds it.
        if let (Some(ticket), Some(now)) = (turn.ticket, self.lease.database_now(boottime_us())) {
            let _refused = self.cache.fill(ticket, &fill, now);
        }
        if !right.are_none() {
            right.tell(&turn.found(&fill, as_of));
        }
        if !wrong.are_none() {
            wrong.tell(&turn.not_found(as_of));
        }
    }

    /// Applies a committed change.
    pub fn apply(&self, change: &Change) {
        match self.lease.database_now(boottime_us()) {
            Some(now) => self.cache.apply(change, now),
            // Without a time nothing can have been filled.
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

    /// Takes the sessions that checks found to be reported, each with the database's time, and how
    /// many had no room.
    #[must_use]
    pub fn take_seen(&self) -> (Vec<(Id, i64)>, u64) {
        self.seen.take()
    }

    /// Takes the sessions whose newest secret came into use, with its verifier, and how many had no
    /// room.
    #[must_use]
    pub fn take_first_uses(&self) -> (Vec<(Id, Verifier)>, u64) {
        self.first_uses.take()
    }

    /// Bytes that the cache takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Whether the caller may validate; None without exactly one credential, that of a caller.
    /// `last` is the connection's.
    pub(crate) fn may_validate(&self, headers: &HeaderMap, last: &LastCredential) -> Option<bool> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (only, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (scheme, credential) = only.to_str().ok()?.split_once(' ')?;
        // RFC 9110, 11.1: the scheme's case does not matter.
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let read = || self.keys.parse_service_key(credential);
        let digest = last.digest(credential.as_bytes(), read)?;
        self.callers.may_validate(&digest, boottime_us)
    }

    /// Takes the callers of stored keys, as they were read by a statement that was sent at `sent`,
    /// in microseconds since boot. They are good for as long as the lease.
    pub fn replace_callers(&self, callers: HashMap<Digest, bool>, sent: i64) {
        self.callers.replace(callers, sent.saturating_add(LEASE));
    }

    /// Takes the stored keys that calls came with.
    #[must_use]
    pub fn take_used_callers(&self) -> Vec<Digest> {
        self.callers.take_used()
    }

    /// Answers while the lease is good, which is looked at before and, as the last step, once more:
    /// this thread may have been stopped meanwhile.
    pub(crate) fn within_lease<R>(&self, answer: impl FnOnce(Moment) -> Option<R>) -> Option<R> {
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

    /// Looks a session up; has a hit reported as seen, and read again, when it is time for that.
    /// A miss has a right tag: a token with a wrong one is that of no session.
    pub(crate) fn look_up<R>(
        &self,
        token: &ReadSession,
        moment: Moment,
        read: impl FnOnce(&Hit<'_>) -> R,
    ) -> LookUp<R> {
        let PresentedSession {
            session_id,
            verifier,
            ..
        } = token.presented();
        let asked = Token {
            session_id,
            verifier,
            tag: token.tag(),
            has_right_tag: &|| self.keys.has_right_tag(token),
        };
        let (mut report, mut first_use, mut refill) = (false, false, false);
        let found = self.cache.look_up(&asked, moment.now, |hit| {
            (report, first_use, refill) = (hit.report_last_seen, hit.first_use, hit.refill);
            read(hit)
        });
        if report {
            self.seen.push((*session_id, moment.now));
        }
        if first_use {
            self.first_uses.push((*session_id, *verifier));
        }
        if refill {
            self.misses.push_refill(*session_id);
        }
        match found {
            LookUp::Miss if !self.keys.has_right_tag(token) => LookUp::Dead,
            found => found,
        }
    }

    /// Has the database asked for sessions; of each, in its place, what was read. No reading is
    /// older than the lease: whatever stopped this process meanwhile.
    pub(crate) async fn read(
        &self,
        sessions: &[PresentedSession],
    ) -> Result<Vec<Arc<Reading>>, Refusal> {
        loop {
            let outcomes = self
                .misses
                .push(sessions.to_vec())
                .map_err(|_full| self.refusals.overloaded.clone())?;
            let mut readings = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                match outcome.await {
                    Ok(Outcome::Read(reading)) => readings.push(reading),
                    Ok(Outcome::Failed(refusal)) => return Err(refusal),
                    // The turn ended without a word.
                    Err(_) => return Err(self.refusals.unavailable.clone()),
                }
            }
            if readings.iter().all(|reading| is_young(reading)) {
                return Ok(readings);
            }
        }
    }

    /// To be called before the database is asked.
    fn turn(&self, waiters: HashMap<Id, Waiters>) -> Turn {
        let began = boottime_us();
        let time = self.lease.database_now(began);
        let ticket = time.filter(|_| self.lease.good(began));
        Turn {
            ticket: ticket.map(|time| self.cache.begin_fill(time)),
            began,
            waiters,
        }
    }
}

/// Whether a reading is no older than the lease.
pub(crate) fn is_young(reading: &Reading) -> bool {
    boottime_us().saturating_sub(reading.began) <= LEASE
}

/// Microseconds since boot; unlike the monotonic clock it goes on while the machine sleeps.
fn boottime_us() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec.checked_div(1_000).unwrap_or(0))
}

#[cfg(test)]
mod tests;
