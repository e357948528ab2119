//! The one tokio runtime of a process: all its gates share it, and no fork inherits it.

use std::fmt;
use std::io;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::courtesy;

/// Why a gate did not start.
#[derive(Debug)]
pub enum StartError {
    /// The process was forked from one with a running gate: its threads are not here, and what
    /// they held is.
    Forked,
    /// The address cannot be listened on, or the threads not started.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => formatter.write_str("a gate does not start after a fork"),
            Self::Io(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Owned {
    process_id: u32,
    runtime: Weak<Runtime>,
}

static OWNED: Mutex<Option<Owned>> = Mutex::new(None);

/// A share of the runtime; the last to be given back ends it.
pub(crate) struct Share {
    process_id: u32,
    runtime: Option<Arc<Runtime>>,
}

impl Share {
    /// Takes a share; the first makes the runtime.
    pub(crate) fn take(threads: usize) -> Result<Self, StartError> {
        let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        let process_id = process::id();
        if let Some(existing) = owned.as_ref()
            && let Some(runtime) = existing.runtime.upgrade()
        {
            let here = existing.process_id == process_id;
            let share = Self {
                process_id: existing.process_id,
                runtime: Some(runtime),
            };
            return if here {
                Ok(share)
            } else {
                Err(StartError::Forked)
            };
        }
        let runtime = Arc::new(
            Builder::new_multi_thread()
                .worker_threads(threads.max(1))
                .thread_name("watchword-gate")
                .on_thread_start(courtesy::rehearse)
                .enable_io()
                .enable_time()
                .build()?,
        );
        *owned = Some(Owned {
            process_id,
            runtime: Arc::downgrade(&runtime),
        });
        Ok(Self {
            process_id,
            runtime: Some(runtime),
        })
    }

    /// The runtime, as long as this is the process that made it.
    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.runtime
            .as_deref()
            .filter(|_| self.process_id == process::id())
    }

    /// Gives the share back; the last waits up to `timeout` for the threads to end.
    pub(crate) fn give_back(mut self, timeout: Duration) {
        if let Some(runtime) = self.last() {
            runtime.shutdown_timeout(timeout);
        }
    }

    fn last(&mut self) -> Option<Runtime> {
        let runtime = self.runtime.take()?;
        if self.process_id != process::id() {
            // Its threads are in another process: nobody could be joined here.
            std::mem::forget(runtime);
            return None;
        }
        let _owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::into_inner(runtime)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(runtime) = self.last() {
            runtime.shutdown_background();
        }
    }
}
