//! The Python module `watchword._core`: `watchword-core`, one call per job, the class of
//! `watchword-gate`, and nothing of its own.
//!
//! `service/watchword/_core.pyi` is its stub. Ids, keys and nonces cross as `bytes`. A wrong
//! argument raises `ValueError`, an operating system without randomness `OSError`; text from
//! outside that has no accepted form gives None.
//!
//! The GIL is released by `Gate.stop` alone, which waits: in a release build reading a session token takes 0.6 µs, checking one
//! candidate 0.7 µs, and the longest call, minting a session, 1.8 µs. Giving the GIL up costs about
//! as much, and taking it again can wait 5 ms for a busy thread.

mod gate;
mod lane;
mod unary;

use std::borrow::Cow;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};
use watchword_core as core;
use watchword_core::Error;

/// Session token, session id, key id, verifier.
type Minted<'py> = (
    Bound<'py, PyString>,
    Bound<'py, PyBytes>,
    u8,
    Bound<'py, PyBytes>,
);
/// Session id, key id, verifier.
type Presented<'py> = (Bound<'py, PyBytes>, u8, Bound<'py, PyBytes>);
/// Since, issued: microseconds since 1970.
type Times = (i64, i64);
/// Kind, id, epoch, version.
type Changed<'py> = (u8, Bound<'py, PyBytes>, i64, i64);
/// Key id, purpose, challenge id, subject key, nonce.
type Source = (
    i64,
    PyBackedStr,
    PyBackedBytes,
    PyBackedBytes,
    PyBackedBytes,
);

/// The one conversion of errors; no message holds a secret.
fn raise(error: Error) -> PyErr {
    match error {
        Error::Randomness => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// Checks the length of a field, in bytes.
fn sized<'a, const SIZE: usize>(name: &'static str, bytes: &'a [u8]) -> PyResult<&'a [u8; SIZE]> {
    bytes
        .try_into()
        .map_err(|_| raise(Error::FieldLength(name, SIZE)))
}

/// Key ids arrive as any integer, so that one out of range is a `ValueError` like every other.
fn key_id(id: i64) -> PyResult<u8> {
    u8::try_from(id).map_err(|_| raise(Error::KeyIdRange))
}

fn slot(slot: i64) -> PyResult<u16> {
    u16::try_from(slot).map_err(|_| raise(Error::SlotRange))
}

/// Text with lone surrogates is no text; what it becomes is not ASCII, so every parser refuses it.
fn text<'a>(text: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    text.to_string_lossy()
}

fn source(source: &Source) -> PyResult<core::CodeSource<'_>> {
    let (id, purpose, challenge_id, subject_key, nonce) = source;
    Ok(core::CodeSource {
        key_id: key_id(*id)?,
        purpose,
        challenge_id: sized("challenge_id", challenge_id)?,
        subject_key: sized("subject_key", subject_key)?,
        nonce: sized("nonce", nonce)?,
    })
}

/// The sub-keys of an installation; immutable.
#[pyclass(frozen, module = "watchword._core")]
struct KeyRing(Arc<core::KeyRing>);

#[pymethods]
#[allow(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    clippy::unused_self,
    reason = "the signatures are Python's, and PyO3 hands lists over by value"
)]
impl KeyRing {
    #[new]
    fn new(keys: Vec<(i64, PyBackedBytes)>, index_key: &[u8]) -> PyResult<Self> {
        let keys = keys
            .iter()
            .map(|(id, key)| Ok((key_id(*id)?, &**key)))
            .collect::<PyResult<Vec<(u8, &[u8])>>>()?;
        core::KeyRing::new(&keys, index_key)
            .map(|keys| Self(Arc::new(keys)))
            .map_err(raise)
    }

    fn __repr__(&self) -> &'static str {
        "KeyRing(<redacted>)"
    }

    #[getter]
    fn signing_key_id(&self) -> u8 {
        self.0.signing_key_id()
    }

    fn subject_key<'py>(&self, py: Python<'py>, account_key: &str) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.subject_key(account_key))
    }

    fn limit_key<'py>(&self, py: Python<'py>, kind: &str, value: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.limit_key(kind, value))
    }

    #[pyo3(signature = (*, key_id, purpose, challenge_id, subject_key, nonce, length))]
    fn otp_code<'py>(
        &self,
        py: Python<'py>,
        key_id: i64,
        purpose: &str,
        challenge_id: &[u8],
        subject_key: &[u8],
        nonce: &[u8],
        length: i64,
    ) -> PyResult<Bound<'py, PyString>> {
        let source = core::CodeSource {
            key_id: self::key_id(key_id)?,
            purpose,
            challenge_id: sized("challenge_id", challenge_id)?,
            subject_key: sized("subject_key", subject_key)?,
            nonce: sized("nonce", nonce)?,
        };
        let length = u8::try_from(length).map_err(|_| raise(Error::CodeLength))?;
        let code = self.0.derive_code(&source, length).map_err(raise)?;
        Ok(PyString::new(py, code.reveal()))
    }

    fn check_code(
        &self,
        canonical: &str,
        form: i64,
        candidates: Vec<Source>,
    ) -> PyResult<Option<usize>> {
        let candidates = candidates
            .iter()
            .map(source)
            .collect::<PyResult<Vec<core::CodeSource<'_>>>>()?;
        let form = u8::try_from(form).unwrap_or(0);
        Ok(self.0.check_code(canonical, form, &candidates))
    }

    fn mint_session<'py>(&self, py: Python<'py>, slot: i64) -> PyResult<Minted<'py>> {
        let minted = self.0.mint_session(self::slot(slot)?).map_err(raise)?;
        Ok((
            PyString::new(py, minted.token.reveal()),
            PyBytes::new(py, &minted.session_id),
            minted.key_id,
            PyBytes::new(py, &minted.verifier),
        ))
    }

    fn parse_session_token<'py>(
        &self,
        py: Python<'py>,
        token: &Bound<'py, PyString>,
    ) -> Option<Presented<'py>> {
        let presented = self.0.parse_session_token(&text(token))?;
        Some((
            PyBytes::new(py, &presented.session_id),
            presented.key_id,
            PyBytes::new(py, &presented.verifier),
        ))
    }

    fn refresh_session<'py>(
        &self,
        py: Python<'py>,
        token: &Bound<'py, PyString>,
        generation: i64,
        key_id: i64,
    ) -> PyResult<Option<(Bound<'py, PyString>, Bound<'py, PyBytes>)>> {
        let key_id = self::key_id(key_id)?;
        let refreshed = self.0.refresh_session(&text(token), generation, key_id);
        Ok(refreshed.map(|next| {
            let token = PyString::new(py, next.token.reveal());
            (token, PyBytes::new(py, &next.verifier))
        }))
    }

    fn mint_device_token<'py>(
        &self,
        py: Python<'py>,
        subject_key: &[u8],
        since_us: i64,
        issued_us: i64,
    ) -> PyResult<Bound<'py, PyString>> {
        let times = core::DeviceTimes {
            since_us,
            issued_us,
        };
        let subject_key = sized("subject_key", subject_key)?;
        let token = self.0.mint_device_token(subject_key, times);
        Ok(PyString::new(py, token.reveal()))
    }

    fn check_device_token(
        &self,
        token: &Bound<'_, PyString>,
        subject_key: &[u8],
    ) -> PyResult<Option<Times>> {
        let subject_key = sized("subject_key", subject_key)?;
        let times = self.0.check_device_token(&text(token), subject_key);
        Ok(times.map(|times| (times.since_us, times.issued_us)))
    }

    fn mint_change_token<'py>(
        &self,
        py: Python<'py>,
        changes: Vec<(u8, PyBackedBytes, i64, i64)>,
    ) -> PyResult<Bound<'py, PyString>> {
        let changes = changes
            .iter()
            .map(|(kind, id, epoch, version)| {
                Ok(core::KnownChange {
                    kind: *kind,
                    id: *sized("id", id)?,
                    epoch: *epoch,
                    version: *version,
                })
            })
            .collect::<PyResult<Vec<core::KnownChange>>>()?;
        let token = self.0.mint_change_token(&changes).map_err(raise)?;
        Ok(PyString::new(py, &token))
    }

    fn parse_change_token<'py>(
        &self,
        py: Python<'py>,
        token: &Bound<'py, PyString>,
    ) -> Option<Vec<Changed<'py>>> {
        let changes = self.0.parse_change_token(&text(token))?;
        let tuple = |change: &core::KnownChange| {
            let id = PyBytes::new(py, &change.id);
            (change.kind, id, change.epoch, change.version)
        };
        Some(changes.iter().map(tuple).collect())
    }

    fn mint_page_token(&self, listing: &[u8], cursor: &[u8]) -> PyResult<String> {
        self.0.mint_page_token(listing, cursor).map_err(raise)
    }

    fn parse_page_token<'py>(
        &self,
        py: Python<'py>,
        listing: &[u8],
        token: &Bound<'py, PyString>,
    ) -> Option<Bound<'py, PyBytes>> {
        let cursor = self.0.parse_page_token(listing, &text(token))?;
        Some(PyBytes::new(py, &cursor))
    }

    fn mint_service_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let token = self.0.mint_service_key().map_err(raise)?;
        Ok(PyString::new(py, token.reveal()))
    }

    fn parse_service_key<'py>(
        &self,
        py: Python<'py>,
        token: &Bound<'py, PyString>,
    ) -> Option<Bound<'py, PyBytes>> {
        let digest = self.0.parse_service_key(&text(token))?;
        Some(PyBytes::new(py, &digest))
    }
}

#[pyfunction]
fn new_id(py: Python<'_>, slot: i64) -> PyResult<Bound<'_, PyBytes>> {
    let id = core::new_id(self::slot(slot)?).map_err(raise)?;
    Ok(PyBytes::new(py, &id))
}

#[pyfunction]
fn new_user_id(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let id = core::new_id_random_slot().map_err(raise)?;
    Ok(PyBytes::new(py, &id))
}

#[pyfunction]
fn new_nonce(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let nonce = core::new_nonce().map_err(raise)?;
    Ok(PyBytes::new(py, &nonce))
}

#[pyfunction]
fn random_key(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let key = core::random_key().map_err(raise)?;
    Ok(PyBytes::new(py, key.as_slice()))
}

#[pyfunction]
fn slot_of_subject(subject_key: &[u8]) -> PyResult<u16> {
    Ok(core::slot_of_subject(sized("subject_key", subject_key)?))
}

#[pyfunction]
fn is_device_token(token: &Bound<'_, PyString>) -> bool {
    core::is_device_token(&text(token))
}

#[pyfunction]
fn parse_code<'py>(
    py: Python<'py>,
    text: &Bound<'py, PyString>,
) -> Option<(u8, Bound<'py, PyString>)> {
    let code = core::parse_code(&self::text(text))?;
    Some((code.form, PyString::new(py, code.canonical.reveal())))
}

#[pyfunction]
fn verifier_matches(a: &[u8], b: &[u8]) -> bool {
    core::verifier_matches(a, b)
}

/// Panics, so that a test can see what a call answers then; not in release builds.
#[cfg(debug_assertions)]
#[pyfunction]
#[allow(clippy::panic, reason = "this is what it is for")]
fn panic_for_test() {
    panic!("a panic for a test");
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::gate::Gate;
    #[pymodule_export]
    use super::lane::{Lane, Refusal, Turn};
    #[pymodule_export]
    use super::unary::{UnaryCall, UnaryCalls};

    #[pymodule_export]
    use super::{
        KeyRing, is_device_token, new_id, new_nonce, new_user_id, parse_code, random_key,
        slot_of_subject, verifier_matches,
    };

    #[cfg(debug_assertions)]
    #[pymodule_export]
    use super::panic_for_test;

    #[pymodule_export]
    const SOURCE_DIGEST: &str = env!("WATCHWORD_SOURCE_DIGEST");
}
