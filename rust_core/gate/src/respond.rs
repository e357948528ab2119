//! Answers that the gate makes itself.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::body::{Body, Message};
use crate::courtesy;
use crate::refusal::{Refusal, Refusals};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status with its message, which is printable ASCII without `%` and so needs no encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status(&'static str, &'static str);

/// The words of grpc.aio for the same.
pub(crate) const UNIMPLEMENTED: Status = Status("12", "Method not found!");
pub(crate) const UNAVAILABLE: Status = Status("14", "the service cannot be reached");
pub(crate) const DEADLINE_EXCEEDED: Status = Status("4", "Deadline Exceeded");
pub(crate) const TOO_MUCH_METADATA: Status = Status("8", "received metadata size exceeds limit");
pub(crate) const INTERNAL: Status = Status("13", "internal error");

/// Makes a response of headers alone ("Trailers-Only", gRPC over HTTP/2).
pub(crate) fn status(Status(code, message): Status) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(message));
    response
}

/// Makes a response of a refusal, likewise.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.headers_mut() = refusal.headers();
    response
}

/// Makes the response for want of room, and leaves the core to who has the rest.
pub(crate) fn overloaded(refusals: &Refusals) -> Response<Body> {
    courtesy::begin();
    refused(&refusals.overloaded)
}

/// Answers OK with one message, which has its prefix.
pub(crate) fn message(message: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Message(Message::new(message)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Answers HTTP/1.1, for which there is no route.
pub(crate) fn needs_http2() -> Response<Body> {
    let text = Full::new(Bytes::from_static(
        b"there is nothing here for HTTP/1.1: gRPC needs HTTP/2\n",
    ));
    let mut response = Response::new(Body::Text(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let text_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text_type);
    response
}
