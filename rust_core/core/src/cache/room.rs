//! How the cache stays within its bytes.

use super::user::User;
use super::{Cache, Shard, Users};
use crate::Id;
use crate::sync::{Arc, Ordering, PoisonError};

/// Sessions that the hand passes over in one turn because they were used.
const CHANCES: usize = 32;

/// Users that are looked at for each one that is added, and in each turn of the eviction.
const SWEPT: usize = 4;

impl Cache {
    /// Works on a shard of users, and counts what its size has become.
    pub(super) fn with_users<R: Default>(
        &self,
        shard: usize,
        work: impl FnOnce(&mut Users) -> R,
    ) -> R {
        let Some(Shard(shard)) = self.users.get(shard) else {
            return R::default();
        };
        // Nothing that runs under this lock can panic, so it is never poisoned half-way.
        let mut users = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = users.table.bytes();
        let result = work(&mut users);
        self.count(before, users.table.bytes());
        result
    }

    /// Adds a user of whom nothing is known, and drops some of those that are of no use.
    pub(super) fn add_user(&self, users: &mut Users, hash: u64, id: Id, now: i64) {
        sweep(users, now.saturating_sub(self.settings.floor_kept));
        users.table.insert(hash, Arc::new(User::new(id)));
    }

    /// Drops sessions and users, turn by turn over the shards, until the bytes are within bounds.
    pub(super) fn make_room(&self, now: i64) {
        let kept_from = now.saturating_sub(self.settings.floor_kept);
        let shards = self.users.len();
        let mut turns_without = 0_usize;
        while self.bytes() > self.settings.bytes_max && turns_without <= shards.saturating_mul(2) {
            let cursor = self.cursor.fetch_add(1, Ordering::Relaxed) & shards.wrapping_sub(1);
            let evicted = self.evict(cursor);
            // When a whole round found nothing, only floors that are fresh are left: they go, too,
            // and the reads that they would have refused are refused for having begun earlier.
            let until = if turns_without > shards {
                i64::MAX
            } else {
                kept_from
            };
            let swept = self.with_users(cursor, |users| sweep(users, until));
            turns_without = if evicted || swept {
                0
            } else {
                turns_without.saturating_add(1)
            };
        }
    }

    /// Drops one session of a shard that was not used of late; false if there is none.
    fn evict(&self, shard: usize) -> bool {
        let Some(Shard(shard)) = self.sessions.get(shard) else {
            return false;
        };
        let mut table = shard.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.bytes();
        let mut evicted = None;
        for chance in 0..=CHANCES {
            let Some((at, entry)) = table.turn() else {
                break;
            };
            if chance == CHANCES || !entry.take_used() {
                evicted = table.remove(at);
                break;
            }
        }
        self.count(before, table.bytes());
        evicted.is_some()
    }

    /// Counts that a shard's bytes have changed.
    pub(super) fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes
                .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        } else {
            self.bytes
                .fetch_sub(before.wrapping_sub(after), Ordering::Relaxed);
        }
    }
}

/// Drops users of a shard who have no session here and no change after `until`; true if there were any.
fn sweep(users: &mut Users, until: i64) -> bool {
    let mut swept = false;
    for _ in 0..users.table.len().min(SWEPT) {
        let Some((at, user)) = users.table.turn() else {
            break;
        };
        // Sessions hold their user, and only under this lock does one begin to.
        let changed = user.write().changed;
        if Arc::strong_count(user) == 1 && changed <= until {
            users.forgotten = users.forgotten.max(changed);
            users.table.remove(at);
            swept = true;
        }
    }
    swept
}
