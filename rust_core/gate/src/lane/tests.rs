//! One read for all who wait, and what is kept of it.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use tokio::runtime::Builder;
use watchword_core::cache::{REFILL_AFTER, REFILL_SPREAD, SessionFill, UserFill};

use super::*;

/// Microseconds of the database's clock.
const NOW: i64 = 1_800_000_000_000_000;
/// Old for any session.
const LATER: i64 = NOW + REFILL_AFTER + REFILL_SPREAD;

fn lane() -> Lane {
    let refusal = |code| Refusal::new(code, "no", b"");
    let settings = LaneSettings {
        callers: HashMap::new(),
        refusals: Refusals {
            invalid: refusal(16),
            reauthentication_needed: refusal(9),
            overloaded: refusal(8),
            unavailable: refusal(14),
        },
        cache: Settings::new(1 << 20, i64::MAX / 2),
    };
    let keys = Arc::new(KeyRing::new(&[(1, &[1; 32])], &[2; 32]).unwrap());
    Lane::new(keys, settings).unwrap()
}

fn leased(database_time: i64) -> Lane {
    let lane = lane();
    lane.renew(boottime_us(), database_time);
    lane
}

fn presented(secret: u8) -> PresentedSession {
    PresentedSession {
        session_id: [1; 16],
        key_id: 1,
        verifier: [secret; 32],
    }
}

fn fill(last_seen: i64) -> Fill<'static> {
    let (message, roles, end) = (&b"user"[..], &b"roles"[..], i64::MAX);
    Fill {
        user: UserFill {
            id: [2; 16],
            version: 1,
            epoch: 1,
            end,
            message,
            roles,
        },
        session: SessionFill {
            id: [1; 16],
            verifier: [7; 32],
            previous: None,
            auth_time: NOW,
            expire: i64::MAX,
            epoch: 1,
            last_seen,
            message: b"session",
        },
    }
}

fn hit(lane: &Lane, secret: u8) -> Option<LookUp<()>> {
    lane.within_lease(|moment| Some(lane.look_up(&presented(secret), moment, |_| ())))
}

/// Asks for a session with each secret; `answer` is Python. Whether each was live, or failed.
fn ask(lane: &Lane, secrets: &[u8], answer: impl FnOnce(Turn)) -> Option<Vec<bool>> {
    let sessions: Vec<PresentedSession> = secrets.iter().copied().map(presented).collect();
    let python = async { answer(lane.take_misses(9).unwrap()) };
    let both = async { tokio::join!(biased; lane.read(&sessions), python) };
    let runtime = Builder::new_current_thread().build().unwrap();
    let readings = runtime.block_on(both).0.ok()?;
    Some(
        readings
            .iter()
            .map(|reading| reading.live().is_some())
            .collect(),
    )
}

/// One read answers all who wait, each by its own secret, and is what the next look-up hits.
#[test]
fn a_read_answers_whose_secret_it_is() {
    let lane = leased(NOW);
    let live = ask(&lane, &[7, 8, 7], |mut turn| {
        assert_eq!(turn.session_ids().count(), 1);
        lane.found(&mut turn, fill(NOW), NOW);
        turn.end(NOW);
    });
    assert_eq!(live, Some(vec![true, false, true]));
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    assert_eq!(hit(&lane, 8), Some(LookUp::Miss));
}

/// What was not found is not live, and nothing is kept of it.
#[test]
fn what_is_not_found_is_not_live() {
    let lane = leased(NOW);
    assert_eq!(
        ask(&lane, &[7], |mut turn| turn.end(NOW)),
        Some(vec![false])
    );
    assert_eq!(hit(&lane, 7), Some(LookUp::Miss));
}

/// A read that failed, and a turn that ended without a word, are no answer.
#[test]
fn a_failed_read_is_no_answer() {
    let lane = leased(NOW);
    let refusal = lane.refusals.unavailable.clone();
    assert_eq!(ask(&lane, &[7], |turn| turn.fail(&refusal)), None);
    assert_eq!(ask(&lane, &[7], drop), None);
}

/// Without a lease the read is answered, and nothing is kept of it.
#[test]
fn without_a_lease_nothing_is_kept() {
    let lane = lane();
    let live = ask(&lane, &[7], |mut turn| {
        lane.found(&mut turn, fill(NOW), NOW);
    });
    assert_eq!(live, Some(vec![true]));
    lane.renew(boottime_us(), NOW);
    assert_eq!(hit(&lane, 7), Some(LookUp::Miss));
}

/// A change that was applied after the turn was taken refuses its fill.
#[test]
fn a_fill_is_not_newer_than_its_turn() {
    let lane = leased(NOW);
    ask(&lane, &[7], |mut turn| {
        lane.clear();
        lane.renew(boottime_us(), NOW);
        lane.found(&mut turn, fill(NOW), NOW);
    });
    assert_eq!(hit(&lane, 7), Some(LookUp::Miss));
}

/// A miss is a use of its session, a wrong secret and a refill are none.
#[test]
fn only_who_has_the_secret_uses_a_session() {
    let lane = leased(NOW);
    let old = NOW - lane.report_every;
    for (secret, seen) in [(8, vec![]), (7, vec![([1; 16], NOW)])] {
        ask(&lane, &[secret], |mut turn| {
            lane.found(&mut turn, fill(old), NOW);
        });
        assert_eq!(lane.take_seen().0, seen);
    }
    // Reported once: the hit that follows has nothing to add.
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    assert_eq!(lane.take_seen().0, []);
}

/// A hit on an old read queues it to be read again, which makes it young.
#[test]
fn an_old_hit_is_read_again() {
    let lane = leased(NOW);
    ask(&lane, &[7], |mut turn| {
        lane.found(&mut turn, fill(NOW), NOW);
    });
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    assert!(lane.take_refills(9).is_none());
    lane.renew(boottime_us(), LATER);
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    let mut turn = lane.take_refills(9).unwrap();
    lane.found(&mut turn, fill(NOW), LATER);
    turn.end(LATER);
    lane.renew(boottime_us(), LATER + REFILL_AFTER);
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    assert_eq!(lane.take_seen().0, []);
}
