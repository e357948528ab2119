//! What is known of one user: the newest version and epoch, and what was read under them.

use std::mem::size_of;

use super::MAX_AGE;
use super::table::{Keyed, allocated};
use crate::Id;
use crate::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// One user; the sessions of the user hold it. It is changed only under the lock of its shard.
pub(super) struct User {
    pub(super) id: Id,
    pub(super) state: RwLock<State>,
}

/// The floors and what is above them.
pub(super) struct State {
    /// The newest version that this replica knows of; sessions read at an older one are not hit.
    pub(super) version: i64,
    /// The newest epoch that this replica knows of; sessions below it are dead.
    pub(super) epoch: i64,
    /// When a change was applied last; `i64::MIN` for never: then the floors may be forgotten.
    pub(super) changed: i64,
    /// Read at exactly this version and epoch: what raises them takes it out.
    data: Option<Data>,
}

/// What a read of the user gave.
pub(super) struct Data {
    pub(super) generation: u64,
    /// When the read began.
    pub(super) began: i64,
    /// When the first of the roles ends; `i64::MAX` if none does.
    pub(super) end: i64,
    /// The encoded user, and behind it the encoded roles: one piece of memory is one miss less.
    pub(super) bytes: Box<[u8]>,
    pub(super) user_size: usize,
}

impl User {
    pub(super) fn new(id: Id) -> Self {
        let (version, epoch, changed) = (i64::MIN, i64::MIN, i64::MIN);
        Self {
            id,
            state: RwLock::new(State {
                version,
                epoch,
                changed,
                data: None,
            }),
        }
    }

    /// Nothing that runs under this lock can panic, so it is never poisoned half-way.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Raises the floors, never lowers one; what was read below them goes.
    fn raise(&mut self, version: i64, epoch: i64) {
        if version > self.version || epoch > self.epoch {
            self.version = self.version.max(version);
            self.epoch = self.epoch.max(epoch);
            self.data = None;
        }
    }

    /// Raises the floors for a change, which the user must be remembered for from `now` on, also
    /// when a read has raised them before.
    pub(super) fn change(&mut self, version: i64, epoch: i64, now: i64) {
        self.changed = self.changed.max(now);
        self.raise(version, epoch);
    }

    /// Takes what was read at this version and epoch; false, and nothing changes, if either is
    /// below what is known.
    pub(super) fn take(&mut self, version: i64, epoch: i64, data: Data) -> bool {
        if version < self.version || epoch < self.epoch {
            return false;
        }
        self.raise(version, epoch);
        // Of two reads of the same version, the one that began later says more.
        if self
            .data
            .as_ref()
            .is_none_or(|had| had.generation < data.generation || had.began <= data.began)
        {
            self.data = Some(data);
        }
        true
    }

    /// What may be answered now.
    pub(super) fn data(&self, generation: u64, now: i64) -> Option<&Data> {
        let data = self.data.as_ref()?;
        let young = now.saturating_sub(data.began) < MAX_AGE;
        (data.generation == generation && young && now < data.end).then_some(data)
    }

    fn payload(&self) -> usize {
        self.data
            .as_ref()
            .map_or(0, |data| allocated(data.bytes.len()))
    }
}

impl Keyed for Arc<User> {
    fn id(&self) -> &Id {
        &self.id
    }

    fn payload(&self) -> usize {
        // The two counts of the Arc are 16 bytes.
        let own = allocated(size_of::<User>().saturating_add(16));
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        own.saturating_add(state.payload())
    }
}
