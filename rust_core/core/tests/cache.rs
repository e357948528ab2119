//! What the cache answers, case by case.
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;

use watchword_core::cache::{
    Cache, Change, FLOOR_KEPT, Fill, LookUp, MAX_AGE, REFILL_AFTER, REFILL_SPREAD, REPORT_EVERY,
    SessionFill, Settings, Token, UserFill,
};
use watchword_core::{Id, Verifier};

const SECOND: i64 = 1_000_000;
const NOW: i64 = 1_800_000_000 * SECOND;
const IDLE: i64 = 7 * 86_400 * SECOND;
const SESSION: Id = [1; 16];
const USER: Id = [2; 16];
const VERIFIER: Verifier = [3; 32];

fn cache() -> Cache {
    Cache::new(Settings::new(1 << 20, IDLE))
}

fn fill() -> Fill<'static> {
    let (message, roles, end) = (&b"user"[..], &b"roles"[..], i64::MAX);
    Fill {
        user: UserFill {
            id: USER,
            version: 5,
            epoch: 2,
            end,
            message,
            roles,
        },
        session: SessionFill {
            id: SESSION,
            verifier: VERIFIER,
            previous: None,
            auth_time: NOW - 9,
            expire: NOW + 86_400 * SECOND,
            epoch: 2,
            last_seen: NOW,
            message: b"session",
        },
    }
}

fn filled(fill: &Fill<'_>) -> Cache {
    let cache = cache();
    assert!(cache.fill(cache.begin_fill(NOW), fill, NOW));
    cache
}

fn user_change(version: i64, epoch: i64) -> Change {
    Change::User {
        user_id: USER,
        version,
        epoch,
    }
}

/// A token whose tag is right.
fn token<'a>(session_id: &'a Id, verifier: &'a Verifier) -> Token<'a> {
    Token {
        session_id,
        verifier,
        tag: [9; 8],
        has_right_tag: &|| true,
    }
}

/// Looks the session up; a hit says whether last-seen is to be reported.
fn ask(cache: &Cache, verifier: &Verifier, now: i64) -> LookUp<bool> {
    cache.look_up(&token(&SESSION, verifier), now, |hit| hit.report_last_seen)
}

const HIT: LookUp<bool> = LookUp::Hit(false);

/// A hit gives back what was filled; nothing known is a miss.
#[test]
fn hits_give_what_was_filled() {
    let cache = filled(&fill());
    let found = cache.look_up(&token(&SESSION, &VERIFIER), NOW, |hit| {
        assert_eq!(
            (hit.session, hit.user, hit.roles),
            (&b"session"[..], &b"user"[..], &b"roles"[..])
        );
        assert_eq!(
            (hit.user_id, hit.auth_time, hit.version, hit.epoch),
            (&USER, NOW - 9, 5, 2)
        );
    });
    assert_eq!(found, LookUp::Hit(()));
    assert_eq!(
        cache.look_up(&token(&USER, &VERIFIER), NOW, |_| false),
        LookUp::Miss
    );
}

/// Another verifier is a miss and never a no; the previous one is good until its end.
#[test]
fn verifiers_are_compared_on_every_hit() {
    let mut with_previous = fill();
    with_previous.session.previous = Some(([4; 32], NOW + 30));
    let cache = filled(&with_previous);
    for at in [0, 31] {
        let mut wrong = VERIFIER;
        wrong[at] ^= 1;
        assert_eq!(ask(&cache, &wrong, NOW), LookUp::Miss);
        assert_eq!(ask(&cache, &wrong, i64::MAX), LookUp::Miss);
    }
    assert_eq!(ask(&cache, &[4; 32], NOW + 29), HIT);
    assert_eq!(ask(&cache, &[4; 32], NOW + 30), LookUp::Miss);
    assert_eq!(ask(&cache, &VERIFIER, NOW + 30), HIT);
}

/// A tag is judged once, for the verifier with which it came: another one is judged anew, and so is
/// each of the previous verifier's. What was right stays so when the session is read again, and goes
/// with its verifier.
#[test]
fn tags_are_judged_once() {
    let mut with_previous = fill();
    with_previous.session.previous = Some(([4; 32], NOW + 30));
    let cache = filled(&with_previous);
    let judged = Cell::new(0);
    let ask = |verifier: Verifier, tag: u64, right: bool| {
        judged.set(0);
        let token = Token {
            tag: tag.to_ne_bytes(),
            has_right_tag: &|| {
                judged.set(judged.get() + 1);
                right
            },
            ..token(&SESSION, &verifier)
        };
        (cache.look_up(&token, NOW, |_| ()), judged.get())
    };
    let (hit, miss) = (LookUp::Hit(()), LookUp::Miss);
    assert_eq!(ask(VERIFIER, 0, false), (miss, 1));
    assert_eq!(ask(VERIFIER, 9, false), (miss, 1));
    assert_eq!(ask(VERIFIER, 9, true), (hit, 1));
    assert_eq!(ask(VERIFIER, 9, false), (hit, 0));
    assert_eq!(ask(VERIFIER, 8, false), (miss, 1));
    assert_eq!(ask([4; 32], 9, false), (miss, 1));
    assert_eq!(ask([4; 32], 7, true), (hit, 1));
    assert_eq!(ask(VERIFIER, 7, false), (miss, 1));
    assert_eq!(ask([5; 32], 9, true), (miss, 0));
    assert!(cache.fill(cache.begin_fill(NOW), &with_previous, NOW));
    assert_eq!(ask(VERIFIER, 9, false), (hit, 0));
    with_previous.session.verifier = [6; 32];
    assert!(cache.fill(cache.begin_fill(NOW), &with_previous, NOW));
    assert_eq!(ask([6; 32], 9, false), (miss, 1));
}

type ChangeFill = fn(&mut Fill<'_>);

/// From an age on one hit asks for another read, and after that read none does. The age is the
/// session's own.
#[test]
fn one_hit_asks_for_a_refill() {
    for drawn in [0, 128, 255] {
        let own = i64::from(drawn) * REFILL_SPREAD / 256;
        let mut fill = fill();
        fill.session.verifier[0] = drawn;
        let cache = filled(&fill);
        let verifier = fill.session.verifier;
        let asks = |now: i64| cache.look_up(&token(&SESSION, &verifier), now, |hit| hit.refill);
        let old = NOW + REFILL_AFTER + own;
        assert_eq!(asks(old - 1), LookUp::Hit(false));
        assert_eq!(
            [asks(old), asks(old)],
            [LookUp::Hit(true), LookUp::Hit(false)]
        );
        assert!(cache.fill(cache.begin_fill(old), &fill, old));
        assert_eq!(asks(old + 1), LookUp::Hit(false));
        assert_eq!(asks(old + REFILL_AFTER + own), LookUp::Hit(true));
    }
    const { assert!(REFILL_AFTER + REFILL_SPREAD < MAX_AGE) };
}

/// Each lifetime ends a hit at its very microsecond: the read's age, the first role, the absolute
/// end, the idle end; only the absolute end is a no.
#[test]
fn lifetimes_end_hits() {
    let ends: [(ChangeFill, i64, LookUp<bool>); 4] = [
        (|_| (), MAX_AGE, LookUp::Miss),
        (|fill| fill.user.end = NOW + 7, 7, LookUp::Miss),
        (|fill| fill.session.expire = NOW + 7, 7, LookUp::Dead),
        (
            |fill| fill.session.last_seen = NOW + 7 - IDLE,
            7,
            LookUp::Miss,
        ),
    ];
    for (change, end, after) in ends {
        let mut fill = fill();
        change(&mut fill);
        assert_eq!(ask(&filled(&fill), &VERIFIER, NOW + end), after);
        let before = ask(&filled(&fill), &VERIFIER, NOW + end - 1);
        assert!(matches!(before, LookUp::Hit(_)), "{before:?} before {end}");
    }
}

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

/// A dead session stays dead, whatever is presented and whatever a late read says.
#[test]
fn dead_sessions_are_remembered() {
    let cache = filled(&fill());
    assert!(cache.fill_dead(cache.begin_fill(NOW), SESSION, NOW));
    cache.fill(cache.begin_fill(NOW), &fill(), NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Dead);
    assert_eq!(ask(&cache, &[9; 32], NOW), LookUp::Dead);
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

/// Last-seen is to be reported once in each period, also over a refill.
#[test]
fn last_seen_is_reported_once_a_period() {
    let mut fill = fill();
    fill.session.last_seen = NOW - REPORT_EVERY;
    let cache = filled(&fill);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Hit(true));
    assert_eq!(ask(&cache, &VERIFIER, NOW + 1), HIT);
    fill.session.last_seen = NOW;
    let mut now = NOW;
    for reported in [false, true, false, true] {
        now += REPORT_EVERY / 2;
        assert!(cache.fill(cache.begin_fill(now), &fill, now));
        assert_eq!(ask(&cache, &VERIFIER, now), LookUp::Hit(reported));
        if reported {
            fill.session.last_seen = now;
        }
    }
    // What was not stored is reported once more after the next read.
    fill.session.last_seen = NOW - REPORT_EVERY;
    for reported in [true, true] {
        assert!(cache.fill(cache.begin_fill(now), &fill, now));
        assert_eq!(ask(&cache, &VERIFIER, now), LookUp::Hit(reported));
        assert_eq!(ask(&cache, &VERIFIER, now), HIT);
    }
}

/// A hit puts the idle end off, and a refill with an older last-seen does not bring it back.
#[test]
fn hits_keep_a_session_from_being_idle() {
    let cache = Cache::new(Settings::new(1 << 20, 40 * SECOND));
    let mut now = NOW;
    for _ in 0..5 {
        assert!(cache.fill(cache.begin_fill(now), &fill(), now));
        assert!(matches!(ask(&cache, &VERIFIER, now), LookUp::Hit(_)));
        now += 39 * SECOND;
    }
    assert!(matches!(ask(&cache, &VERIFIER, now), LookUp::Hit(_)));
    assert_eq!(ask(&cache, &VERIFIER, now + 40 * SECOND), LookUp::Miss);
}

fn fill_number(number: u32) -> Fill<'static> {
    let mut fill = fill();
    fill.session.id[..4].copy_from_slice(&number.to_be_bytes());
    fill.user.id[..4].copy_from_slice(&(number / 2).to_be_bytes());
    fill
}

/// The bytes stay within their bound; sessions that are used stay, of the others the most go; what
/// is dropped leaves no bytes behind.
#[test]
fn the_cache_is_bounded_by_bytes() {
    let bytes_max = 400_000;
    let cache = Cache::new(Settings {
        shards: 4,
        ..Settings::new(bytes_max, IDLE)
    });
    let hit = |number| {
        let id = fill_number(number).session.id;
        matches!(
            cache.look_up(&token(&id, &VERIFIER), NOW, |_| ()),
            LookUp::Hit(())
        )
    };
    for number in 0..10_000 {
        assert!(cache.fill(cache.begin_fill(NOW), &fill_number(number), NOW));
        assert!(
            cache.bytes() <= bytes_max,
            "{} after {number}",
            cache.bytes()
        );
        (0..100).for_each(|used| _ = hit(used));
    }
    let used = (0..100).filter(|number| hit(*number)).count();
    let unused = (100..10_000).filter(|number| hit(*number)).count();
    assert!(used > 90, "{used} of 100 that were used");
    assert!((200..2_000).contains(&unused), "{unused} others");
    cache.clear();
    assert_eq!(cache.bytes(), 0);
}

/// Fresh floors alone do not break the bound either, and those that had to go still refuse.
#[test]
fn floors_are_bounded_too() {
    let cache = Cache::new(Settings {
        shards: 2,
        ..Settings::new(20_000, IDLE)
    });
    let late = cache.begin_fill(NOW);
    for number in 0..1_000 {
        let Fill { user, .. } = fill_number(number * 2);
        cache.apply(
            &Change::User {
                user_id: user.id,
                version: 6,
                epoch: 2,
            },
            NOW + 1,
        );
        assert!(cache.bytes() <= 20_000);
    }
    for number in 0..1_000 {
        assert!(!cache.fill(late, &fill_number(number * 2), NOW + 1));
    }
}
