//! Passing a call on: one HTTP/2 connection to grpc.aio, made again when it has broken.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use h2::Reason;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::http::uri::{Authority, Parts, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::body::{Body, Broken, Passed, Sent};
use crate::connection::InFlight;
use crate::events::{EventKind, Events};
use crate::room::Place;
use crate::settings::{
    CONNECT_TIMEOUT, DEADLINE_GRACE, STREAM_WINDOW_BYTES, UPSTREAM_HEADERS_MAX_BYTES,
    UPSTREAM_WINDOW_BYTES,
};
use crate::{headers, respond};

/// grpc.aio's socket, and the connection to it while there is one.
pub(crate) struct Upstream {
    path: PathBuf,
    connection: Mutex<Option<SendRequest<Sent>>>,
    events: Arc<Events>,
}

impl Upstream {
    pub(crate) fn new(path: PathBuf, events: Arc<Events>) -> Self {
        Self {
            path,
            connection: Mutex::new(None),
            events,
        }
    }

    /// Passes a call on and gives the answer as it begins; the body follows as it comes.
    ///
    /// Dropping this, or the answer's body, cancels the call. An error resets the client's stream
    /// for the reason that grpc.aio gave.
    pub(crate) async fn pass_on(
        &self,
        mut request: Request<Sent>,
        call: InFlight,
        place: Option<Place>,
    ) -> Result<Response<Body>, Broken> {
        let mut patience = headers::timeout(request.headers())
            .map(|deadline| Box::pin(sleep(deadline.saturating_add(DEADLINE_GRACE))));
        headers::clean_request(request.headers_mut());
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = with_authority(uri)?;
        let answered = match patience.as_mut() {
            None => self.send(request).await,
            Some(patience) => tokio::select! {
                biased;
                answered = self.send(request) => answered,
                () = patience => return Ok(respond::status(respond::DEADLINE_EXCEEDED)),
            },
        };
        match answered {
            Ok(answer) => {
                // The answers of what needs a place are one message: with its head it is over
                // there, and how fast the client reads it is nobody's concern.
                if let Some(place) = place {
                    place.leave();
                }
                let (mut parts, incoming) = answer.into_parts();
                headers::clean_response(&mut parts.headers);
                let body = Body::Passed(Passed {
                    incoming,
                    patience,
                    _call: call,
                });
                Ok(Response::from_parts(parts, body))
            }
            Err(error) if reset_reason(&error).is_some() => Err(error),
            Err(_) => Ok(respond::status(respond::UNAVAILABLE)),
        }
    }

    /// Sends a request, once more on a new connection if the old one ended before it took it.
    async fn send(&self, request: Request<Sent>) -> Result<Response<Incoming>, Broken> {
        let mut connection = self.connection().await?;
        match connection.try_send_request(request).await {
            Ok(answer) => Ok(answer),
            Err(mut failed) => match failed.take_message() {
                Some(request) => {
                    let mut connection = self.connection().await?;
                    connection.send_request(request).await.map_err(Broken::new)
                }
                None => Err(Broken::new(failed.into_error())),
            },
        }
    }

    /// Gives the connection, a new one if there is none; calls that need one wait for the same.
    async fn connection(&self) -> Result<SendRequest<Sent>, Broken> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.events.push(EventKind::UpstreamLost, error.to_string());
                return Err(error);
            }
            Err(late) => {
                self.events
                    .push(EventKind::UpstreamLost, "connecting took too long");
                return Err(Broken::new(late));
            }
        };
        *slot = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(&self) -> Result<SendRequest<Sent>, Broken> {
        let stream = UnixStream::connect(&self.path).await.map_err(Broken::new)?;
        let (sender, driver) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(UPSTREAM_WINDOW_BYTES)
            .max_header_list_size(UPSTREAM_HEADERS_MAX_BYTES)
            // An answer that comes when its call was cancelled is an error of the stream for h2,
            // which would end the connection, and every client's calls, at the 1,024th.
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Broken::new)?;
        let events = Arc::clone(&self.events);
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                events.push(EventKind::UpstreamLost, error.to_string());
            }
        });
        Ok(sender)
    }
}

/// Completes a URI for HTTP/2, which sends scheme and authority beside the path.
fn with_authority(uri: Uri) -> Result<Uri, Broken> {
    let mut parts: Parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    let authority = parts.authority.take();
    parts.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
    Uri::from_parts(parts).map_err(Broken::new)
}

/// Finds for what reason the peer reset the stream; None if the connection is what ended.
fn reset_reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(broken) = current.downcast_ref::<h2::Error>() {
            return broken.reason().filter(|_| broken.is_reset());
        }
        cause = current.source();
    }
    None
}
