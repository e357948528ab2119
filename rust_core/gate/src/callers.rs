//! Who may call: the callers of the configuration, and those whose keys Python has read from the
//! database, for as long as that reading is good.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

/// The SHA-256 of a service key, as the ring gives it.
pub type Digest = [u8; 32];

/// The callers of a lane.
pub(crate) struct Callers {
    configured: HashMap<Digest, bool>,
    stored: RwLock<HashMap<Digest, Stored>>,
    /// Microseconds since boot.
    good_until: AtomicI64,
}

struct Stored {
    may_validate: bool,
    used: AtomicBool,
}

impl Callers {
    pub(crate) fn new(configured: HashMap<Digest, bool>) -> Self {
        Self {
            configured,
            stored: RwLock::default(),
            good_until: AtomicI64::new(i64::MIN),
        }
    }

    /// Whether the caller of a key may validate; None for a key that is nobody's, as far as is
    /// known now; `now` is asked where that matters.
    pub(crate) fn may_validate(&self, digest: &Digest, now: impl FnOnce() -> i64) -> Option<bool> {
        if let Some(may_validate) = self.configured.get(digest) {
            return Some(*may_validate);
        }
        if now() > self.good_until.load(Ordering::Acquire) {
            return None;
        }
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        let caller = stored.get(digest)?;
        caller.used.store(true, Ordering::Relaxed);
        Some(caller.may_validate)
    }

    /// Takes the stored callers in place of those before, good until then.
    pub(crate) fn replace(&self, callers: HashMap<Digest, bool>, good_until: i64) {
        let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        let callers = callers.into_iter().map(|(digest, may_validate)| {
            // A use that nobody was told of yet stays one.
            let used = stored
                .get_mut(&digest)
                .is_some_and(|before| *before.used.get_mut());
            let used = AtomicBool::new(used);
            (digest, Stored { may_validate, used })
        });
        let callers = callers.collect();
        *stored = callers;
        // While nobody reads: who is in one reading is never taken by the time of another.
        self.good_until.store(good_until, Ordering::Release);
    }

    /// Takes the keys of stored callers that a call came with since the last time.
    pub(crate) fn take_used(&self) -> Vec<Digest> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        let used = stored
            .iter()
            .filter(|(_, caller)| caller.used.swap(false, Ordering::Relaxed));
        used.map(|(digest, _)| *digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Digest = [1; 32];
    const STORED: Digest = [2; 32];

    fn callers() -> Callers {
        let callers = Callers::new(HashMap::from([(CONFIGURED, true)]));
        callers.replace(HashMap::from([(STORED, false)]), 100);
        callers
    }

    /// A stored key is good as long as its reading; one of the configuration always.
    #[test]
    fn stored_keys_have_an_end() {
        let callers = callers();
        for (now, stored) in [(0, Some(false)), (100, Some(false)), (101, None)] {
            assert_eq!(callers.may_validate(&CONFIGURED, || now), Some(true));
            assert_eq!(callers.may_validate(&STORED, || now), stored);
            assert_eq!(callers.may_validate(&[3; 32], || now), None);
        }
        callers.replace(HashMap::new(), 200);
        assert_eq!(callers.may_validate(&STORED, || 150), None);
        assert_eq!(
            Callers::new(HashMap::new()).may_validate(&STORED, || 0),
            None
        );
    }

    /// Each use is told once, and by the next reading, too.
    #[test]
    fn uses_are_taken() {
        let callers = callers();
        assert!(callers.take_used().is_empty());
        callers.may_validate(&STORED, || 0);
        callers.may_validate(&CONFIGURED, || 0);
        callers.replace(HashMap::from([(STORED, false)]), 100);
        assert_eq!(callers.take_used(), [STORED]);
        assert!(callers.take_used().is_empty());
    }
}
