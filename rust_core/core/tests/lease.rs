//! How long a lease is good, and which time the database has.
#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

use watchword_core::cache::{LEASE, Lease, TICK};

const NOW: i64 = 1_800_000_000_000_000;

/// A lease is good for its second and not a microsecond more, and not before the first poll.
#[test]
fn leases_end() {
    let lease = Lease::new();
    assert!(!lease.good(i64::MIN) && !lease.good(0) && lease.database_now(0).is_none());
    lease.renew(500, NOW);
    assert!(lease.good(500) && lease.good(500 + LEASE) && !lease.good(501 + LEASE));
    lease.renew(400, NOW);
    assert!(lease.good(500 + LEASE), "an older poll");
    assert!(!lease.good(501 + LEASE));
}

/// The database's time counts from when the poll was sent, and stands still rather than go back.
#[test]
fn database_time_never_goes_back() {
    let lease = Lease::new();
    lease.renew(7, NOW);
    assert_eq!(lease.database_now(7), Some(NOW));
    assert_eq!(lease.database_now(8), Some(NOW + TICK));
    assert_eq!(lease.database_now(7 + 5 * TICK), Some(NOW + 5 * TICK));
    lease.renew(7 + 6 * TICK, NOW + 3 * TICK);
    assert_eq!(lease.database_now(7 + 7 * TICK), Some(NOW + 5 * TICK));
    assert_eq!(lease.database_now(7 + 9 * TICK), Some(NOW + 6 * TICK));
}
