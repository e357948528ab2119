//! Leaving the core to Python while calls are refused.
//!
//! A refusal takes as much of a core as a session check, and most of what is asked under overload is
//! refused. Where Python has the same core, being stopped for each of them costs its calls more than
//! the refusals themselves. So a thread of the gate that has refused a call does not stop anybody
//! when it wakes: it goes on when the core is free, or at the end of a time slice, some 3 ms, and then
//! has many calls to answer (`SCHED_BATCH`, sched(7)). Where a core is free nothing changes.

use std::cell::Cell;
use std::ptr;
use std::time::{Duration, Instant};

/// How long a thread is courteous after a refusal.
const LASTS: Duration = Duration::from_millis(100);

thread_local! {
    /// When this thread last refused a call, while it is courteous.
    static REFUSED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// This thread begins. Asks for what it has, as it will under overload: a filter of system calls that
/// kills for it does so now.
pub(crate) fn rehearse() {
    if policy() == Some(libc::SCHED_OTHER) {
        set_policy(libc::SCHED_OTHER);
    }
}

/// This thread refuses a call for want of room.
pub(crate) fn begin() {
    begin_at(Instant::now());
}

fn begin_at(now: Instant) {
    if REFUSED.get().is_none() {
        // Whoever runs the process under another policy has meant that.
        if policy() != Some(libc::SCHED_OTHER) {
            return;
        }
        set_policy(libc::SCHED_BATCH);
    }
    REFUSED.set(Some(now));
}

/// This thread begins a call, which may be long after its last refusal.
pub(crate) fn end_in_time() {
    if REFUSED.get().is_some() {
        end_in_time_at(Instant::now());
    }
}

fn end_in_time_at(now: Instant) {
    if REFUSED
        .get()
        .is_some_and(|last| now.duration_since(last) > LASTS)
    {
        REFUSED.set(None);
        set_policy(libc::SCHED_OTHER);
    }
}

/// The policy of this thread; None where it cannot be asked.
fn policy() -> Option<i32> {
    // SAFETY: It reads no memory; 0 is the calling thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    i32::try_from(policy).ok().filter(|&policy| policy >= 0)
}

/// Sets the policy of this thread, where that is allowed; without it everything works as well.
fn set_policy(policy: i32) {
    // What `struct sched_param` is for the kernel: neither policy has priorities.
    let priority = 0_i32;
    // SAFETY: The kernel reads the four bytes of `priority`, which lives until then, and writes none.
    // The C library's own function is not in all of them.
    let _refused = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            policy,
            ptr::from_ref(&priority),
        )
    };
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::thread;

    use super::*;

    /// A thread is courteous from its first refusal until a while after its last.
    #[test]
    fn it_lasts_a_while() {
        let policies = thread::spawn(|| {
            let (now, mut policies) = (Instant::now(), vec![policy()]);
            begin_at(now);
            policies.push(policy());
            begin_at(now + LASTS / 2);
            end_in_time_at(now + LASTS / 2 + LASTS);
            policies.push(policy());
            end_in_time_at(now + LASTS * 2);
            policies.push(policy());
            policies
        });
        let (usual, courteous) = (Some(libc::SCHED_OTHER), Some(libc::SCHED_BATCH));
        assert_eq!(
            policies.join().unwrap(),
            [usual, courteous, courteous, usual]
        );
    }

    /// A policy that the gate has not set is left alone.
    #[test]
    fn another_policy_stays() {
        let policies = thread::spawn(|| {
            set_policy(libc::SCHED_BATCH);
            let now = Instant::now();
            begin_at(now);
            let first = policy();
            end_in_time_at(now + LASTS * 2);
            [first, policy()]
        });
        assert_eq!(policies.join().unwrap(), [Some(libc::SCHED_BATCH); 2]);
    }
}
