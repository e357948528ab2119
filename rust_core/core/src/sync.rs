//! What the cache shares between threads with; `tests/cache_races.rs` compiles the cache with
//! shuttle's parts of the same names instead, and so decides who runs when.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
