//! Answering a session check here, and passing on what cannot be.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout};

use crate::body::{Body, Broken, Sent};
use crate::call::pass_on;
use crate::check::{self, Answer, Missing};
use crate::connection::{InFlight, Shared};
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

/// A session check under way.
pub(crate) struct Asked {
    check: Check,
    request: Request<Incoming>,
    is_caller: bool,
    /// What was read of the body.
    read: Bytes,
    body: Reading,
    missing: Option<Missing>,
}

/// How far the body is read.
enum Reading {
    /// More may come.
    Begun,
    Whole,
    /// It is of no form that is looked at, or nobody's who may be answered.
    NotLookedAt,
    Failed(Broken),
}

impl Asked {
    /// Looks at who asks, and reads what has come of the body.
    pub(crate) fn begin(check: Check, request: Request<Incoming>, lane: &Lane) -> Self {
        let may_validate = lane.may_validate(request.headers());
        let looked_at = may_validate == Some(true) && is_plain(&request);
        let mut asked = Self {
            check,
            request,
            is_caller: may_validate.is_some(),
            read: Bytes::new(),
            body: Reading::NotLookedAt,
            missing: None,
        };
        if looked_at {
            asked.body = Reading::Begun;
            // Whoever waits for the rest asks again, with a waker.
            let _more = asked.poll_read(&mut Context::from_waker(Waker::noop()));
        }
        asked
    }

    /// The answer, where nothing has to be waited for; notes what is missing.
    pub(crate) fn at_once(&mut self, lane: &Lane) -> Option<Response<Body>> {
        if !matches!(self.body, Reading::Whole) {
            return None;
        }
        match check::at_once(self.check, &self.read, lane) {
            Answer::Ready(answer) => Some(respond::message(Bytes::from(answer))),
            Answer::Refused(refusal) => Some(respond::refused(&refusal)),
            // Most of what comes then is refused, and should cost no more than a hit.
            Answer::Missing(_) if lane.misses.is_full() => {
                Some(respond::refused(&lane.refusals.overloaded))
            }
            Answer::Missing(missing) => {
                self.missing = Some(missing);
                None
            }
            Answer::NotJudged => None,
        }
    }

    /// The answer from the cache, by a read of Python's, or by grpc.aio.
    pub(crate) async fn later(
        mut self,
        call: InFlight,
        lane: &Lane,
        shared: &Shared,
    ) -> Result<Response<Body>, Broken> {
        let began = Instant::now();
        if matches!(self.body, Reading::Begun) {
            let read = poll_fn(|context| self.poll_read(context));
            // Who takes longer to send a token has grpc.aio's deadlines.
            let _late = timeout(READ_TIMEOUT, read).await;
            if let Some(answer) = self.at_once(lane) {
                return Ok(answer);
            }
        }
        if let Reading::Failed(error) = self.body {
            return Err(error);
        }
        if let Some(missing) = self.missing {
            let patience = database_budget(self.request.headers(), began.elapsed());
            match check::after_read(missing, lane, patience).await {
                Some(Ok(answer)) => return Ok(respond::message(Bytes::from(answer))),
                Some(Err(refusal)) => return Ok(respond::refused(&refusal)),
                None => {}
            }
        }
        let request = self.request.map(|rest| Sent::begun(self.read, rest));
        pass_on(request, call, self.is_caller, lane, shared).await
    }

    /// Reads until the end, or until there is more than is looked at.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let most = match self.check {
            Check::Sessions => BATCH_LOOKED_AT_BYTES,
            Check::Session | Check::Roles => LOOKED_AT_BYTES,
        };
        while matches!(self.body, Reading::Begun) {
            let body = self.request.body_mut();
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else {
                return Poll::Pending;
            };
            let ended = body.is_end_stream();
            self.body = match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                None => Reading::Whole,
                Some(Ok(Ok(data))) => {
                    self.read = joined(std::mem::take(&mut self.read), data);
                    match (self.read.len() <= most, ended) {
                        (true, true) => Reading::Whole,
                        (true, false) => Reading::Begun,
                        (false, _) => Reading::NotLookedAt,
                    }
                }
                // Trailers, which a request of gRPC does not have, are left out.
                Some(Ok(Err(_))) => Reading::NotLookedAt,
                Some(Err(error)) => Reading::Failed(Broken::new(error)),
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

/// What a call may spend on the database that has taken so long already.
fn database_budget(headers: &HeaderMap, passed: Duration) -> Duration {
    let margin = ANSWER_MARGIN.saturating_add(passed);
    let left = headers::timeout(headers).map(|given| given.saturating_sub(margin));
    left.unwrap_or(DATABASE_BUDGET).min(DATABASE_BUDGET)
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
