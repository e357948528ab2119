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
use crate::respond;
use crate::upstream::Upstream;
use crate::validate::token_of;

/// The longest request that is looked at: a token, its prefix, and room to spare.
const LOOKED_AT_BYTES: usize = 256;
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Answers `ValidateSession` from the cache, or has grpc.aio answer it.
pub(crate) async fn validate_session(
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
        && timeout(READ_TIMEOUT, read_start(&mut incoming, &mut read))
            .await
            .unwrap_or(Ok(false))?;
    let read = read.freeze();
    if whole && let Some(answer) = token_of(&read).and_then(|token| lane.validate(token)) {
        return Ok(respond::message(Bytes::from(answer.0)));
    }
    let request = Request::from_parts(head, Sent::begun(read, incoming));
    upstream.pass_on(request, call).await
}

/// Reads until the end, or until there is more than a token needs; whether that was the end.
async fn read_start(incoming: &mut Incoming, read: &mut BytesMut) -> Result<bool, Broken> {
    while read.len() <= LOOKED_AT_BYTES {
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
