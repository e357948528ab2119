//! Prints what a cached session costs in memory, and a hit in time:
//! `cargo run --release -p watchword-core --example cache_memory`.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement prints, and fails by panicking"
)]

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use watchword_core::cache::{Cache, Fill, LookUp, SessionFill, Settings, Token, UserFill};
use watchword_core::{Id, KeyRing, PresentedSession, Tag, Verifier};

const NOW: i64 = 1_800_000_000_000_000;
/// An encoded `Session` today: two ids as text, three timestamps.
const MESSAGE: [u8; 118] = [7; 118];
/// An encoded `User` with three roles and six permissions, and the same as an answer of `GetRoles`.
const USER: [u8; 230] = [8; 230];
const ROLES: [u8; 120] = [9; 120];
const HITS: usize = 2_000_000;

struct Known {
    id: Id,
    verifier: Verifier,
    token: Box<str>,
}

/// Memory of the process that is in use, from the kernel. Bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = status.split(' ').nth(1).expect("the second number");
    pages.parse::<f64>().expect("a number") * 4096.0
}

fn fill(cache: &Cache, session: &Known, user_id: Id) {
    let fill = Fill {
        user: UserFill {
            id: user_id,
            version: 1,
            epoch: 1,
            end: i64::MAX,
            message: &USER,
            roles: &ROLES,
        },
        session: SessionFill {
            id: session.id,
            verifier: session.verifier,
            previous: None,
            auth_time: NOW,
            expire: i64::MAX,
            epoch: 1,
            last_seen: NOW,
            message: &MESSAGE,
        },
    };
    assert!(cache.fill(cache.begin_fill(NOW), &fill, NOW));
}

/// Steps over a list in an order that no prefetcher guesses: multiplies by a prime of 64 bits.
fn scattered(step: usize, length: usize) -> usize {
    (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % length
}

fn nanoseconds_per_hit(known: &[Known], hit: impl Fn(&Known)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        (0..HITS).for_each(|step| hit(&known[scattered(step, known.len())]));
        best = best.min(start.elapsed().as_nanos() as f64 / HITS as f64);
    }
    best
}

fn measure(sessions: usize, users: usize) {
    let ring = KeyRing::new(&[(1, &[1; 32])], &[3; 32]).expect("a ring");
    let known: Vec<Known> = (0..sessions)
        .map(|_| {
            let minted = ring.mint_session(5).expect("a session");
            let token = minted.token.reveal().into();
            Known {
                id: minted.session_id,
                verifier: minted.verifier,
                token,
            }
        })
        .collect();
    let user_ids: Vec<Id> = (0..users as u128).map(u128::to_be_bytes).collect();
    let start = resident();
    let cache = Cache::new(Settings::new(4 << 30, i64::MAX));
    // One session of each user first: what is added later is sessions alone.
    for (session, user) in known.iter().zip(&user_ids) {
        fill(&cache, session, *user);
    }
    let (first, counted) = (resident(), cache.bytes());
    for (number, session) in known.iter().enumerate().skip(users) {
        fill(&cache, session, user_ids[number % users]);
    }
    let more = (sessions - users) as f64;
    println!("{sessions} sessions of {users} users");
    println!(
        "  resident: {:.0} bytes a session",
        (resident() - first) / more
    );
    println!(
        "  counted:  {:.0} bytes a session",
        (cache.bytes() - counted) as f64 / more
    );
    println!(
        "  with users: {:.0} resident, {:.0} counted, a session",
        (resident() - start) / sessions as f64,
        cache.bytes() as f64 / sessions as f64
    );
    // An answer is a copy of both messages.
    let answer = |session_id: &Id, verifier: &Verifier, tag: Tag| {
        let mut out = [0_u8; 512];
        let token = Token {
            session_id,
            verifier,
            tag,
            has_right_tag: &|| true,
        };
        let found = cache.look_up(&token, NOW, |hit| {
            out[..hit.session.len()].copy_from_slice(hit.session);
            out[118..118 + hit.user.len()].copy_from_slice(hit.user);
        });
        assert_eq!(found, LookUp::Hit(()));
        black_box(&out);
    };
    let empty = nanoseconds_per_hit(&known, |session| {
        _ = black_box((session.id, session.verifier));
    });
    let cached = nanoseconds_per_hit(&known, |session| {
        answer(&session.id, &session.verifier, [9; 8]);
    });
    println!(
        "  hit: {:.0} ns (reading the ids asked for: {empty:.0} ns more)",
        cached - empty
    );
    let whole = nanoseconds_per_hit(&known, |session| {
        let read = ring.read_session_token(&session.token).expect("a token");
        let PresentedSession {
            session_id,
            verifier,
            ..
        } = read.presented();
        answer(session_id, verifier, read.tag());
    });
    println!("  token to answer: {whole:.0} ns");
}

fn main() {
    measure(1_000, 100);
    measure(1_000_000, 100_000);
}
