//! What a known session answers: what was filled, to the right verifier and tag alone.

use std::cell::Cell;

use watchword_core::Verifier;
use watchword_core::cache::{LookUp, Token};

use crate::{HIT, NOW, SESSION, USER, VERIFIER, ask, fill, filled, token};

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

/// A dead session stays dead, whatever is presented and whatever a late read says.
#[test]
fn dead_sessions_are_remembered() {
    let cache = filled(&fill());
    assert!(cache.fill_dead(cache.begin_fill(NOW), SESSION, NOW));
    cache.fill(cache.begin_fill(NOW), &fill(), NOW);
    assert_eq!(ask(&cache, &VERIFIER, NOW), LookUp::Dead);
    assert_eq!(ask(&cache, &[9; 32], NOW), LookUp::Dead);
}
