//! What a gate is told, and its limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::lane::Lane;
use crate::unary::UnaryCalls;

/// Streams that one connection may have open at once (RFC 9113, 5.1.2).
pub(crate) const STREAMS_MAX: u32 = 256;
/// Names and values of one request with 32 bytes each (RFC 9113, 6.5.2): `METADATA_MAX_BYTES`.
pub(crate) const HEADERS_MAX_BYTES: usize = 8 * 1024;
/// Beyond this h2 answers HTTP 431, which a gRPC client takes for UNKNOWN; below, the gate answers
/// `RESOURCE_EXHAUSTED` itself.
pub(crate) const HEADERS_READ_MAX_BYTES: u32 = 32 * 1024;
/// What the head of an HTTP/1.1 request may take, which is answered with 404 alone.
pub(crate) const HTTP1_BUFFER_MAX_BYTES: usize = 8 * 1024;
/// What a client may send of one request before grpc.aio has taken it: a message and its prefix
/// follow as that reads on.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same for all requests of a connection: what one client can make the gate hold.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// What is kept of one answer for a client that does not read.
pub(crate) const SEND_BUFFER_MAX_BYTES: usize = 64 * 1024;
/// All answers under way come over one connection: clients that do not read theirs must not stop
/// the others, so its window is larger than what answers of one kilobyte can fill.
pub(crate) const UPSTREAM_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Trailers of errors carry google.rpc details.
pub(crate) const UPSTREAM_HEADERS_MAX_BYTES: u32 = 64 * 1024;
/// Streams that a client has reset before they were looked at; more end the connection
/// (CVE-2023-44487).
pub(crate) const PENDING_RESETS_MAX: usize = 20;
/// Streams that the gate had to reset for a client's errors; more end the connection
/// (CVE-2025-8671).
pub(crate) const ERROR_RESETS_MAX: usize = 128;
/// How long a new connection may take to say which protocol it speaks, and an HTTP/1.1 request
/// to send its head.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A ping goes out after so long without a frame. Nothing may stand between the frames of one
/// header list, so that a client that dribbles one cannot answer and is gone with the time-out.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a ping may stay without its answer.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls on a connection that has reached its age may take to finish.
pub(crate) const AGE_GRACE: Duration = Duration::from_secs(60);
/// Waiting for grpc.aio ends so long after the deadline that it was told.
pub(crate) const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// How long a refusal waits for the first message, so that the client has written it.
pub(crate) const FIRST_FRAME_PATIENCE: Duration = Duration::from_millis(100);
/// How long connecting to grpc.aio may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that the kernel keeps until they are accepted.
pub(crate) const BACKLOG: u32 = 1024;
/// After `accept` has failed, for want of descriptors for example.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Events that wait for Python; what comes then is counted.
pub(crate) const EVENTS_MAX: usize = 256;
/// Sessions that wait for Python to store that they were seen, 24 bytes each; the same.
pub(crate) const SEEN_MAX: usize = 8_192;

/// Sessions that wait for the database; a call that would make it more is refused.
pub(crate) const WAITING_MAX: usize = 1_024;
/// Sessions that wait to be read again, 16 bytes each.
pub(crate) const REFILLS_MAX: usize = 65_536;
/// What a call may spend on the database, the rest of its time is for the way back; without a
/// deadline it has this one. The same as for a call of Python's.
pub(crate) const DATABASE_BUDGET: Duration = Duration::from_secs(2);
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(100);
/// Calls of known callers that Python has at once, and of everybody else.
pub(crate) const CALLS_MAX: usize = 256;
pub(crate) const STRANGERS_CALLS_MAX: usize = 32;
/// How long a call that its client gave up is taken to go on in grpc.aio.
pub(crate) const CANCEL_HOLD: Duration = Duration::from_millis(250);

/// What a gate is told; [`Settings::new`] has the limits' defaults.
#[derive(Clone)]
pub struct Settings {
    /// `host:port`, port 0 for a free one.
    pub address: String,
    /// The socket that grpc.aio listens on.
    pub upstream: PathBuf,
    /// The services that are passed on, `watchword.v1.AuthService` for example.
    pub services: Vec<String>,
    /// What session checks are answered from; without, every one is passed on.
    pub lane: Option<Arc<Lane>>,
    /// Where Python takes calls from; without, every one is passed on.
    pub unary: Option<Arc<UnaryCalls>>,
    /// Threads of the process's one runtime; what the first gate says counts.
    pub threads: usize,
    /// Connections at once; more are closed as they come.
    pub connections_max: usize,
    /// How long a connection may be without a call.
    pub idle_max: Duration,
    /// After how long a connection is asked to go, so that load spreads to new replicas.
    pub age_max: Duration,
}

impl Settings {
    /// Makes settings: 1 thread, 10,000 connections, 10 minutes idle, 1 hour of age.
    #[must_use]
    pub fn new(address: String, upstream: PathBuf, services: Vec<String>) -> Self {
        Self {
            address,
            upstream,
            services,
            lane: None,
            unary: None,
            threads: 1,
            connections_max: 10_000,
            idle_max: Duration::from_secs(10 * 60),
            age_max: Duration::from_secs(60 * 60),
        }
    }
}
