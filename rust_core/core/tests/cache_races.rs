//! The cache's own sources over shuttle's locks and atomics: shuttle decides who runs when, in
//! thousands of ways, and repeats a way that fails.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and uses a part of the cache"
)]

#[path = "../src/cache/mod.rs"]
mod cache;

mod sync {
    pub(crate) use shuttle::sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering,
    };
    pub(crate) use shuttle::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
}

use cache::{
    Cache, Change, Fill, Lease, LookUp, REPORT_EVERY, SessionFill, Settings, TICK, Token, UserFill,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use sync::{Arc, AtomicBool, AtomicI64, Ordering};
use watchword_core::{Id, Tag, Verifier, verifier_matches};

const NOW: i64 = 1_800_000_000_000_000;
const USER: Id = [2; 16];

/// Runs it in some thousand random orders, and as many with few switches at random places.
fn check(test: impl Fn() + Copy + Send + Sync + 'static) {
    let config = || {
        let mut config = Config::new();
        config.silence_warnings = true;
        config
    };
    Runner::new(RandomScheduler::new(1_500), config()).run(test);
    Runner::new(PctScheduler::new(3, 1_500), config()).run(test);
}

fn cache() -> Arc<Cache> {
    let settings = Settings::new(1 << 20, i64::MAX);
    Arc::new(Cache::new(Settings {
        shards: 1,
        ..settings
    }))
}

/// Fills a session of the user as of a version; the answer's bytes say the version.
fn fill(cache: &Cache, session: u8, version: i64, ticket: cache::Ticket) -> bool {
    let bytes = version.to_be_bytes();
    let end = i64::MAX;
    let user = UserFill {
        id: USER,
        version,
        epoch: 1,
        end,
        message: &bytes,
        roles: b"",
    };
    let session = SessionFill {
        id: [session; 16],
        verifier: [3; 32],
        previous: None,
        auth_time: NOW,
        expire: i64::MAX,
        epoch: 1,
        last_seen: NOW - REPORT_EVERY,
        message: &bytes,
    };
    cache.fill(ticket, &Fill { user, session }, NOW)
}

/// A token of a session, whose tag is right.
fn token(session_id: &Id) -> Token<'_> {
    Token {
        session_id,
        verifier: &[3; 32],
        tag: [9; 8],
        has_right_tag: &|| true,
    }
}

/// The versions of session and user in a hit.
fn hit(cache: &Cache, session: u8) -> Option<(i64, i64)> {
    let version = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    match cache.look_up(&token(&[session; 16]), NOW, |hit| {
        (version(hit.session), version(hit.user))
    }) {
        LookUp::Hit(versions) => Some(versions),
        LookUp::Dead | LookUp::Miss => None,
    }
}

fn change(version: i64) -> Change {
    Change::User {
        user_id: USER,
        version,
        epoch: 1,
    }
}

/// The row of the user in the database: a read sees what was committed when it began.
#[derive(Clone)]
struct Row(Arc<AtomicI64>);

impl Row {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1)))
    }

    fn read_and_fill(&self, cache: &Cache, session: u8) -> bool {
        let ticket = cache.begin_fill(NOW);
        let version = self.0.load(Ordering::SeqCst);
        thread::yield_now();
        fill(cache, session, version, ticket)
    }

    fn commit(&self, version: i64) {
        self.0.store(version, Ordering::SeqCst);
    }
}

/// A read that a change overtakes does not come after it, and a fill never splits a hit.
#[test]
fn fill_against_apply() {
    check(|| {
        let (cache, row) = (cache(), Row::new());
        let filling = [1, 2].map(|session| {
            let (cache, row) = (Arc::clone(&cache), row.clone());
            thread::spawn(move || row.read_and_fill(&cache, session))
        });
        row.commit(2);
        cache.apply(&change(2), NOW);
        for session in [1, 2] {
            assert!(hit(&cache, session).is_none_or(|seen| seen == (2, 2)));
        }
        let _ = filling.map(|thread| thread.join().unwrap());
        for session in [1, 2] {
            assert!(hit(&cache, session).is_none_or(|seen| seen == (2, 2)));
        }
    });
}

/// Of two reads, the one of the older version never takes the place of the newer one.
#[test]
fn two_fills() {
    check(|| {
        let (cache, row) = (cache(), Row::new());
        let other = {
            let (cache, row) = (Arc::clone(&cache), row.clone());
            thread::spawn(move || row.read_and_fill(&cache, 1))
        };
        row.commit(2);
        assert!(row.read_and_fill(&cache, 1), "nothing is newer");
        assert_eq!(hit(&cache, 1), Some((2, 2)));
        other.join().unwrap();
        assert_eq!(hit(&cache, 1), Some((2, 2)));
    });
}

/// A hit that begins after a change was applied does not show what was before it.
#[test]
fn hit_against_apply() {
    check(|| {
        let cache = cache();
        assert!(fill(&cache, 1, 1, cache.begin_fill(NOW)));
        let applied = Arc::new(AtomicBool::new(false));
        let asking = [(); 2].map(|()| {
            let (cache, applied) = (Arc::clone(&cache), Arc::clone(&applied));
            thread::spawn(move || {
                let before = applied.load(Ordering::SeqCst);
                let seen = hit(&cache, 1);
                assert!(!before || seen.is_none(), "{seen:?} after the change");
            })
        });
        cache.apply(&change(2), NOW);
        applied.store(true, Ordering::SeqCst);
        let _ = asking.map(|thread| thread.join().unwrap());
    });
}

/// What was read before the cache was emptied is not in it afterwards, in no part.
#[test]
fn clear_against_fill() {
    check(|| {
        let (cache, row) = (cache(), Row::new());
        assert!(row.read_and_fill(&cache, 2));
        let filling = {
            let (cache, row) = (Arc::clone(&cache), row.clone());
            thread::spawn(move || row.read_and_fill(&cache, 1))
        };
        // The change itself is missed: emptying is all that tells.
        row.commit(2);
        cache.clear();
        for session in [1, 2] {
            assert!(hit(&cache, session).is_none_or(|seen| seen == (2, 2)));
        }
        filling.join().unwrap();
        assert!(hit(&cache, 1).is_none_or(|seen| seen == (2, 2)));
        // Nor does a session stay that holds a user whom later changes do not reach.
        cache.apply(&change(3), NOW);
        assert_eq!(hit(&cache, 1), None);
        cache.clear();
        assert_eq!(cache.bytes(), 0);
    });
}

/// A session that was read before the cache was emptied does not come back with its user, though a
/// restored backup counts versions that were there before.
#[test]
fn clear_against_fill_with_equal_versions() {
    check(|| {
        let (cache, row) = (cache(), Row::new());
        let ticket = cache.begin_fill(NOW);
        let filling = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || fill(&cache, 1, 1, ticket))
        };
        cache.clear();
        filling.join().unwrap();
        assert!(row.read_and_fill(&cache, 2));
        assert_eq!(hit(&cache, 2), Some((1, 1)));
        assert_eq!(hit(&cache, 1), None);
    });
}

/// Two who apply the same change both find it applied when they return.
#[test]
fn the_same_change_twice_at_once() {
    for change in [
        Change::Role { change_id: [7; 16] },
        Change::Installation { epoch: 2 },
    ] {
        check(move || {
            let cache = cache();
            assert!(fill(&cache, 1, 1, cache.begin_fill(NOW)));
            let applying = [(); 2].map(|()| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || {
                    cache.apply(&change, NOW);
                    assert_eq!(hit(&cache, 1), None);
                })
            });
            let _ = applying.map(|thread| thread.join().unwrap());
        });
    }
}

/// A user whose session is being filled is not dropped by an eviction, so changes still reach it.
#[test]
fn eviction_against_fill() {
    check(|| {
        let settings = Settings::new(1_500, i64::MAX);
        let cache = Arc::new(Cache::new(Settings {
            shards: 1,
            ..settings
        }));
        let row = Row::new();
        let evicting = {
            let (cache, row) = (Arc::clone(&cache), row.clone());
            thread::spawn(move || {
                for session in 2..5 {
                    row.read_and_fill(&cache, session);
                }
            })
        };
        row.read_and_fill(&cache, 1);
        row.commit(2);
        cache.apply(&change(2), NOW + 1);
        assert!(hit(&cache, 1).is_none_or(|seen| seen == (2, 2)));
        evicting.join().unwrap();
        for session in 1..5 {
            assert!(hit(&cache, session).is_none_or(|seen| seen == (2, 2)));
        }
    });
}

/// However many ask at once, one is told to report the session's last-seen.
#[test]
fn last_seen_is_reported_by_one() {
    check(|| {
        let cache = cache();
        assert!(fill(&cache, 1, 1, cache.begin_fill(NOW)));
        let asking = [(); 3].map(|()| {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                let found = cache.look_up(&token(&[1; 16]), NOW, |hit| hit.report_last_seen);
                found == LookUp::Hit(true)
            })
        });
        let told = asking.map(|thread| thread.join().unwrap());
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
    });
}

/// The database's time does not go back between two threads while a poll gives an earlier one.
#[test]
fn database_time_over_a_renewal() {
    check(|| {
        let lease = Arc::new(Lease::new());
        lease.renew(0, NOW);
        let latest = Arc::new(AtomicI64::new(0));
        let asking = [1, 5].map(|tick| {
            let (lease, latest) = (Arc::clone(&lease), Arc::clone(&latest));
            thread::spawn(move || {
                let before = latest.load(Ordering::SeqCst);
                let time = lease.database_now(tick * TICK).unwrap();
                assert!(time >= before);
                latest.fetch_max(time, Ordering::SeqCst);
            })
        });
        lease.renew(1, NOW - 100 * TICK);
        let _ = asking.map(|thread| thread.join().unwrap());
    });
}
