//! `watchword._core.Lane`: Python's side of the session cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};
use watchword_core::cache::{Change, Settings};
use watchword_gate::{Digest, LaneSettings, Refusals};

use crate::{KeyRing, sized};

/// The cache of a gate, its lease, and what both need; times are microseconds since 1970.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct Lane(pub(crate) Arc<watchword_gate::Lane>);

/// A status other than OK that the gate answers with.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct Refusal(watchword_gate::Refusal);

/// Sessions that one statement has to read, and who waits for them.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct Turn {
    turn: Mutex<Option<watchword_gate::Turn>>,
    lane: Arc<watchword_gate::Lane>,
}

#[pymethods]
impl Refusal {
    #[new]
    fn new(code: u16, message: &str, details: &[u8]) -> Self {
        Self(watchword_gate::Refusal::new(code, message, details))
    }
}

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    reason = "PyO3 hands lists over by value"
)]
impl Turn {
    #[getter]
    fn session_ids<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyString>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = turn.iter().flat_map(watchword_gate::Turn::session_ids);
        ids.map(|id| PyString::new(py, &String::from_utf8_lossy(&id)))
            .collect()
    }

    fn take_rows(&self, rows: Vec<PyBackedBytes>) -> PyResult<()> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = turn.as_mut().ok_or_else(|| PyValueError::new_err(OVER))?;
        let rows: Vec<&[u8]> = rows.iter().map(AsRef::as_ref).collect();
        self.lane
            .take_rows(unread, &rows)
            .map_err(|_| PyValueError::new_err("a row has another form"))?;
        *turn = None;
        Ok(())
    }

    fn fail(&self, refusal: &Refusal) -> PyResult<()> {
        self.take()?.fail(&refusal.0);
        Ok(())
    }
}

impl Turn {
    fn take(&self) -> PyResult<watchword_gate::Turn> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.take().ok_or_else(|| PyValueError::new_err(OVER))
    }
}

const OVER: &str = "the turn is over";

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    reason = "the signatures are Python's, and PyO3 hands lists over by value"
)]
impl Lane {
    #[new]
    #[pyo3(signature = (
        keys, *, callers, invalid, reauthentication_needed, overloaded, unavailable, bytes_max, idle_us, report_every_us
    ))]
    fn new(
        keys: &KeyRing,
        callers: Vec<(Vec<u8>, bool)>,
        invalid: &Refusal,
        reauthentication_needed: &Refusal,
        overloaded: &Refusal,
        unavailable: &Refusal,
        bytes_max: usize,
        idle_us: i64,
        report_every_us: i64,
    ) -> PyResult<Self> {
        let settings = LaneSettings {
            callers: by_digest(&callers)?,
            refusals: Refusals {
                invalid: invalid.0.clone(),
                reauthentication_needed: reauthentication_needed.0.clone(),
                overloaded: overloaded.0.clone(),
                unavailable: unavailable.0.clone(),
            },
            cache: Settings {
                report_every: report_every_us,
                ..Settings::new(bytes_max, idle_us)
            },
        };
        let lane = watchword_gate::Lane::new(Arc::clone(&keys.0), settings)?;
        Ok(Self(Arc::new(lane)))
    }

    #[getter]
    fn wake_fd(&self) -> i32 {
        self.0.wake_fd()
    }

    fn take_misses(&self, most: usize) -> Option<Turn> {
        self.0.take_misses(most).map(|turn| self.turn(turn))
    }

    fn take_refills(&self, most: usize) -> Option<Turn> {
        self.0.take_refills(most).map(|turn| self.turn(turn))
    }

    #[pyo3(signature = (*, user_id, version, epoch))]
    fn apply_user(&self, user_id: &[u8], version: i64, epoch: i64) -> PyResult<()> {
        let user_id = *sized("user_id", user_id)?;
        self.0.apply(&Change::User {
            user_id,
            version,
            epoch,
        });
        Ok(())
    }

    #[pyo3(signature = (*, change_id))]
    fn apply_role(&self, change_id: &[u8]) -> PyResult<()> {
        let change_id = *sized("change_id", change_id)?;
        self.0.apply(&Change::Role { change_id });
        Ok(())
    }

    fn clear(&self) {
        self.0.clear();
    }

    #[pyo3(signature = (callers, *, sent_us))]
    fn replace_callers(&self, callers: Vec<(Vec<u8>, bool)>, sent_us: i64) -> PyResult<()> {
        self.0.replace_callers(by_digest(&callers)?, sent_us);
        Ok(())
    }

    fn take_used_callers<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let used = self.0.take_used_callers();
        used.iter().map(|digest| PyBytes::new(py, digest)).collect()
    }

    fn take_seen<'py>(&self, py: Python<'py>) -> (Vec<(Bound<'py, PyBytes>, i64)>, u64) {
        let (reports, dropped) = self.0.take_seen();
        let reports = reports
            .into_iter()
            .map(|(id, time)| (PyBytes::new(py, &id), time))
            .collect();
        (reports, dropped)
    }

    #[allow(clippy::type_complexity, reason = "it is what Python gets")]
    fn take_first_uses<'py>(
        &self,
        py: Python<'py>,
    ) -> (Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>, u64) {
        let (uses, dropped) = self.0.take_first_uses();
        let uses = uses
            .iter()
            .map(|(id, verifier)| (PyBytes::new(py, id), PyBytes::new(py, verifier)))
            .collect();
        (uses, dropped)
    }

    #[pyo3(signature = (*, sent_us, database_time_us))]
    fn renew(&self, sent_us: i64, database_time_us: i64) -> PyResult<()> {
        if sent_us < 0 {
            return Err(PyValueError::new_err("sent_us must be a time since boot"));
        }
        self.0.renew(sent_us, database_time_us);
        Ok(())
    }

    #[getter]
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

fn by_digest(callers: &[(Vec<u8>, bool)]) -> PyResult<HashMap<Digest, bool>> {
    let read =
        |(digest, may_validate): &(Vec<u8>, bool)| Ok((*sized("digest", digest)?, *may_validate));
    callers.iter().map(read).collect()
}

impl Lane {
    fn turn(&self, turn: watchword_gate::Turn) -> Turn {
        Turn {
            turn: Mutex::new(Some(turn)),
            lane: Arc::clone(&self.0),
        }
    }
}
