//! What makes cached answers false.

use std::collections::VecDeque;

use super::{Cache, Shard};
use crate::Id;
use crate::cache::table::Table;
use crate::sync::{Ordering, PoisonError};

/// Changes of roles that are known by their ids, so that none empties the cache twice while the
/// poll's overlap shows it again and again.
const ROLE_CHANGES_KEPT: usize = 256;

/// A committed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a user or of one of the user's sessions: both raise the user's version, and a log-out
    /// everywhere the epoch, so both come here.
    User {
        /// The user's id.
        user_id: Id,
        /// The version after the change.
        version: i64,
        /// The epoch after the change.
        epoch: i64,
    },
    /// Of a role: what every user may do is to be read again.
    Role {
        /// The change's own id.
        change_id: Id,
    },
    /// Of the installation: all is to be read again when its epoch is new.
    Installation {
        /// The epoch after the change.
        epoch: i64,
    },
}

/// What was applied and can not be seen from the floors.
pub(super) struct Applied {
    installation_epoch: i64,
    roles: VecDeque<Id>,
}

impl Applied {
    pub(super) fn new() -> Self {
        Self {
            installation_epoch: i64::MIN,
            roles: VecDeque::new(),
        }
    }
}

impl Cache {
    /// Applies a change; when this has returned, no look-up that begins afterwards gives what the
    /// change made false. Applied again, or after a newer one, it changes nothing. `now` is read
    /// after the change was known to be committed.
    pub fn apply(&self, change: &Change, now: i64) {
        match *change {
            Change::User {
                user_id,
                version,
                epoch,
            } => {
                self.raise(&user_id, version, epoch, now);
                self.make_room(now);
            }
            Change::Role { change_id } => {
                // Held to the end: who finds a change applied may rely on it.
                let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
                if !applied.roles.contains(&change_id) {
                    if applied.roles.len() >= ROLE_CHANGES_KEPT {
                        applied.roles.pop_front();
                    }
                    applied.roles.push_back(change_id);
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
            Change::Installation { epoch } => {
                let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
                if epoch > applied.installation_epoch {
                    applied.installation_epoch = epoch;
                    self.clear();
                }
            }
        }
    }

    /// Empties the cache and refuses every fill that has begun, as is needed when changes may have
    /// been missed.
    pub fn clear(&self) {
        // First: a fill that is late finds it changed under the lock of its shard.
        self.generation.fetch_add(1, Ordering::AcqRel);
        for shard in 0..self.users.len() {
            self.with_users(shard, |users| users.table = Table::new(self.hasher.clone()));
        }
        for Shard(shard) in &self.sessions {
            let mut table = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = table.bytes();
            *table = Table::new(self.hasher.clone());
            self.count(before, table.bytes());
        }
        // Last, too: what began meanwhile may hold a user who was taken out, whom no change reaches.
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn raise(&self, user_id: &Id, version: i64, epoch: i64, now: i64) {
        let hash = self.hasher.hash(user_id);
        self.with_users(self.shard_of(hash), |users| {
            if users.table.get(hash, user_id).is_none() {
                self.add_user(users, hash, *user_id, now);
            }
            users.table.update(hash, user_id, |user| {
                user.write().change(version, epoch, now);
            });
        });
    }
}
