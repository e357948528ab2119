//! What a session check is answered: at once where that can be, after a read of Python's otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use watchword_core::cache::{Hit, LookUp};
use watchword_core::{KnownChange, PresentedSession, ReadSession};

use crate::lane::{Lane, Moment, is_young};
use crate::message::{self, Batch, Parts};
use crate::misses::Reading;
use crate::refusal::Refusal;
use crate::request::{self, ValidateSession};
use crate::route::Check;

/// What can be said of a check without waiting.
pub(crate) enum Answer {
    /// The encoded answer.
    Ready(Vec<u8>),
    /// A no for ever: a token that was not minted here, or a dead session.
    Refused(Refusal),
    /// The database has to be asked.
    Missing(Missing),
    /// grpc.aio says what is wrong with it.
    NotJudged,
}

/// What was read of a check that waits for the database.
pub(crate) enum Missing {
    /// About one session, whose user may have to have proved the address not so long ago.
    One(Check, PresentedSession, Option<i64>),
    Many(MissingMany),
}

/// A batch, and what is not known of it.
pub(crate) struct MissingMany {
    tokens: Vec<Option<ReadSession>>,
    places: Vec<usize>,
    /// Without a lease nothing is known, and the cache is not needed for the rest.
    leased: bool,
}

/// Answers a body from the cache.
pub(crate) fn at_once(check: Check, body: &[u8], lane: &Lane) -> Answer {
    let answer = match check {
        Check::Sessions => many_at_once(body, lane),
        Check::Session | Check::Roles => one_at_once(check, body, lane),
    };
    answer.unwrap_or(Answer::NotJudged)
}

/// Answers with what Python reads of what is missing; None where grpc.aio has to be asked.
pub(crate) async fn after_read(
    missing: Missing,
    lane: &Lane,
    patience: Duration,
) -> Option<Result<Vec<u8>, Refusal>> {
    let answer = async {
        match missing {
            // A read that begins now knows every change that has a token.
            Missing::One(check, presented, max_auth_age) => {
                Some(read_one(check, presented, max_auth_age, lane).await)
            }
            Missing::Many(missing) => read_many(missing, lane).await,
        }
    };
    timeout(patience, answer)
        .await
        .unwrap_or_else(|_late| Some(Err(lane.refusals.unavailable.clone())))
}

fn one_at_once(check: Check, body: &[u8], lane: &Lane) -> Option<Answer> {
    let OneSession {
        token,
        changes,
        max_auth_age,
    } = one_session(check, body, lane)?;
    let refused = || Answer::Refused(lane.refusals.invalid.clone());
    let Some(token) = token else {
        return Some(refused());
    };
    let found = lane.within_lease(|moment| {
        Some(lane.look_up(&token, moment, |hit| {
            knows(hit, &changes).then(|| {
                let recent = is_recent(hit.auth_time, moment.now(), max_auth_age);
                recent.then(|| write(check, hit.into(), moment.as_of))
            })
        }))
    });
    Some(match found {
        Some(LookUp::Hit(Some(Some(answer)))) => Answer::Ready(answer),
        Some(LookUp::Hit(Some(None))) => {
            Answer::Refused(lane.refusals.reauthentication_needed.clone())
        }
        Some(LookUp::Dead) => refused(),
        None if !lane.keys.has_right_tag(&token) => refused(),
        Some(LookUp::Hit(None) | LookUp::Miss) | None => {
            let presented = token.presented().clone();
            Answer::Missing(Missing::One(check, presented, max_auth_age))
        }
    })
}

async fn read_one(
    check: Check,
    presented: PresentedSession,
    max_auth_age: Option<i64>,
    lane: &Lane,
) -> Result<Vec<u8>, Refusal> {
    let readings = lane.read(&[presented]).await?;
    let Some(reading) = readings.first() else {
        return Err(lane.refusals.unavailable.clone());
    };
    match reading.live() {
        Some(_) if !is_recent(reading.auth_time(), reading.as_of, max_auth_age) => {
            Err(lane.refusals.reauthentication_needed.clone())
        }
        Some(parts) => Ok(write(check, parts, reading.as_of)),
        None => Err(lane.refusals.invalid.clone()),
    }
}

/// What a request about one session asks.
struct OneSession {
    /// None of a token that was not minted here, as far as that is seen without its tag.
    token: Option<ReadSession>,
    /// What the answer has to have in it.
    changes: Vec<KnownChange>,
    max_auth_age: Option<i64>,
}

fn one_session(check: Check, body: &[u8], lane: &Lane) -> Option<OneSession> {
    let message = request::message_of(body)?;
    let asked = if check == Check::Roles {
        ValidateSession {
            token: request::get_roles(message)?,
            changes: None,
            max_auth_age: None,
        }
    } else {
        request::validate_session(message)?
    };
    let changes = match asked.changes {
        Some(changes) => lane.keys.parse_change_token(changes)?,
        None => Vec::new(),
    };
    Some(OneSession {
        token: lane.keys.read_session_token(asked.token),
        changes,
        max_auth_age: asked.max_auth_age,
    })
}

/// Whether the user proved the address no longer ago than asked; microseconds.
fn is_recent(auth_time: i64, now: i64, max_auth_age: Option<i64>) -> bool {
    max_auth_age.is_none_or(|age| now.saturating_sub(auth_time) <= age)
}

fn write(check: Check, parts: Parts<'_>, as_of: i64) -> Vec<u8> {
    if check == Check::Roles {
        message::roles(parts, as_of)
    } else {
        message::validated(parts, as_of)
    }
}

/// Whether an answer has these changes in it; of any but the user's own this cache cannot say.
fn knows(hit: &Hit<'_>, changes: &[KnownChange]) -> bool {
    changes.iter().all(|change| {
        change.kind == KnownChange::USER
            && change.id == *hit.user_id
            && hit.version >= change.version
            && hit.epoch >= change.epoch
    })
}

/// What was read for a batch, by place.
type Readings = HashMap<usize, Arc<Reading>>;

fn many_at_once(body: &[u8], lane: &Lane) -> Option<Answer> {
    let tokens = many_sessions(body, lane)?;
    let nothing = Readings::new();
    let known = lane.within_lease(|moment| Some(write_many(&tokens, &nothing, Some(moment), lane)));
    let leased = known.is_some();
    match known.unwrap_or_else(|| write_many(&tokens, &nothing, None, lane)) {
        Ok(answer) => answer.map(Answer::Ready),
        Err(places) => Some(Answer::Missing(Missing::Many(MissingMany {
            tokens,
            places,
            leased,
        }))),
    }
}

async fn read_many(missing: MissingMany, lane: &Lane) -> Option<Result<Vec<u8>, Refusal>> {
    let MissingMany {
        tokens,
        places,
        leased,
    } = missing;
    let sessions: Vec<PresentedSession> = places
        .iter()
        .filter_map(|&at| tokens.get(at)?.as_ref())
        .map(|token| token.presented().clone())
        .collect();
    let readings: Readings = match lane.read(&sessions).await {
        Ok(readings) => places.into_iter().zip(readings).collect(),
        Err(refusal) => return Some(Err(refusal)),
    };
    // What was known and is not any more makes a batch that grpc.aio answers.
    let written = if leased {
        lane.within_lease(|moment| write_many(&tokens, &readings, Some(moment), lane).ok())
    } else {
        write_many(&tokens, &readings, None, lane).ok()
    };
    // As the last step: this thread may have been stopped meanwhile.
    let young = readings.values().all(|reading| is_young(reading));
    written.flatten().filter(|_| young).map(Ok)
}

/// The tokens of a batch, None for one that was not minted here, as far as that is seen without tags.
fn many_sessions(body: &[u8], lane: &Lane) -> Option<Vec<Option<ReadSession>>> {
    let tokens = request::batch_validate_sessions(request::message_of(body)?)?;
    let read = |token| lane.keys.read_session_token(token);
    Some(tokens.into_iter().map(read).collect())
}

/// Writes a batch of what is known; the places of what is missing otherwise. None if no time can be
/// given, since nothing was looked up.
fn write_many(
    tokens: &[Option<ReadSession>],
    readings: &Readings,
    moment: Option<Moment>,
    lane: &Lane,
) -> Result<Option<Vec<u8>>, Vec<usize>> {
    let mut batch = Batch::new(tokens.len());
    let mut missing = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(token) = token else {
            batch.refused();
            continue;
        };
        match (readings.get(&at), moment) {
            (Some(reading), _) => match reading.live() {
                Some(parts) => batch.live(parts),
                None => batch.refused(),
            },
            (None, None) if lane.keys.has_right_tag(token) => missing.push(at),
            (None, None) => batch.refused(),
            (None, Some(moment)) => {
                match lane.look_up(token, moment, |hit| batch.live(hit.into())) {
                    LookUp::Hit(()) => {}
                    LookUp::Dead => batch.refused(),
                    LookUp::Miss => missing.push(at),
                }
            }
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let read = readings.values().map(|reading| reading.as_of);
    let as_of = read.chain(moment.map(|moment| moment.as_of)).min();
    Ok(as_of.map(|as_of| batch.ended(as_of)))
}
