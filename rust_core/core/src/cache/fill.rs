//! What a miss brings back.

use super::session::{Entry, Live};
use super::user::{Data, User};
use super::{Cache, Shard};
use crate::sync::{Arc, AtomicBool, AtomicI64, AtomicU64, Ordering, PoisonError};
use crate::{Id, Verifier};

/// Taken **before** the read whose result is to be filled.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    generation: u64,
    began: i64,
}

/// The user, as one statement read it together with the session.
#[derive(Clone, Copy, Debug)]
pub struct UserFill<'a> {
    /// The user's id.
    pub id: Id,
    /// The user's version in that read.
    pub version: i64,
    /// The user's epoch in that read.
    pub epoch: i64,
    /// When the first of the roles ends; `i64::MAX` if none does. Microseconds.
    pub end: i64,
    /// The encoded `User`.
    pub message: &'a [u8],
    /// The encoded `GetRolesResponse`.
    pub roles: &'a [u8],
}

/// The session, as that statement read it: live. Whose secret it is, is compared at each look-up.
#[derive(Clone, Copy, Debug)]
pub struct SessionFill<'a> {
    /// The session's id.
    pub id: Id,
    /// The stored verifier.
    pub verifier: Verifier,
    /// The previous verifier and its end, [`ENDLESS`](super::ENDLESS) until the present one is used.
    /// Microseconds.
    pub previous: Option<(Verifier, i64)>,
    /// When the user last proved control of the address. Microseconds.
    pub auth_time: i64,
    /// The absolute end. Microseconds.
    pub expire: i64,
    /// The session's epoch.
    pub epoch: i64,
    /// The stored last-seen. Microseconds.
    pub last_seen: i64,
    /// The encoded `Session`.
    pub message: &'a [u8],
}

/// A session that lives, and its user.
#[derive(Clone, Copy, Debug)]
pub struct Fill<'a> {
    /// Whose session it is.
    pub user: UserFill<'a>,
    /// The session.
    pub session: SessionFill<'a>,
}

impl Cache {
    /// Begins a miss: to be called before the database is asked.
    #[must_use]
    pub fn begin_fill(&self, now: i64) -> Ticket {
        Ticket {
            generation: self.generation.load(Ordering::Acquire),
            began: now,
        }
    }

    /// Takes what was read since `ticket`; false if it is refused, because something newer is known
    /// or may have been forgotten. The read's own answer stands all the same: it was true when it
    /// was read, and the caller may give it.
    ///
    /// A fill is no use of the session. Who answers a miss looks up again after an accepted fill,
    /// or sees to last-seen itself.
    pub fn fill(&self, ticket: Ticket, fill: &Fill<'_>, now: i64) -> bool {
        let Some(user) = self.fill_user(ticket, &fill.user, now) else {
            return false;
        };
        let session = &fill.session;
        let live = Live {
            verifier: session.verifier,
            tag: AtomicU64::new(0),
            previous: session.previous.map(Box::new),
            user,
            message: session.message.into(),
            auth_time: session.auth_time,
            expire: session.expire,
            epoch: session.epoch,
            version: fill.user.version,
            began: ticket.began,
            last_seen: AtomicI64::new(session.last_seen),
            reported: AtomicI64::new(session.last_seen),
            refilling: AtomicBool::new(false),
            first_use_told: AtomicBool::new(false),
        };
        let kept = self.keep(ticket, session.id, Some(live));
        self.make_room(now);
        kept
    }

    /// Remembers that a session is dead for ever: revoked, past its absolute end, or below the
    /// epoch. False if it is refused. Never to be called for an id that is not known: who invents
    /// ids would fill the cache.
    pub fn fill_dead(&self, ticket: Ticket, session_id: Id, now: i64) -> bool {
        let kept = self.keep(ticket, session_id, None);
        self.make_room(now);
        kept
    }

    fn fill_user(&self, ticket: Ticket, fill: &UserFill<'_>, now: i64) -> Option<Arc<User>> {
        let data = Data {
            generation: ticket.generation,
            began: ticket.began,
            end: fill.end,
            bytes: [fill.message, fill.roles].concat().into_boxed_slice(),
            user_size: fill.message.len(),
        };
        let hash = self.hasher.hash(&fill.id);
        self.with_users(self.shard_of(hash), |users| {
            // Under the lock: what empties the shard raises the generation first.
            if self.is_outdated(ticket) || ticket.began <= users.forgotten {
                return None;
            }
            if users.table.get(hash, &fill.id).is_none() {
                self.add_user(users, hash, fill.id, now);
            }
            let taken = users.table.update(hash, &fill.id, |user| {
                let taken = user.write().take(fill.version, fill.epoch, data);
                taken.then(|| Arc::clone(user))
            });
            taken.flatten()
        })
    }

    /// Puts a session in, or over the one that is there; None is a dead one.
    fn keep(&self, ticket: Ticket, id: Id, live: Option<Live>) -> bool {
        let hash = self.hasher.hash(&id);
        let Some(Shard(shard)) = self.sessions.get(self.shard_of(hash)) else {
            return false;
        };
        let mut table = shard.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_outdated(ticket) {
            return false;
        }
        let before = table.bytes();
        let kept = if table.get(hash, &id).is_some() {
            let put = |entry: &mut Entry| match live {
                Some(live) => entry.refill(live),
                None => entry.live = None,
            };
            table.update(hash, &id, put).is_some()
        } else {
            table.insert(hash, Entry::new(id, live))
        };
        self.count(before, table.bytes());
        kept
    }

    fn is_outdated(&self, ticket: Ticket) -> bool {
        self.generation.load(Ordering::Acquire) != ticket.generation
    }
}
