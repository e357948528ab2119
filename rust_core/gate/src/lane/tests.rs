//! One read for all who wait, and what is kept of it.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::Builder;
use watchword_core::cache::{REFILL_AFTER, REFILL_SPREAD, SessionFill, UserFill};
use watchword_core::{SESSION_TOKEN_LENGTH, Secret};

use super::*;
use crate::check::{self, Answer};
use crate::live_row::uuid_text;
use crate::message;
use crate::route::Check;

/// Microseconds of the database's clock.
const NOW: i64 = 1_800_000_000_000_000;
/// Old for any session.
const LATER: i64 = NOW + REFILL_AFTER + REFILL_SPREAD;

static KEYS: LazyLock<Arc<KeyRing>> =
    LazyLock::new(|| Arc::new(KeyRing::new(&[(1, &[1; 32])], &[2; 32]).unwrap()));
/// The tokens of one session come from it.
static FIRST: LazyLock<Secret> = LazyLock::new(|| KEYS.mint_session(1).unwrap().token);

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
    Lane::new(Arc::clone(&KEYS), settings).unwrap()
}

fn leased(database_time: i64) -> Lane {
    let lane = lane();
    lane.renew(boottime_us(), database_time);
    lane
}

/// Each secret is that of another token.
fn text(secret: u8) -> Secret {
    let next = KEYS.refresh_session(FIRST.reveal(), secret.into(), 1);
    next.unwrap().token
}

/// The token of secret 7, with another tag.
fn wrong_text() -> String {
    let right = text(7);
    let last = if right.reveal().ends_with('A') {
        'B'
    } else {
        'A'
    };
    format!("{}{last}", &right.reveal()[..SESSION_TOKEN_LENGTH - 1])
}

fn token(secret: u8) -> ReadSession {
    KEYS.read_session_token(text(secret).reveal()).unwrap()
}

fn presented(secret: u8) -> PresentedSession {
    token(secret).presented().clone()
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
            id: presented(7).session_id,
            verifier: presented(7).verifier,
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
    look_up(lane, &token(secret))
}

fn look_up(lane: &Lane, token: &ReadSession) -> Option<LookUp<()>> {
    lane.within_lease(|moment| Some(lane.look_up(token, moment, |_| ())))
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

/// A token with a wrong tag is that of no session, known or not, and does not become a miss: not
/// before the right one was looked up, and not after.
#[test]
fn a_wrong_tag_is_a_no() {
    let lane = leased(NOW);
    let right = text(7);
    let last = if right.reveal().ends_with('A') {
        'B'
    } else {
        'A'
    };
    let wrong = format!("{}{last}", &right.reveal()[..SESSION_TOKEN_LENGTH - 1]);
    let wrong = KEYS.read_session_token(&wrong).unwrap();
    assert_eq!(wrong.presented().verifier, presented(7).verifier);
    assert_eq!(look_up(&lane, &wrong), Some(LookUp::Dead));
    ask(&lane, &[7], |mut turn| {
        lane.found(&mut turn, fill(NOW), NOW);
    });
    assert_eq!(look_up(&lane, &wrong), Some(LookUp::Dead));
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
    assert_eq!(look_up(&lane, &wrong), Some(LookUp::Dead));
    assert_eq!(hit(&lane, 7), Some(LookUp::Hit(())));
}

/// Without a lease, too, only tokens with a right tag wait for the database.
#[test]
fn without_a_lease_tags_are_checked() {
    let lane = lane();
    let body = |tokens: &[&str]| {
        let fields = tokens
            .iter()
            .map(|token| [b"\x0a\x4f", token.as_bytes()].concat());
        message::framed(&fields.collect::<Vec<_>>().concat())
    };
    let wrong = wrong_text();
    let one = |token| check::at_once(Check::Session, &body(&[token]), &lane);
    assert!(matches!(one(&wrong), Answer::Refused(_)));
    assert!(matches!(one(text(7).reveal()), Answer::Missing(_)));
    let other = KEYS.mint_session(1).unwrap();
    let batch = body(&[&wrong, other.token.reveal()]);
    let Answer::Missing(missing) = check::at_once(Check::Sessions, &batch, &lane) else {
        panic!("nothing of the batch is known")
    };
    let mut read = pin!(check::after_read(missing, &lane, Duration::MAX));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    assert!(
        read.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    let turn = lane.take_misses(9).unwrap();
    assert_eq!(
        turn.session_ids().collect::<Vec<_>>(),
        [uuid_text(&other.session_id)]
    );
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
    for (secret, seen) in [(8, vec![]), (7, vec![(presented(7).session_id, NOW)])] {
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
