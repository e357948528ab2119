//! Answering a session check here, and passing on what cannot be.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request, Response};
use tokio::time::timeout;

use crate::body::{Body, Broken, Sent};
use crate::connection::InFlight;
use crate::lane::Lane;
use crate::route::Check;
use crate::upstream::Upstream;
use crate::{request, respond};

/// The longest request about one session that is looked at: a session token and a change token.
const LOOKED_AT_BYTES: usize = 512;
/// The same for a batch: its session tokens have 79 characters.
const BATCH_LOOKED_AT_BYTES: usize = 32 * 1024;
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Answers a session check from the cache, or has grpc.aio answer it.
pub(crate) async fn answer_check(
    check: Check,
    request: Request<Incoming>,
    call: InFlight,
    lane: &Lane,
    upstream: &Upstream,
) -> Result<Response<Body>, Broken> {
    let plain = is_plain(&request) && may_validate(request.headers(), lane);
    let (head, mut incoming) = request.into_parts();
    let mut read = BytesMut::new();
    // Who takes longer to send a token has grpc.aio's deadlines.
    let whole = plain
        && timeout(READ_TIMEOUT, read_start(check, &mut incoming, &mut read))
            .await
            .unwrap_or(Ok(false))?;
    let read = read.freeze();
    if whole && let Some(answer) = from_cache(check, &read, lane) {
        return Ok(respond::message(Bytes::from(answer)));
    }
    let request = Request::from_parts(head, Sent::begun(read, incoming));
    upstream.pass_on(request, call).await
}

fn from_cache(check: Check, body: &[u8], lane: &Lane) -> Option<Vec<u8>> {
    let message = request::message_of(body)?;
    match check {
        Check::Session => {
            let (token, min_change_token) = request::validate_session(message)?;
            lane.validate(token, min_change_token)
        }
        Check::Sessions => lane.validate_batch(&request::batch_validate_sessions(message)?),
        Check::Roles => lane.roles(request::get_roles(message)?),
    }
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

/// Whether there is exactly one credential, and it is one of a caller that may validate.
fn may_validate(headers: &HeaderMap, lane: &Lane) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return false;
    };
    let Some((scheme, credential)) = only.to_str().ok().and_then(|text| text.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && lane.may_validate(credential)
}
