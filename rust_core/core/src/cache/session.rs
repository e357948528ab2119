//! What is known of one session.

use std::mem::size_of;

use super::table::{Keyed, allocated};
use super::user::User;
use super::{ENDLESS, MAX_AGE, REFILL_AFTER, REFILL_SPREAD, Token};
use crate::sync::{Arc, AtomicBool, AtomicI64, AtomicU64, Ordering};
use crate::{Id, Verifier, verifier_matches};

/// Hits note that a session was seen at most once in this time, so that a busy session's memory
/// stays shared between cores. Microseconds.
const SEEN_EVERY: i64 = 1_000_000;

pub(super) struct Entry {
    pub(super) id: Id,
    /// Second chance: set by whoever looks, taken back by the hand of the eviction.
    used: AtomicBool,
    /// None: dead for ever.
    pub(super) live: Option<Live>,
}

pub(super) struct Live {
    pub(super) verifier: Verifier,
    /// The tag with which the verifier's token came and was right; 0 for none yet.
    pub(super) tag: AtomicU64,
    pub(super) previous: Option<Box<(Verifier, i64)>>,
    pub(super) user: Arc<User>,
    pub(super) message: Box<[u8]>,
    pub(super) auth_time: i64,
    pub(super) expire: i64,
    pub(super) epoch: i64,
    /// The user's version under which the session was read.
    pub(super) version: i64,
    /// When that read began.
    pub(super) began: i64,
    pub(super) last_seen: AtomicI64,
    pub(super) reported: AtomicI64,
    /// Somebody was told to read it again.
    pub(super) refilling: AtomicBool,
    /// Somebody was told that its verifier is in use.
    pub(super) first_use_told: AtomicBool,
}

impl Entry {
    pub(super) fn new(id: Id, live: Option<Live>) -> Self {
        Self {
            id,
            used: AtomicBool::new(false),
            live,
        }
    }

    pub(super) fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the hand came by last.
    pub(super) fn take_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) && self.used.swap(false, Ordering::Relaxed)
    }

    /// Puts in what was read later; what only this replica knows stays: dead, seen, and the tag. What
    /// was reported does not: the read says what of it was stored, and the rest is reported again.
    pub(super) fn refill(&mut self, fresh: Live) {
        if let Some(had) = &self.live
            && (fresh.version, fresh.began) >= (had.version, had.began)
        {
            fresh
                .last_seen
                .fetch_max(had.last_seen.load(Ordering::Relaxed), Ordering::Relaxed);
            if verifier_matches(&fresh.verifier, &had.verifier) {
                let tag = had.tag.load(Ordering::Relaxed);
                fresh.tag.store(tag, Ordering::Relaxed);
            }
            self.live = Some(fresh);
        }
    }
}

impl Live {
    /// Compares in constant time with the verifier, and with the previous one until its end; what
    /// matches has to have the right tag, too.
    pub(super) fn accepts(&self, token: &Token<'_>, now: i64) -> bool {
        if verifier_matches(&self.verifier, token.verifier) {
            return self.has_right_tag(token);
        }
        let matches_previous = self.previous.as_ref().is_some_and(|previous| {
            now < previous.1 && verifier_matches(&previous.0, token.verifier)
        });
        matches_previous && (token.has_right_tag)()
    }

    /// Verifier and right tag together are the token that was right before: the MAC is not made again.
    fn has_right_tag(&self, token: &Token<'_>) -> bool {
        let tag = u64::from_ne_bytes(token.tag);
        if tag != 0 && self.tag.load(Ordering::Relaxed) == tag {
            return true;
        }
        let is_right = (token.has_right_tag)();
        if is_right {
            self.tag.store(tag, Ordering::Relaxed);
        }
        is_right
    }

    /// True for one caller, when the verifier is the present one and the previous one has no end yet.
    pub(super) fn is_first_use(&self, verifier: &Verifier) -> bool {
        let endless = |previous: &(Verifier, i64)| previous.1 == ENDLESS;
        self.previous.as_deref().is_some_and(endless)
            && verifier_matches(&self.verifier, verifier)
            && !self.first_use_told.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_young(&self, now: i64) -> bool {
        now.saturating_sub(self.began) < MAX_AGE
    }

    /// True for one caller, once the read is old enough to be made again.
    pub(super) fn wants_refill(&self, now: i64) -> bool {
        // A MAC of two random values: its bytes are as good as drawn.
        let [drawn, ..] = self.verifier;
        let own = REFILL_SPREAD
            .saturating_mul(drawn.into())
            .wrapping_shr(u8::BITS);
        now.saturating_sub(self.began) >= REFILL_AFTER.saturating_add(own)
            && !self.refilling.load(Ordering::Relaxed)
            && !self.refilling.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self, now: i64, idle: i64) -> bool {
        now >= self.last_seen.load(Ordering::Relaxed).saturating_add(idle)
    }

    /// Notes that the session was seen; true for one caller in each period: it is to be reported.
    pub(super) fn see(&self, now: i64, report_every: i64) -> bool {
        if now.saturating_sub(self.last_seen.load(Ordering::Relaxed)) >= SEEN_EVERY {
            self.last_seen.fetch_max(now, Ordering::Relaxed);
        }
        let reported = self.reported.load(Ordering::Relaxed);
        let (mine, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        now.saturating_sub(reported) >= report_every
            && self
                .reported
                .compare_exchange(reported, now, mine, failed)
                .is_ok()
    }
}

impl Keyed for Entry {
    fn id(&self) -> &Id {
        &self.id
    }

    fn payload(&self) -> usize {
        self.live.as_ref().map_or(0, |live| {
            let previous = live
                .previous
                .as_ref()
                .map_or(0, |_| size_of::<(Verifier, i64)>());
            allocated(live.message.len()).saturating_add(allocated(previous))
        })
    }
}
