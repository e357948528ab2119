//! Whose session is this, from memory.
//!
//! The cache says yes; it says no only where a no is for ever ([`LookUp::Dead`]); everything else
//! is a miss, and the database decides. It never says yes to what a change that was applied here
//! made false: when [`Cache::apply`] has returned, no look-up that begins afterwards does.
//!
//! Two levels: session id -> [session](session::Entry) -> [user](user::User). A user has two
//! floors, the newest version and epoch that this replica knows of, from a change or from a read.
//! A session is hit only if it was read at that version and has that epoch, so a change raises two
//! numbers and touches no session.
//!
//! A miss takes a [`Ticket`], reads, and fills. What it read is refused if it is below the floors.
//! Floors of users without sessions are dropped after a while; the shard then remembers when the
//! last of their changes was applied, and a read that began earlier is refused.
//!
//! Locks, in this order: shard of users or shard of sessions, never both; then one user. A look-up
//! takes two of them for reading and allocates nothing.
//!
//! Times are microseconds of the database's clock, and arguments. None may be smaller than one that
//! was given out before it ([`Lease::database_now`] sees to that).

mod change;
mod fill;
mod lease;
mod room;
mod session;
mod table;
mod user;

use std::fmt;

pub use change::Change;
pub use fill::{Fill, SessionFill, Ticket, UserFill};
pub use lease::{LEASE, Lease, TICK};

use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, RwLock};
use crate::{Id, Tag, Verifier};
use session::{Entry, Live};
use table::{Hasher, Table};
use user::User;

/// How long an answer may come from one read: 60 s. Microseconds.
pub const MAX_AGE: i64 = 60_000_000;

/// From this age of the read on, or up to [`REFILL_SPREAD`] later, a hit asks for it to be made
/// again: 24 s. Microseconds.
pub const REFILL_AFTER: i64 = 24_000_000;

/// Each session has a moment of its own within this time, so that those who were read together are
/// not read together for ever, nor all of them at once the first time: 33 s. Microseconds.
pub const REFILL_SPREAD: i64 = 33_000_000;

/// Default of [`Settings::report_every`]: 10 minutes. Microseconds.
pub const REPORT_EVERY: i64 = 600_000_000;

/// Default of [`Settings::floor_kept`]: 60 s. Microseconds.
pub const FLOOR_KEPT: i64 = 60_000_000;

/// The end of a previous verifier whose successor was not used yet.
pub const ENDLESS: i64 = i64::MAX;

/// Default of [`Settings::shards`].
pub const SHARDS: usize = 256;

/// The numbers of a cache; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What sessions, users and tables may take together. One fill at a time may be above it.
    pub bytes_max: usize,
    /// A session that was not seen for so long is a miss.
    pub idle: i64,
    /// A hit asks for a report of its session's last-seen when there was none for so long; choose
    /// it well below `idle`, since other replicas know no more than what is reported.
    pub report_every: i64,
    /// How long the floors of a user without sessions are kept: longer than reads take, since a
    /// read that is older than what was dropped is refused.
    pub floor_kept: i64,
    /// Shards of sessions, and of users; rounded up to a power of two.
    pub shards: usize,
}

impl Settings {
    /// The defaults for a cache of so many bytes and sessions with this idle lifetime.
    #[must_use]
    pub fn new(bytes_max: usize, idle: i64) -> Self {
        let (report_every, floor_kept, shards) = (REPORT_EVERY, FLOOR_KEPT, SHARDS);
        Self {
            bytes_max,
            idle,
            report_every,
            floor_kept,
            shards,
        }
    }
}

/// What a session's holder presents.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    /// The session's id.
    pub session_id: &'a Id,
    /// What its secret makes.
    pub verifier: &'a Verifier,
    /// Its tag, right or not.
    pub tag: Tag,
    /// Says whether the tag is right; asked of a token with the right verifier, unless it came with
    /// this tag before.
    pub has_right_tag: &'a dyn Fn() -> bool,
}

/// What a session's holder is told; borrowed from the cache while the reader runs.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// The encoded `Session`, as it was filled.
    pub session: &'a [u8],
    /// The encoded `User`, as it was filled.
    pub user: &'a [u8],
    /// The encoded `GetRolesResponse`, as it was filled.
    pub roles: &'a [u8],
    /// Whose session it is.
    pub user_id: &'a Id,
    /// When the user last proved control of the address.
    pub auth_time: i64,
    /// The user's version up to which this answer is true; of use with `min_change_token`.
    pub version: i64,
    /// The user's epoch, likewise.
    pub epoch: i64,
    /// The caller must report this session's last-seen, which is now: nobody else was told to.
    pub report_last_seen: bool,
    /// The caller must report at once that the present verifier is in use: nobody else was told to.
    pub first_use: bool,
    /// The caller should have the session read again, before its entry is too old to be used:
    /// nobody else was told to.
    pub refill: bool,
}

/// What the cache knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUp<R> {
    /// It is good; with what the reader made of the hit.
    Hit(R),
    /// It is dead for ever: revoked, past its absolute end, or below the user's epoch.
    Dead,
    /// The database decides.
    Miss,
}

/// A shard on cache lines of its own (prefetching takes two), so that locks do not share one.
#[repr(align(128))]
struct Shard<T>(T);

struct Users {
    table: Table<Arc<User>>,
    /// When the last change was applied whose floors were dropped.
    forgotten: i64,
}

/// Sessions and users by id, bounded by bytes; to be shared by reference between threads.
pub struct Cache {
    settings: Settings,
    hasher: Hasher,
    /// Raised by a change of a role, which makes every user's data old, and when all is emptied.
    generation: AtomicU64,
    applied: Mutex<change::Applied>,
    sessions: Box<[Shard<RwLock<Table<Entry>>>]>,
    users: Box<[Shard<Mutex<Users>>]>,
    bytes: AtomicUsize,
    /// The shard from which the next eviction takes.
    cursor: AtomicUsize,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let hasher = Hasher::new();
        // A table knows each size below 2^32, a shard's number is 16 bits of the hash.
        let shards = settings.shards.clamp(1, 1 << 16).next_power_of_two();
        let sessions = || Shard(RwLock::new(Table::new(hasher.clone())));
        let users = || {
            let table = Table::new(hasher.clone());
            Shard(Mutex::new(Users {
                table,
                forgotten: i64::MIN,
            }))
        };
        Self {
            settings,
            generation: AtomicU64::new(0),
            applied: Mutex::new(change::Applied::new()),
            sessions: (0..shards).map(|_| sessions()).collect(),
            users: (0..shards).map(|_| users()).collect(),
            bytes: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            hasher,
        }
    }

    /// Looks a session up; `read` is called with what is there, and must neither wait nor use the
    /// cache, since locks are held meanwhile: it copies into the answer, and nothing else.
    ///
    /// A verifier that is not the session's is a miss: it may be one that this replica has not
    /// heard of. So is a wrong tag. A dead session is dead whatever is presented, so nothing is kept
    /// to compare with.
    pub fn look_up<R>(
        &self,
        token: &Token<'_>,
        now: i64,
        read: impl FnOnce(&Hit<'_>) -> R,
    ) -> LookUp<R> {
        let Token {
            session_id,
            verifier,
            ..
        } = *token;
        let hash = self.hasher.hash(session_id);
        let Some(Shard(shard)) = self.sessions.get(self.shard_of(hash)) else {
            return LookUp::Miss;
        };
        // A lock is poisoned by a panic in the middle of a change: nothing there is believed.
        let Ok(table) = shard.read() else {
            return LookUp::Miss;
        };
        let Some(entry) = table.get(hash, session_id) else {
            return LookUp::Miss;
        };
        let Some(live) = &entry.live else {
            entry.mark_used();
            return LookUp::Dead;
        };
        if !live.accepts(token, now) {
            return LookUp::Miss;
        }
        // Not for whoever knows no more than the id: what is used is not dropped.
        entry.mark_used();
        self.judge(live, verifier, now, read)
    }

    /// The bytes that are taken: tables with their room to grow, sessions, users and what they
    /// hold, with the allocator's share estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What holds of a session whose verifier was right.
    fn judge<R>(
        &self,
        live: &Live,
        verifier: &Verifier,
        now: i64,
        read: impl FnOnce(&Hit<'_>) -> R,
    ) -> LookUp<R> {
        if now >= live.expire {
            return LookUp::Dead;
        }
        let Ok(state) = live.user.state.read() else {
            return LookUp::Miss;
        };
        if live.epoch < state.epoch {
            return LookUp::Dead;
        }
        let fresh = live.version >= state.version && live.is_young(now);
        if !fresh || live.is_idle(now, self.settings.idle) {
            return LookUp::Miss;
        }
        let Some(data) = state.data(self.generation.load(Ordering::Acquire), now) else {
            return LookUp::Miss;
        };
        let Some((user, roles)) = data.bytes.split_at_checked(data.user_size) else {
            return LookUp::Miss;
        };
        LookUp::Hit(read(&Hit {
            session: &live.message,
            user,
            roles,
            user_id: &live.user.id,
            auth_time: live.auth_time,
            version: state.version,
            epoch: state.epoch,
            report_last_seen: live.see(now, self.settings.report_every),
            first_use: live.is_first_use(verifier),
            refill: live.wants_refill(now),
        }))
    }

    /// Tables use the low bits and the highest seven; these are between.
    fn shard_of(&self, hash: u64) -> usize {
        let [_, _, high, low, ..] = hash.to_be_bytes();
        usize::from(u16::from_be_bytes([high, low])) & self.sessions.len().wrapping_sub(1)
    }
}
