//! A hash table whose values lie in one vector, so that a hand can go round them.

use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;

use hashbrown::HashTable;

use crate::Id;

/// Bytes that the allocator takes for `size`: 8 of its own, rounded up to 16, 32 at least.
pub(super) const fn allocated(size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    let rounded = size.saturating_add(23) & !15;
    if rounded < 32 { 32 } else { rounded }
}

/// Hashes ids with a key of the process: part of an id is chosen by who makes it.
#[derive(Clone)]
pub(super) struct Hasher(RandomState);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(super) fn hash(&self, id: &Id) -> u64 {
        self.0.hash_one(u128::from_ne_bytes(*id))
    }
}

/// What lies in a table: it has an id, and bytes of its own elsewhere.
pub(super) trait Keyed {
    fn id(&self) -> &Id;

    /// Bytes on the heap that only this value holds.
    fn payload(&self) -> usize;
}

pub(super) struct Table<T> {
    values: Vec<T>,
    /// Positions in `values`, by the hash of the id there.
    index: HashTable<u32>,
    hasher: Hasher,
    hand: usize,
    payload: usize,
}

impl<T: Keyed> Table<T> {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            values: Vec::new(),
            index: HashTable::new(),
            hasher,
            hand: 0,
            payload: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// What the table takes: its room, used or not, and the bytes that its values hold.
    pub(super) fn bytes(&self) -> usize {
        let values = self.values.capacity().saturating_mul(size_of::<T>());
        let index = self.index.allocation_size();
        values.saturating_add(index).saturating_add(self.payload)
    }

    pub(super) fn get(&self, hash: u64, id: &Id) -> Option<&T> {
        let position = self.position(hash, id)?;
        self.values.get(position)
    }

    /// Changes a value in place, and counts its bytes anew.
    pub(super) fn update<R>(
        &mut self,
        hash: u64,
        id: &Id,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let position = self.position(hash, id)?;
        let value = self.values.get_mut(position)?;
        let before = value.payload();
        let result = change(value);
        let after = value.payload();
        self.payload = self.payload.saturating_sub(before).saturating_add(after);
        Some(result)
    }

    /// Adds a value whose id is not there yet; false when the table is full (2^32 values).
    pub(super) fn insert(&mut self, hash: u64, value: T) -> bool {
        let Ok(position) = u32::try_from(self.values.len()) else {
            return false;
        };
        if self.values.len() == self.values.capacity() {
            // An eighth, not twice: at a million sessions the room to grow is most of the waste.
            self.values.reserve_exact((self.values.len() / 8).max(4));
        }
        self.payload = self.payload.saturating_add(value.payload());
        self.values.push(value);
        let (values, hasher) = (&self.values, &self.hasher);
        self.index.insert_unique(hash, position, |at| {
            values
                .get(*at as usize)
                .map_or(0, |value| hasher.hash(value.id()))
        });
        true
    }

    /// Moves the hand on; gives where it stood and what is there.
    pub(super) fn turn(&mut self) -> Option<(usize, &T)> {
        if self.hand >= self.values.len() {
            self.hand = 0;
        }
        let at = self.hand;
        self.hand = at.saturating_add(1);
        self.values.get(at).map(|value| (at, value))
    }

    /// Takes out the value at a position; the last one, the newest, moves there. The hand has passed
    /// that place, so what was just added is not the next to go.
    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        let id = *self.values.get(at)?.id();
        let last = self.values.len().checked_sub(1)?;
        self.forget_position(&id, at);
        if at != last {
            let moved = *self.values.get(last)?.id();
            self.forget_position(&moved, last);
            self.note_position(&moved, at);
        }
        let value = self.values.swap_remove(at);
        self.payload = self.payload.saturating_sub(value.payload());
        self.give_room_back();
        Some(value)
    }

    fn position(&self, hash: u64, id: &Id) -> Option<usize> {
        let same = |at: &u32| {
            self.values
                .get(*at as usize)
                .is_some_and(|value| value.id() == id)
        };
        self.index.find(hash, same).map(|at| *at as usize)
    }

    fn forget_position(&mut self, id: &Id, position: usize) {
        let hash = self.hasher.hash(id);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at as usize == position) {
            entry.remove();
        }
    }

    fn note_position(&mut self, id: &Id, position: usize) {
        let Ok(position) = u32::try_from(position) else {
            return;
        };
        let (values, hasher) = (&self.values, &self.hasher);
        self.index.insert_unique(hasher.hash(id), position, |at| {
            values
                .get(*at as usize)
                .map_or(0, |value| hasher.hash(value.id()))
        });
    }

    /// Below three quarters the room goes back, but for an eighth to grow again.
    fn give_room_back(&mut self) {
        let (length, room) = (self.values.len(), self.values.capacity());
        if length == 0 || (room > 16 && length < room.saturating_sub(room / 4)) {
            self.values.shrink_to(length.saturating_add(length / 8));
            let (values, hasher) = (&self.values, &self.hasher);
            self.index.shrink_to(length, |at| {
                values
                    .get(*at as usize)
                    .map_or(0, |value| hasher.hash(value.id()))
            });
        }
    }
}
