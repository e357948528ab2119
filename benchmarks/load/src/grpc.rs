//! Unary calls over HTTP/2 with nothing between: a client's cost is no part of what is measured.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, client};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, Request, Response, Uri};
use tokio::net::TcpStream;

use crate::answer::{Answer, judge};
use crate::job::Expect;
use crate::pace::Caller;
use crate::sessions::Session;

/// Wide enough never to be waited for.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;
/// Of an answer; session checks have some 300 bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What all calls have in common.
#[derive(Debug)]
pub struct Calls {
    uri: Uri,
    headers: HeaderMap,
    sessions: Arc<Vec<Session>>,
    expect: Expect,
}

impl Calls {
    /// Prepares calls of one method.
    pub fn new(
        method: &str,
        authorization: &str,
        timeout: Duration,
        sessions: Arc<Vec<Session>>,
        expect: Expect,
    ) -> Result<Self, String> {
        let path = Uri::builder()
            .scheme("http")
            .authority("localhost")
            .path_and_query(method);
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let headers = [
            (TE, HeaderValue::from_static("trailers")),
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (AUTHORIZATION, value(authorization)?),
            (
                "grpc-timeout".parse().map_err(told)?,
                value(&format!("{}m", timeout.as_millis()))?,
            ),
        ];
        Ok(Self {
            uri: path.build().map_err(|error| error.to_string())?,
            headers: headers.into_iter().collect(),
            sessions,
            expect,
        })
    }
}

/// One stream at a time of a connection that others share.
#[derive(Debug, Clone)]
pub struct Stream {
    calls: Arc<Calls>,
    send: SendRequest<Bytes>,
}

impl Stream {
    /// Opens a connection; a task of the runtime serves it until it or the process ends.
    pub async fn connect(target: &str, calls: Arc<Calls>) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("no connection to {target}: {error}");
        let socket = TcpStream::connect(target)
            .await
            .map_err(|error| failed(&error))?;
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        let (send, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(socket)
            .await
            .map_err(|error| failed(&error))?;
        // What ends the connection ends its calls as well, and they tell it.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { calls, send })
    }

    async fn answer(&mut self, session: &Session) -> Result<(Answer, usize), h2::Error> {
        std::future::poll_fn(|context| self.send.poll_ready(context)).await?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.calls.uri.clone();
        *request.headers_mut() = self.calls.headers.clone();
        let (response, mut body) = self.send.send_request(request, false)?;
        body.send_data(session.request.clone(), true)?;
        let mut response = response.await?;
        if !response.status().is_success() {
            return Ok((
                Answer::Refused(format!("HTTP {}", response.status().as_u16())),
                0,
            ));
        }
        let Some(message) = whole(response.body_mut()).await? else {
            return Ok((Answer::Wrong, ANSWER_BYTES_MAX));
        };
        let trailers = response.body_mut().trailers().await?;
        match status(&response, trailers.as_ref()) {
            Some(b"0") => {
                let answer = judge(&message, &session.user_ids, self.calls.expect);
                Ok((answer, message.len().saturating_sub(5)))
            }
            Some(status) => Ok((Answer::Refused(String::from_utf8_lossy(status).into()), 0)),
            None => Ok((Answer::Refused("no status".into()), 0)),
        }
    }
}

impl Caller for Stream {
    async fn call(&mut self, line: usize) -> Result<(Answer, usize), String> {
        let calls = Arc::clone(&self.calls);
        let session = calls.sessions.get(line).ok_or("no such session")?;
        match self.answer(session).await {
            // One call has ended; an end of the connection ends the run.
            Err(error) if error.is_reset() => Ok((Answer::Refused(told(error)), 0)),
            answered => answered.map_err(|error| format!("a connection has ended: {error}")),
        }
    }
}

/// The body, as it is when it came in one frame; None when it is too long.
async fn whole(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let mut message = Bytes::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message = match message.len() + data.len() {
            ANSWER_BYTES_MAX.. => return Ok(None),
            _ if message.is_empty() => data,
            _ => {
                let mut both = BytesMut::from(message);
                both.extend_from_slice(&data);
                both.freeze()
            }
        };
    }
    Ok(Some(message))
}

/// Of the trailers, or of the headers of an answer that is nothing else.
fn status<'a>(
    response: &'a Response<RecvStream>,
    trailers: Option<&'a HeaderMap>,
) -> Option<&'a [u8]> {
    let found = trailers.unwrap_or(response.headers()).get("grpc-status");
    found.map(HeaderValue::as_bytes)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
