//! Watchword's codes, tokens, keys and ids.
//!
//! Pure functions over a [`KeyRing`]: no I/O but the operating system's randomness and, for the
//! milliseconds in an id, its clock. No function panics on any input; what comes from outside is
//! parsed into `Option`, what a program gets wrong is an [`Error`].
//!
//! Secrets are wiped when dropped and print as `[redacted]`.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "a test fails by panicking"
    )
)]

pub mod cache;
mod change;
mod device;
mod error;
mod keys;
mod limit;
mod mac;
mod otp;
mod page;
mod secret;
mod service_key;
mod subject;
mod sync;
mod token;

#[cfg(test)]
mod vectors;

pub use change::{CHANGE_TOKEN_LENGTH_MAX, CHANGES_MAX, KnownChange};
pub use device::{DEVICE_TOKEN_LENGTH, DeviceTimes, is_device_token};
pub use error::Error;
pub use keys::KeyRing;
pub use limit::LimitKey;
pub use otp::{
    CODE_LENGTH_MAX, CODE_LENGTH_MIN, CodeSource, LONG_FORM, NONCE_SIZE, ParsedCode, new_nonce,
    parse_code,
};
pub use page::{CURSOR_MAX, PAGE_TOKEN_LENGTH_MAX};
pub use secret::{Id, KEY_SIZE, SLOT_MAX, Secret, new_id, new_id_random_slot, random_key, slot_of};
pub use service_key::SERVICE_KEY_LENGTH;
pub use subject::{SubjectKey, slot_of_subject};
pub use token::{
    MintedSession, PresentedSession, ReadSession, RefreshedSession, SESSION_TOKEN_LENGTH, Tag,
    Verifier, verifier_matches,
};
