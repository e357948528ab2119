//! What the cache answers, case by case.
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod answers;
mod changes;
mod lifetimes;
mod room;

use watchword_core::cache::{Cache, Change, Fill, LookUp, SessionFill, Settings, Token, UserFill};
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
