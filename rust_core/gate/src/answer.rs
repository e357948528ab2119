//! Answering a session check here, and passing on what cannot be.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request, Response};
use tokio::time::timeout;

use crate::body::{Body, Broken, Sent};
use crate::check::{self, Answer};
use crate::connection::{InFlight, Shared, pass_on};
use crate::lane::Lane;
use crate::route::Check;
use crate::settings::{ANSWER_MARGIN, DATABASE_BUDGET};
use crate::{headers, respond};

/// The longest request about one session that is looked at: a session token and a change token.
const LOOKED_AT_BYTES: usize = 512;
/// The same for a batch: its session tokens have 79 characters.
const BATCH_LOOKED_AT_BYTES: usize = 32 * 1024;
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Answers a session check from the cache or by a read of Python's, or has grpc.aio answer it.
pub(crate) async fn answer_check(
    check: Check,
    request: Request<Incoming>,
    call: InFlight,
    lane: &Lane,
    shared: &Shared,
) -> Result<Response<Body>, Broken> {
    let may_validate = lane.may_validate(request.headers());
    let plain = is_plain(&request) && may_validate == Some(true);
    let (head, mut incoming) = request.into_parts();
    let mut read = BytesMut::new();
    // Who takes longer to send a token has grpc.aio's deadlines.
    let whole = plain
        && timeout(READ_TIMEOUT, read_start(check, &mut incoming, &mut read))
            .await
            .unwrap_or(Ok(false))?;
    let read = read.freeze();
    if whole {
        match check::at_once(check, &read, lane) {
            Answer::Ready(answer) => return Ok(respond::message(Bytes::from(answer))),
            Answer::Refused(refusal) => return Ok(respond::refused(&refusal)),
            Answer::Missing => {
                let patience = database_budget(&head.headers);
                // Apart, so that a hit does not carry the room that a miss needs.
                let missed = Box::pin(check::after_read(check, &read, lane, patience)).await;
                match missed {
                    Some(Ok(answer)) => return Ok(respond::message(Bytes::from(answer))),
                    Some(Err(refusal)) => return Ok(respond::refused(&refusal)),
                    None => {}
                }
            }
            Answer::NotJudged => {}
        }
    }
    let request = Request::from_parts(head, Sent::begun(read, incoming));
    Box::pin(pass_on(request, call, may_validate.is_some(), lane, shared)).await
}

/// What a call may spend on the database.
fn database_budget(headers: &HeaderMap) -> Duration {
    let left = headers::timeout(headers).map(|left| left.saturating_sub(ANSWER_MARGIN));
    left.unwrap_or(DATABASE_BUDGET).min(DATABASE_BUDGET)
}

/// Reads until the end, or until there is more than is looked at; whether that was the end.
async fn read_start(
    check: Check,
    incoming: &mut Incoming,
    read: &mut BytesMut,
) -> Result<bool, Broken> {
    let most = match check {
        Check::Sessions => BATCH_LOOKED_AT_BYTES,
        Check::Session | Check::Roles => LOOKED_AT_BYTES,
    };
    while read.len() <= most {
        match incoming.frame().await {
            None => return Ok(true),
            Some(Err(error)) => return Err(Broken::new(error)),
            // Trailers, which a request of gRPC does not have, are left out.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(_) => return Ok(false),
            },
        }
    }
    Ok(false)
}

fn is_plain(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.method() == Method::POST
        && headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value == "application/grpc" || value == "application/grpc+proto")
        && headers
            .get(GRPC_ENCODING)
            .is_none_or(|value| value == "identity")
}
