//! How long what was read is good, and what use puts off.

use watchword_core::cache::{
    Cache, Fill, LookUp, MAX_AGE, REFILL_AFTER, REFILL_SPREAD, REPORT_EVERY, Settings,
};

use crate::{HIT, IDLE, NOW, SECOND, SESSION, VERIFIER, ask, fill, filled, token};

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
