//! Reading the message of a request here, up to a bound, so that it can still be passed on.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request};
use tokio::time::timeout;

use crate::body::{Broken, Sent};

/// Who takes longer to send a message has grpc.aio's deadlines.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A request, and what was read of its body.
pub(crate) struct Intake {
    request: Request<Incoming>,
    read: Bytes,
    most: usize,
    state: State,
}

/// How far the body is read.
enum State {
    /// More may come.
    Begun,
    Whole,
    /// It is of no form that is looked at here.
    NotLookedAt,
    Failed(Broken),
}

impl Intake {
    /// Reads what has come of a body, of `most` bytes; nothing of one that is not plain gRPC.
    pub(crate) fn begin(request: Request<Incoming>, most: usize) -> Self {
        let mut intake = Self::unread(request);
        intake.most = most;
        if is_plain(&intake.request) {
            intake.state = State::Begun;
            // Whoever waits for the rest asks again, with a waker.
            let _more = intake.poll_read(&mut Context::from_waker(Waker::noop()));
        }
        intake
    }

    /// Leaves the body alone.
    pub(crate) fn unread(request: Request<Incoming>) -> Self {
        Self {
            request,
            read: Bytes::new(),
            most: 0,
            state: State::NotLookedAt,
        }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The body, once all of it is here.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        matches!(self.state, State::Whole).then_some(&self.read)
    }

    /// Waits for the rest, if there is one to be read; whether there was.
    pub(crate) async fn wait(&mut self) -> bool {
        if !matches!(self.state, State::Begun) {
            return false;
        }
        let read = poll_fn(|context| self.poll_read(context));
        let _late = timeout(READ_TIMEOUT, read).await;
        true
    }

    /// The request, with what was read and the rest as it comes; an error if reading failed.
    pub(crate) fn into_request(self) -> Result<Request<Sent>, Broken> {
        match self.state {
            State::Failed(error) => Err(error),
            _ => Ok(self.request.map(|rest| Sent::begun(self.read, rest))),
        }
    }

    /// Reads until the end, or until there is more than is looked at.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while matches!(self.state, State::Begun) {
            let body = self.request.body_mut();
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else {
                return Poll::Pending;
            };
            let ended = body.is_end_stream();
            self.state = match frame.map(|frame| frame.map(Frame::into_data)) {
                None => State::Whole,
                Some(Ok(Ok(data))) => {
                    self.read = joined(std::mem::take(&mut self.read), data);
                    match (self.read.len() <= self.most, ended) {
                        (true, true) => State::Whole,
                        (true, false) => State::Begun,
                        (false, _) => State::NotLookedAt,
                    }
                }
                // Trailers, which a request of gRPC does not have, are left out.
                Some(Ok(Err(_))) => State::NotLookedAt,
                Some(Err(error)) => State::Failed(Broken::new(error)),
            };
        }
        Poll::Ready(())
    }
}

fn joined(first: Bytes, more: Bytes) -> Bytes {
    if first.is_empty() {
        return more;
    }
    let mut both = BytesMut::from(first);
    both.extend_from_slice(&more);
    both.freeze()
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
