//! `watchword._core.Gate`: starts and stops the gate, and hands its events over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use watchword_gate::{EventKind, Settings, StartError};

use crate::lane::Lane;
use crate::unary::UnaryCalls;

/// A started gate. A frozen class with a lock of its own: `stop` waits without the GIL.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct Gate {
    gate: Mutex<Option<watchword_gate::Gate>>,
    #[pyo3(get)]
    address: String,
}

#[pymethods]
#[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
impl Gate {
    #[staticmethod]
    #[pyo3(signature = (
        *, address, upstream, services, threads, connections_max, idle_seconds, age_seconds, lane=None,
        unary=None
    ))]
    fn start(
        address: String,
        upstream: &str,
        services: Vec<String>,
        threads: usize,
        connections_max: usize,
        idle_seconds: f64,
        age_seconds: f64,
        lane: Option<&Lane>,
        unary: Option<&UnaryCalls>,
    ) -> PyResult<Self> {
        let settings = Settings {
            threads,
            connections_max,
            idle_max: seconds(idle_seconds)?,
            age_max: seconds(age_seconds)?,
            lane: lane.map(|lane| Arc::clone(&lane.0)),
            unary: unary.map(|unary| Arc::clone(&unary.0)),
            ..Settings::new(address, upstream.into(), services)
        };
        let gate = watchword_gate::Gate::start(settings).map_err(raise)?;
        Ok(Self {
            address: gate.address().to_owned(),
            gate: Mutex::new(Some(gate)),
        })
    }

    fn events(&self) -> Vec<(&'static str, String, u64)> {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let events = gate.as_ref().map(watchword_gate::Gate::events);
        events
            .unwrap_or_default()
            .into_iter()
            .map(|event| (name(event.kind), event.detail, event.count))
            .collect()
    }

    fn stop(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<bool> {
        let patience = seconds(timeout_seconds)?;
        let gate = self
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Ok(py.detach(|| gate.is_none_or(|gate| gate.stop(patience))))
    }
}

fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err("seconds must be a number from 0"))
}

fn raise(error: StartError) -> PyErr {
    match error {
        StartError::Forked => PyRuntimeError::new_err(error.to_string()),
        StartError::Io(error) => error.into(),
    }
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::AcceptFailed => "accept failed",
        EventKind::ConnectionRefused => "connection refused",
        EventKind::UpstreamLost => "upstream lost",
        EventKind::Panicked => "panicked",
        EventKind::EventsDropped => "events dropped",
    }
}
