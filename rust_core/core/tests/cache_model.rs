//! The cache against a small database: random changes, late and repeated news of them, reads that
//! take their time, evictions, and the clock.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_wrap,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use watchword_core::cache::{
    Cache, Change, Fill, LookUp, MAX_AGE, SessionFill, Settings, Ticket, Token, UserFill,
};
use watchword_core::{Id, Verifier};

const SECOND: i64 = 1_000_000;
const USERS: usize = 3;
const SESSIONS: usize = 6;
const PREVIOUS_KEPT: i64 = 30 * SECOND;

#[derive(Clone, Copy, Debug)]
enum Step {
    Revoke(usize),
    Refresh(usize),
    LogOut(usize),
    Rename(usize),
    ChangeRole,
    Apply(usize),
    Begin(usize),
    Finish(usize),
    Ask(usize, u8),
    Clear,
    Wait(i64),
}

#[derive(Clone, Copy)]
struct Session {
    epoch: i64,
    revoked: bool,
    secret: u8,
    previous_end: i64,
    expire: i64,
}

#[derive(Clone)]
struct Database {
    now: i64,
    roles: i64,
    versions: [i64; USERS],
    epochs: [i64; USERS],
    sessions: [Session; SESSIONS],
}

/// What an answer must not be older than: the database as it was at each change that was applied.
struct World {
    cache: Cache,
    database: Database,
    changes: Vec<(Change, Database)>,
    applied: Vec<usize>,
    reads: Vec<(usize, Ticket, Database)>,
}

fn user_id(user: usize) -> Id {
    [100 + u8::try_from(user).unwrap(); 16]
}

fn session_id(session: usize) -> Id {
    [u8::try_from(session).unwrap(); 16]
}

fn verifier(secret: u8) -> Verifier {
    [secret; 32]
}

impl Database {
    /// Whether a yes is true to what was known here; a secret from later is not known to be wrong.
    fn lives(&self, session: usize, secret: u8, now: i64) -> bool {
        let row = &self.sessions[session];
        let previous = secret.wrapping_add(1) == row.secret && now < row.previous_end;
        !self.is_dead(session, now) && (secret >= row.secret || previous)
    }

    fn is_dead(&self, session: usize, now: i64) -> bool {
        let row = &self.sessions[session];
        row.revoked || now >= row.expire || row.epoch < self.epochs[session % USERS]
    }
}

impl World {
    fn new(bytes_max: usize) -> Self {
        let now = 1_000 * SECOND;
        let session = |end| Session {
            epoch: 1,
            revoked: false,
            secret: 1,
            previous_end: 0,
            expire: now + end,
        };
        let sessions =
            [1, 2, 3, 1_000, 1_001, 1_002].map(|minutes: i64| session(minutes * 60 * SECOND));
        let database = Database {
            now,
            roles: 1,
            versions: [1; USERS],
            epochs: [1; USERS],
            sessions,
        };
        let cache = Cache::new(Settings {
            shards: 1,
            floor_kept: 2 * SECOND,
            ..Settings::new(bytes_max, i64::MAX)
        });
        Self {
            cache,
            database,
            changes: Vec::new(),
            applied: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn changed_user(&mut self, user: usize) {
        self.database.versions[user] += 1;
        let (version, epoch) = (self.database.versions[user], self.database.epochs[user]);
        let change = Change::User {
            user_id: user_id(user),
            version,
            epoch,
        };
        self.changes.push((change, self.database.clone()));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Revoke(session) => {
                self.database.sessions[session].revoked = true;
                self.changed_user(session % USERS);
            }
            Step::Refresh(session) => {
                let now = self.database.now;
                let row = &mut self.database.sessions[session];
                row.secret += 1;
                row.previous_end = now + PREVIOUS_KEPT;
                self.changed_user(session % USERS);
            }
            Step::LogOut(user) => {
                self.database.epochs[user] += 1;
                self.changed_user(user);
            }
            Step::Rename(user) => self.changed_user(user),
            Step::ChangeRole => {
                self.database.roles += 1;
                let change_id = u128::try_from(self.database.roles).unwrap().to_be_bytes();
                self.changes
                    .push((Change::Role { change_id }, self.database.clone()));
            }
            // In any order, and any number of times.
            Step::Apply(which) if !self.changes.is_empty() => {
                let which = which % self.changes.len();
                self.cache.apply(&self.changes[which].0, self.database.now);
                self.applied.push(which);
            }
            Step::Begin(session) => {
                let ticket = self.cache.begin_fill(self.database.now);
                self.reads.push((session, ticket, self.database.clone()));
            }
            Step::Finish(which) if !self.reads.is_empty() => {
                let (session, ticket, read) = self.reads.swap_remove(which % self.reads.len());
                self.finish(session, ticket, &read);
            }
            Step::Ask(session, back) => self.ask(session, back),
            Step::Clear => {
                // As after a gap: whatever was missed counts as applied.
                self.cache.clear();
                self.applied.extend(0..self.changes.len());
            }
            Step::Wait(time) => self.database.now += time,
            Step::Apply(_) | Step::Finish(_) => (),
        }
    }

    fn finish(&self, session: usize, ticket: Ticket, read: &Database) {
        let now = self.database.now;
        if read.is_dead(session, read.now) {
            self.cache.fill_dead(ticket, session_id(session), now);
            return;
        }
        let (row, user) = (&read.sessions[session], session % USERS);
        let stamp = [read.versions[user], read.roles, read.now]
            .map(i64::to_be_bytes)
            .concat();
        let fill = Fill {
            user: UserFill {
                id: user_id(user),
                version: read.versions[user],
                epoch: read.epochs[user],
                end: row.expire - SECOND,
                message: &stamp,
                roles: b"roles",
            },
            session: SessionFill {
                id: session_id(session),
                verifier: verifier(row.secret),
                previous: Some((verifier(row.secret - 1), row.previous_end)),
                auth_time: 0,
                expire: row.expire,
                epoch: row.epoch,
                last_seen: 0,
                message: &stamp,
            },
        };
        self.cache.fill(ticket, &fill, now);
    }

    fn ask(&self, session: usize, back: u8) {
        let (now, user) = (self.database.now, session % USERS);
        let secret = self.database.sessions[session].secret.saturating_sub(back);
        let token = Token {
            session_id: &session_id(session),
            verifier: &verifier(secret),
            tag: [secret; 8],
            has_right_tag: &|| true,
        };
        let found = self.cache.look_up(&token, now, |hit| {
            assert_eq!(*hit.user_id, user_id(user));
            [hit.session, hit.user].map(|stamp| {
                let part = |at: usize| i64::from_be_bytes(stamp[at..at + 8].try_into().unwrap());
                [part(0), part(8), part(16)]
            })
        });
        match found {
            LookUp::Hit([seen, shown]) => {
                for (change, then) in self.applied.iter().map(|which| &self.changes[*which]) {
                    match change {
                        Change::User { user_id: id, .. } if *id == user_id(user) => {
                            let lives = then.lives(session, secret, now);
                            assert!(lives, "a yes that a change made false");
                            let version = then.versions[user];
                            assert!(seen[0] >= version, "a session from before a change");
                            assert!(shown[0] >= version, "a user from before a change");
                        }
                        Change::Role { .. } => {
                            assert!(shown[1] >= then.roles, "roles from before a change");
                        }
                        _ => (),
                    }
                }
                assert!(now < self.database.sessions[session].expire);
                assert!(now - seen[2] < MAX_AGE && now - shown[2] < MAX_AGE);
            }
            LookUp::Dead => {
                assert!(
                    self.database.is_dead(session, now),
                    "a no that is not for ever"
                );
            }
            LookUp::Miss => (),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..SESSIONS).prop_map(Step::Revoke),
        1 => (0..SESSIONS).prop_map(Step::Refresh),
        1 => (0..USERS).prop_map(Step::LogOut),
        2 => (0..USERS).prop_map(Step::Rename),
        1 => Just(Step::ChangeRole),
        5 => any::<usize>().prop_map(Step::Apply),
        8 => (0..SESSIONS).prop_map(Step::Begin),
        8 => any::<usize>().prop_map(Step::Finish),
        12 => (0..SESSIONS, 0_u8..3).prop_map(|(session, back)| Step::Ask(session, back)),
        1 => Just(Step::Clear),
        3 => (0..20 * SECOND).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// No hit gives what an applied change made false, and no no is given that is not for ever.
    #[test]
    fn the_cache_says_nothing_false(
        steps in prop::collection::vec(step(), 1..120),
        bytes_max in prop_oneof![Just(1_usize << 20), 1_000..3_000_usize],
    ) {
        let mut world = World::new(bytes_max);
        for step in steps {
            world.step(step);
        }
    }
}
