//! `watchword._core.UnaryCalls`: calls that the gate hands over.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use watchword_gate::Refusal;

/// The queue of one listener.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct UnaryCalls(pub(crate) Arc<watchword_gate::UnaryCalls>);

/// One call, until it is answered.
#[pyclass(frozen, module = "watchword._core")]
pub(crate) struct UnaryCall {
    #[pyo3(get)]
    number: u64,
    #[pyo3(get)]
    method: usize,
    call: Mutex<Option<watchword_gate::UnaryCall>>,
}

#[pymethods]
impl UnaryCalls {
    #[new]
    fn new(methods: Vec<String>) -> PyResult<Self> {
        let calls = watchword_gate::UnaryCalls::new(methods)?;
        Ok(Self(Arc::new(calls)))
    }

    #[getter]
    fn wake_fd(&self) -> i32 {
        self.0.wake_fd()
    }

    fn take(&self) -> Option<UnaryCall> {
        self.0.take().map(|call| UnaryCall {
            number: call.number(),
            method: call.method(),
            call: Mutex::new(Some(call)),
        })
    }

    fn take_given_up(&self) -> Vec<u64> {
        self.0.take_given_up()
    }
}

#[pymethods]
impl UnaryCall {
    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.look(|call| PyBytes::new(py, call.message()))
    }

    #[getter]
    fn authorization(&self) -> PyResult<String> {
        self.look(|call| call.authorization().to_owned())
    }

    #[getter]
    fn time_left(&self) -> PyResult<Option<f64>> {
        self.look(|call| call.time_left().map(|left| left.as_secs_f64()))
    }

    fn end(&self, message: &[u8]) -> PyResult<()> {
        self.take()?.end(message);
        Ok(())
    }

    fn fail(&self, code: u16, message: &str, details: &[u8]) -> PyResult<()> {
        self.take()?.fail(Refusal::new(code, message, details));
        Ok(())
    }
}

impl UnaryCall {
    fn look<R>(&self, read: impl FnOnce(&watchword_gate::UnaryCall) -> R) -> PyResult<R> {
        let call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        call.as_ref()
            .map(read)
            .ok_or_else(|| PyValueError::new_err(OVER))
    }

    fn take(&self) -> PyResult<watchword_gate::UnaryCall> {
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        call.take().ok_or_else(|| PyValueError::new_err(OVER))
    }
}

const OVER: &str = "the call is over";
