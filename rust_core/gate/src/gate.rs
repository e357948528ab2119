//! Starting and stopping.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::connection::{Shared, Stage};
use crate::events::{Event, Events};
use crate::listener::Sockets;
use crate::room::Room;
use crate::route::Routes;
use crate::runtime::{Share, StartError};
use crate::settings::Settings;
use crate::upstream::Upstream;

/// How long the threads may take to end once no connection is left.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A listener that is there until it is stopped or dropped.
pub struct Gate {
    address: String,
    events: Arc<Events>,
    connections: Arc<Semaphore>,
    connections_max: u32,
    stopping: watch::Sender<Stage>,
    share: Share,
}

impl Gate {
    /// Listens and accepts; grpc.aio need not be there yet.
    ///
    /// # Errors
    /// [`StartError::Forked`] in a fork of a process with a gate, [`StartError::Io`] for an address
    /// that cannot be listened on.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let share = Share::take(settings.threads)?;
        let runtime = share.runtime().ok_or(StartError::Forked)?;
        let entered = runtime.enter();
        let sockets = Sockets::open(&settings.address)?;
        let address = sockets.address.clone();
        let events = Arc::new(Events::default());
        let connections_max = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
        let connections = Arc::new(Semaphore::new(settings.connections_max));
        let (stopping, stops) = watch::channel(Stage::Serving);
        let shared = Arc::new(Shared {
            routes: Routes::new(settings.services),
            upstream: Upstream::new(settings.upstream, Arc::clone(&events)),
            room: Room::new(),
            lane: settings.lane,
            unary: settings.unary,
            events: Arc::clone(&events),
            idle_max: settings.idle_max,
            age_max: settings.age_max,
        });
        sockets.accept(&shared, &connections, &stops);
        drop(entered);
        Ok(Self {
            address,
            events,
            connections,
            connections_max,
            stopping,
            share,
        })
    }

    /// The address with the port that was got.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes the events that have come since the last time.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.drain()
    }

    /// Stops accepting, says GOAWAY, and waits up to `patience` for calls in flight; gives whether
    /// all of them ended. Not to be called by a thread of the runtime.
    #[must_use]
    pub fn stop(self, patience: Duration) -> bool {
        let Some(runtime) = self.share.runtime() else {
            return false;
        };
        self.stopping.send_replace(Stage::Draining);
        let ended = runtime.block_on(async {
            let all = || self.connections.acquire_many(self.connections_max);
            let ended = timeout(patience, all()).await.is_ok();
            if !ended {
                self.stopping.send_replace(Stage::Cut);
                // Until the sockets are closed; the runtime may go on for another gate.
                let _late = timeout(JOIN_TIMEOUT, all()).await;
            }
            ended
        });
        self.share.give_back(JOIN_TIMEOUT);
        ended
    }
}
