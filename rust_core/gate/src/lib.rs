//! The gate: Watchword's face to the network, in threads of its own inside the Python process.
//!
//! It listens, keeps the limits on connections, looks at each path and passes calls on to grpc.aio,
//! which listens on a private unix socket. Bodies are streamed both ways; nothing is logged, and
//! what an operator should know goes into a bounded queue ([`Event`]) that Python drains.

mod answer;
mod body;
mod call;
mod callers;
mod check;
mod connection;
mod courtesy;
mod credential;
mod events;
mod gate;
mod guard;
mod headers;
mod intake;
mod lane;
mod listener;
mod live_row;
mod message;
mod misses;
mod refusal;
mod reports;
mod request;
mod respond;
mod room;
mod route;
mod runtime;
mod settings;
mod unary;
mod upstream;
mod wake;
mod wire;

pub use callers::Digest;
pub use events::{Event, EventKind};
pub use gate::Gate;
pub use lane::{Lane, LaneSettings};
pub use live_row::Unreadable;
pub use misses::Turn;
pub use refusal::{Refusal, Refusals};
pub use runtime::StartError;
pub use settings::Settings;
pub use unary::{UnaryCall, UnaryCalls};
