//! One connection of a client: which protocol, which limits, and when it has to go.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::call::Answering;
use crate::credential::LastCredential;
use crate::events::Events;
use crate::guard::caught;
use crate::lane::Lane;
use crate::room::Room;
use crate::route::Routes;
use crate::settings::{
    AGE_GRACE, CONNECTION_WINDOW_BYTES, ERROR_RESETS_MAX, HEAD_TIMEOUT, HEADERS_READ_MAX_BYTES,
    HTTP1_BUFFER_MAX_BYTES, PENDING_RESETS_MAX, PING_INTERVAL, PING_TIMEOUT, SEND_BUFFER_MAX_BYTES,
    STREAM_WINDOW_BYTES, STREAMS_MAX,
};
use crate::unary::UnaryCalls;
use crate::upstream::Upstream;
use crate::wire::Wire;

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE_BYTES: u64 = 24;

/// What all connections of a listener share.
pub(crate) struct Shared {
    pub(crate) routes: Routes,
    pub(crate) upstream: Upstream,
    pub(crate) room: Room,
    pub(crate) lane: Option<Arc<Lane>>,
    pub(crate) unary: Option<Arc<UnaryCalls>>,
    pub(crate) events: Arc<Events>,
    pub(crate) idle_max: Duration,
    pub(crate) age_max: Duration,
}

/// How far the gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It accepts.
    Serving,
    /// Calls in flight may finish.
    Draining,
    /// They had their time.
    Cut,
}

/// The calls of one connection.
struct Calls {
    in_flight: AtomicUsize,
    last_end: Mutex<Instant>,
    last_credential: LastCredential,
}

/// Counts one call until it is dropped.
pub(crate) struct InFlight(Arc<Calls>);

impl InFlight {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }

    pub(crate) fn last_credential(&self) -> &LastCredential {
        &self.0.last_credential
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut last_end = self
            .0
            .last_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last_end = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    fn idle_since(&self) -> Option<Instant> {
        let last_end = *self.last_end.lock().unwrap_or_else(PoisonError::into_inner);
        (self.in_flight.load(Ordering::Relaxed) == 0).then_some(last_end)
    }
}

/// Serves a connection until it ends, is too old or idle, or the gate stops.
#[allow(
    clippy::arithmetic_side_effects,
    reason = "instants of this boot and durations of hours at most are far from their ends"
)]
pub(crate) async fn serve<S>(stream: S, shared: Arc<Shared>, mut stopping: watch::Receiver<Stage>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Instant::now();
    let (wire, stream) = Wire::new(stream);
    let calls = Arc::new(Calls {
        in_flight: AtomicUsize::new(0),
        last_end: Mutex::new(began),
        last_credential: LastCredential::default(),
    });
    let builder = builder(&shared.events);
    let service = service_fn(|request| Answering::begin(request, InFlight::begin(&calls), &shared));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut seen = Stage::Serving;
    let mut aged = false;
    let mut wake = began + HEAD_TIMEOUT.min(shared.idle_max).min(shared.age_max);
    loop {
        tokio::select! {
            // What went wrong is the client's to know.
            _ = poll_fn(|context| wire.poll(context, |context| connection.as_mut().poll(context))) => return,
            stage = stopping.wait_for(|&stage| stage != seen) => {
                let Ok(Stage::Draining) = stage.map(|stage| *stage) else { return };
                seen = Stage::Draining;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(wake) => {
                let now = Instant::now();
                let head_end = began + HEAD_TIMEOUT;
                if aged || now >= head_end && said_nothing(wire.read_bytes()) {
                    return;
                }
                let idle_end = calls.idle_since().unwrap_or(now) + shared.idle_max;
                let age_end = began + shared.age_max;
                if now >= idle_end || now >= age_end {
                    aged = true;
                    connection.as_mut().graceful_shutdown();
                    wake = now + AGE_GRACE;
                } else {
                    wake = idle_end.min(age_end);
                    if now < head_end {
                        wake = wake.min(head_end);
                    }
                }
            }
        }
    }
}

/// Whether not even HTTP/2's first words have come. HTTP/1.1 is shorter or longer, and its heads
/// have a time-out of their own.
fn said_nothing(read_bytes: u64) -> bool {
    read_bytes < PREFACE_BYTES
}

/// Answers a call where it was read, if that needs no waiting: most do not, and the task was a quarter
/// of what a hit costs.
#[derive(Clone)]
struct AtOnce(Arc<Events>);

impl<F> Executor<F> for AtOnce
where
    F: Future<Output = ()> + Send + Unpin + 'static,
{
    fn execute(&self, mut call: F) {
        let mut nobody = Context::from_waker(Waker::noop());
        // A panic ends this call, not the others of the connection.
        let polled = caught(|| Pin::new(&mut call).poll(&mut nobody), &self.0);
        if polled.is_some_and(|polled| polled.is_pending()) {
            // The task polls it again, with a waker of its own.
            tokio::spawn(call);
        }
    }
}

fn builder(events: &Arc<Events>) -> Builder<AtOnce> {
    let mut builder = Builder::new(AtOnce(Arc::clone(events)));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_READ_MAX_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_MAX_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HTTP1_BUFFER_MAX_BYTES);
    builder
}
