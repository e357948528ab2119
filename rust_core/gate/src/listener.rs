//! Where a gate listens: TCP, on every address that a name has.
//!
//! No unix socket: gRPC's C core, which Python's clients are made of, sends the percent-encoded path
//! as `:authority` there, and h2 resets the stream: its parser takes `%` in user information alone.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::connection::{Shared, Stage, serve};
use crate::events::EventKind;
use crate::settings::{ACCEPT_PAUSE, BACKLOG};

/// The sockets of one address.
pub(crate) struct Sockets {
    /// The address with the port that was got.
    pub(crate) address: String,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Listens; needs to be called inside the runtime.
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let tcp = listen_on_all(address.to_socket_addrs()?)?;
        let port = match tcp.first() {
            Some(listener) => listener.local_addr()?.port(),
            None => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(Self {
            address: format!("{host}:{port}"),
            tcp,
        })
    }

    /// Accepts until `stopping`; each connection holds a permit, and without one is closed.
    pub(crate) fn accept(
        self,
        shared: &Arc<Shared>,
        permits: &Arc<Semaphore>,
        stopping: &watch::Receiver<Stage>,
    ) {
        for listener in self.tcp {
            let door = Door::new(shared, permits, stopping);
            tokio::spawn(async move {
                let mut stopping = door.stopping.clone();
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        _ = stopping.wait_for(|&stage| stage != Stage::Serving) => return,
                    };
                    let accepted = accepted.and_then(|(stream, _)| {
                        // Answers are small: waiting for more of them would cost their callers.
                        stream.set_nodelay(true)?;
                        Ok(stream)
                    });
                    door.let_in(accepted).await;
                }
            });
        }
    }
}

/// What happens with an accepted connection.
struct Door {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    stopping: watch::Receiver<Stage>,
}

impl Door {
    fn new(
        shared: &Arc<Shared>,
        permits: &Arc<Semaphore>,
        stopping: &watch::Receiver<Stage>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            permits: Arc::clone(permits),
            stopping: stopping.clone(),
        }
    }

    async fn let_in(&self, accepted: io::Result<TcpStream>) {
        let events = &self.shared.events;
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                events.push(EventKind::AcceptFailed, error.to_string());
                sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            events.push(EventKind::ConnectionRefused, "");
            return;
        };
        let served = serve(stream, Arc::clone(&self.shared), self.stopping.clone());
        tokio::spawn(async move {
            served.await;
            drop(permit);
        });
    }
}

/// Listens on each address that a host has, on one port. An address of a family that this machine
/// lacks is left out, as long as one is there.
fn listen_on_all(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut unavailable = None;
    for mut address in addresses {
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr()?.port());
        }
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => unavailable = Some(error),
        }
    }
    match (listeners.is_empty(), unavailable) {
        (true, Some(error)) => Err(error),
        _ => Ok(listeners),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A port whose last connections are in TIME_WAIT is free; SO_REUSEPORT would share a live one.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
