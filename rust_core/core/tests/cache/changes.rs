//! Changes and newer reads are seen at once, and late reads refused.

use watchword_core::cache::{Cache, Change, FLOOR_KEPT, LookUp, Settings};

use crate::{HIT, IDLE, NOW, SESSION, VERIFIER, ask, cache, fill, filled, token, user_change};

/// A change of the user ends hits until the next read; an epoch that rose is a no for ever.
#[test]
fn changes_of_a_user_are_seen_at_once() {
    let cache = filled(&fill());
    cache.apply(&user_change(5, 2), NOW);
    cache.apply(&user_change(4, 1), NOW);
    assert_eq!(
        ask(&cache, &VERIFIER, NOW),
        HIT,
        "nothing newer was applied"
    );
    cache.apply(&user_change(6, 2), NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Miss);
    let mut newer = fill();
    assert!(
        !cache.fill(cache.begin_fill(NOW), &newer, NOW),
        "below the floor"
    );
    newer.user.version = 6;
    assert!(cache.fill(cache.begin_fill(NOW), &newer, NOW));
    assert_eq!(ask(&cache, &VERIFIER, NOW), HIT);
    cache.apply(&user_change(6, 3), NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Dead);
    assert_eq!(
        ask(&cache, &[9; 32], NOW),
        LookUp::Miss,
        "its verifier may be newer"
    );
}

/// A read that shows a newer version ends the hits of the user's other sessions.
#[test]
fn reads_raise_floors_too() {
    let cache = filled(&fill());
    let mut other = fill();
    (other.session.id, other.user.version) = ([9; 16], 6);
    assert!(cache.fill(cache.begin_fill(NOW), &other, NOW));
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Miss);
    assert!(!cache.fill(cache.begin_fill(NOW), &fill(), NOW));
}

/// What a newer read says of the user is given, even if that read began earlier.
#[test]
fn a_newer_version_takes_the_place_of_a_later_read() {
    let cache = cache();
    let (earlier, later) = (cache.begin_fill(NOW), cache.begin_fill(NOW + 1));
    assert!(cache.fill(later, &fill(), NOW + 1));
    let mut newer = fill();
    (newer.user.version, newer.user.message) = (6, b"renamed");
    assert!(cache.fill(earlier, &newer, NOW + 1));
    let found = cache.look_up(&token(&SESSION, &VERIFIER), NOW + 1, |hit| {
        hit.user == b"renamed"
    });
    assert_eq!(found, LookUp::Hit(true));
}

/// A read from before the cache was emptied leaves no floor: a restored backup has lower versions.
#[test]
fn versions_may_be_lower_after_emptying() {
    let cache = cache();
    let late = cache.begin_fill(NOW);
    cache.clear();
    let mut newer = fill();
    newer.user.version = 9;
    assert!(!cache.fill(late, &newer, NOW));
    assert!(cache.fill(cache.begin_fill(NOW), &fill(), NOW));
    assert_eq!(ask(&cache, &VERIFIER, NOW), HIT);
}

/// A change of a role makes every user's data old, once, and refuses the reads that had begun.
#[test]
fn changes_of_roles_are_seen_at_once() {
    let cache = filled(&fill());
    let late = cache.begin_fill(NOW);
    let change = Change::Role { change_id: [8; 16] };
    cache.apply(&change, NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Miss);
    assert!(!cache.fill(late, &fill(), NOW));
    assert!(cache.fill(cache.begin_fill(NOW), &fill(), NOW));
    cache.apply(&change, NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), HIT, "the same change again");
    cache.apply(&Change::Role { change_id: [9; 16] }, NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Miss);
}

/// A new epoch of the installation empties the cache, once, and refuses the reads that had begun.
#[test]
fn changes_of_the_installation_empty_the_cache() {
    let cache = filled(&fill());
    let late = cache.begin_fill(NOW);
    cache.apply(&Change::Installation { epoch: 2 }, NOW);
    assert_eq!(cache.bytes(), 0);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Miss);
    assert!(!cache.fill(late, &fill(), NOW));
    assert!(!cache.fill_dead(late, SESSION, NOW));
    assert!(cache.fill(cache.begin_fill(NOW), &fill(), NOW));
    for epoch in [1, 2] {
        cache.apply(&Change::Installation { epoch }, NOW);
        assert_eq!(ask(&cache, &VERIFIER, NOW), HIT);
    }
}

/// A floor of a user who is not cached refuses late reads; when it has been dropped, reads that
/// began before it are refused all the same.
#[test]
fn floors_outlive_the_reads_that_they_refuse() {
    let cache = Cache::new(Settings {
        shards: 1,
        ..Settings::new(1 << 20, IDLE)
    });
    let late = cache.begin_fill(NOW);
    cache.apply(&user_change(6, 2), NOW + 1);
    assert!(!cache.fill(late, &fill(), NOW + 2));
    let floors = cache.bytes();
    let later = NOW + 1 + FLOOR_KEPT;
    for user in 100..110 {
        cache.apply(
            &Change::User {
                user_id: [user; 16],
                version: 1,
                epoch: 1,
            },
            later,
        );
    }
    assert!(
        !cache.fill(late, &fill(), later),
        "the floor is gone, its time is remembered"
    );
    assert!(
        cache.fill(cache.begin_fill(later), &fill(), later),
        "the floor was dropped"
    );
    assert!(floors > 0);
}
