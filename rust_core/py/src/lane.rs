//! `watchword._core.Lane`: Python's side of the session cache.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use watchword_core::cache::{Change, Fill, SessionFill, Settings, Ticket, UserFill};

use crate::{KeyRing, sized};

/// The cache of a gate, its lease, and what both need; times are microseconds since 1970.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct Lane(pub(crate) Arc<watchword_gate::Lane>);

/// What a miss holds from before its read until its fill.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct FillTicket(Ticket);

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    reason = "the signatures are Python's, and PyO3 hands lists over by value"
)]
impl Lane {
    #[new]
    #[pyo3(signature = (keys, *, callers, bytes_max, idle_us, report_every_us))]
    fn new(
        keys: &KeyRing,
        callers: Vec<Vec<u8>>,
        bytes_max: usize,
        idle_us: i64,
        report_every_us: i64,
    ) -> PyResult<Self> {
        let callers: PyResult<Vec<[u8; 32]>> = callers
            .iter()
            .map(|digest| sized("digest", digest).copied())
            .collect();
        let settings = Settings {
            report_every: report_every_us,
            ..Settings::new(bytes_max, idle_us)
        };
        let keys = Arc::clone(&keys.0);
        Ok(Self(Arc::new(watchword_gate::Lane::new(
            keys, callers?, settings,
        ))))
    }

    fn begin_fill(&self) -> Option<FillTicket> {
        self.0.begin_fill().map(FillTicket)
    }

    #[pyo3(signature = (
        ticket, *, session_id, verifier, auth_time, expire_time, session_epoch, last_seen, session,
        user_id, version, epoch, user, roles
    ))]
    fn fill(
        &self,
        ticket: &FillTicket,
        session_id: &[u8],
        verifier: &[u8],
        auth_time: i64,
        expire_time: i64,
        session_epoch: i64,
        last_seen: i64,
        session: &[u8],
        user_id: &[u8],
        version: i64,
        epoch: i64,
        user: &[u8],
        roles: &[u8],
    ) -> PyResult<bool> {
        let fill = Fill {
            user: UserFill {
                id: *sized("user_id", user_id)?,
                version,
                epoch,
                end: i64::MAX,
                message: user,
                roles,
            },
            session: SessionFill {
                id: *sized("session_id", session_id)?,
                verifier: *sized("verifier", verifier)?,
                previous: None,
                auth_time,
                expire: expire_time,
                epoch: session_epoch,
                last_seen,
                message: session,
            },
        };
        Ok(self.0.fill(ticket.0, &fill))
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

    fn take_seen<'py>(&self, py: Python<'py>) -> (Vec<(Bound<'py, PyBytes>, i64)>, u64) {
        let (reports, dropped) = self.0.take_seen();
        let reports = reports
            .into_iter()
            .map(|(id, time)| (PyBytes::new(py, &id), time))
            .collect();
        (reports, dropped)
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
