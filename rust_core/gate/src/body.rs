//! The bodies of answers.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderValue};
use tokio::time::Sleep;

use crate::connection::InFlight;
use crate::respond::GRPC_STATUS;

/// Why an answer ended without its end; h2's reason, if there is one, is among its sources.
#[derive(Debug)]
pub(crate) struct Broken(Box<dyn Error + Send + Sync>);

impl Broken {
    pub(crate) fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// What an answer consists of besides its headers.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// A text of the gate's own.
    Text(Full<Bytes>),
    /// What grpc.aio sends, as it comes.
    Passed(Passed),
    /// A message of the gate's own.
    Message(Message),
}

/// A message, until it is sent, and the trailers that say OK after it.
pub(crate) struct Message {
    message: Option<Bytes>,
    ended: bool,
}

impl Message {
    pub(crate) fn new(message: Bytes) -> Self {
        Self {
            message: Some(message),
            ended: false,
        }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(message) = self.message.take() {
            return Some(Frame::data(message));
        }
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        Some(Frame::trailers(trailers))
    }
}

/// The body of a request that is passed on: what was read of it, and the rest as it comes.
pub(crate) struct Sent {
    read: Option<Bytes>,
    rest: Incoming,
}

impl Sent {
    pub(crate) fn begun(read: Bytes, rest: Incoming) -> Self {
        Self {
            read: (!read.is_empty()).then_some(read),
            rest,
        }
    }

    pub(crate) fn unread(rest: Incoming) -> Self {
        Self { read: None, rest }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this.read.take() {
            Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }
}

/// A body of grpc.aio's; dropping it cancels the call there.
pub(crate) struct Passed {
    pub(crate) incoming: Incoming,
    /// When the gate stops waiting for it.
    pub(crate) patience: Option<Pin<Box<Sleep>>>,
    /// Counts the call as long as it lasts.
    pub(crate) _call: InFlight,
}

impl Passed {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            let patience = self.patience.as_mut();
            if patience.is_some_and(|patience| patience.as_mut().poll(context).is_ready()) {
                let cancelled = h2::Error::from(Reason::CANCEL);
                return Poll::Ready(Some(Err(Broken::new(cancelled))));
            }
            return Poll::Pending;
        };
        Poll::Ready(frame.map(|read| read.map_err(Broken::new)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Message(message) => Poll::Ready(message.next().map(Ok)),
            Self::Text(text) => Pin::new(text)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Passed(passed) => passed.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Message(message) => message.ended,
            Self::Text(text) => text.is_end_stream(),
            Self::Passed(passed) => passed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Message(_) => SizeHint::default(),
            Self::Text(text) => text.size_hint(),
            Self::Passed(passed) => passed.incoming.size_hint(),
        }
    }
}
