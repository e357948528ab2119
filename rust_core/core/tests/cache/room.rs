//! The bytes stay within their bound, whatever fills them.

use watchword_core::cache::{Cache, Change, Fill, LookUp, Settings};

use crate::{IDLE, NOW, VERIFIER, fill, token};

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
