//! What a run has counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::answer::Answer;

/// Up to ten minutes in nanoseconds, to three digits.
const LONGEST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// Shared by all workers, which are tasks of one thread: nobody ever waits for the lock.
#[derive(Debug)]
pub struct Tally(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    ok: Histogram<u64>,
    refused: Histogram<u64>,
    lag: Histogram<u64>,
    wrong: u64,
    bytes: u64,
    statuses: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Result<Self, String> {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).map_err(|error| error.to_string());
        Ok(Self(Mutex::new(Counts {
            ok: histogram()?,
            refused: histogram()?,
            lag: histogram()?,
            wrong: 0,
            bytes: 0,
            statuses: BTreeMap::new(),
        })))
    }

    /// Counts a call that took so long and was answered with so many bytes of message.
    pub fn add(&self, answer: Answer, took: Duration, bytes: usize) {
        let mut counts = self.counts();
        match answer {
            Answer::Refused(status) => {
                counts.refused.saturating_record(nanoseconds(took));
                *counts.statuses.entry(status).or_default() += 1;
            }
            answer => {
                counts.ok.saturating_record(nanoseconds(took));
                counts.wrong += u64::from(answer == Answer::Wrong);
                counts.bytes += u64::try_from(bytes).unwrap_or_default();
            }
        }
    }

    /// Counts how much later than intended a call of an open loop began.
    pub fn add_lag(&self, lag: Duration) {
        self.counts().lag.saturating_record(nanoseconds(lag));
    }

    /// The result, and how many answers were wrong.
    pub fn result(&self, elapsed: Duration) -> (Value, u64) {
        let counts = self.counts();
        let mut statuses = counts.statuses.clone();
        if !counts.ok.is_empty() {
            statuses.insert("0".into(), counts.ok.len());
        }
        let seconds = elapsed.as_secs_f64();
        let result = json!({
            "calls": counts.ok.len() + counts.refused.len(),
            "seconds": seconds,
            "rate": fraction(counts.ok.len() + counts.refused.len()) / seconds,
            "ok_rate": fraction(counts.ok.len()) / seconds,
            "ok_us": latencies(&counts.ok),
            "refused_us": latencies(&counts.refused),
            "send_lag_us": latencies(&counts.lag),
            "statuses": statuses,
            "wrong": counts.wrong,
            "answer_bytes": fraction(counts.bytes) / fraction(counts.ok.len().max(1)),
        });
        (result, counts.wrong)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far below 2^53, and shown with a few digits"
)]
fn fraction(count: u64) -> f64 {
    count as f64
}

/// Microseconds; null where nothing was counted.
fn latencies(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |percent| fraction(histogram.value_at_percentile(percent)) / 1000.0;
    json!({
        "p50": at(50.0),
        "p90": at(90.0),
        "p99": at(99.0),
        "p99_9": at(99.9),
        "max": fraction(histogram.max()) / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_answers_and_statuses_are_counted_apart() {
        let tally = Tally::new().unwrap();
        for ms in 1..=100 {
            tally.add(Answer::Right, Duration::from_millis(ms), 200);
        }
        tally.add(Answer::Wrong, Duration::from_millis(1), 200);
        tally.add(Answer::Refused("8".into()), Duration::from_secs(1), 0);
        let (result, wrong) = tally.result(Duration::from_secs(2));
        assert_eq!(wrong, 1);
        assert_eq!(result["statuses"], json!({"0": 101, "8": 1}));
        assert_eq!(result["rate"], json!(51.0));
        assert_eq!(result["answer_bytes"], json!(200.0));
        let p99 = result["ok_us"]["p99"].as_f64().unwrap();
        assert!((99_000.0..100_100.0).contains(&p99), "{p99}");
        assert_eq!(result["send_lag_us"], Value::Null);
    }
}
