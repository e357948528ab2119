//! When calls begin: the closed and the open loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::job::{Arrivals, Job};
use crate::sessions::{Draw, Random};
use crate::tally::Tally;

/// Something that calls with the token of a line; one call at a time.
pub trait Caller: Send + 'static {
    /// Calls; says how it ended and how long the message was. An error ends the run.
    fn call(&mut self, line: usize)
    -> impl Future<Output = Result<(Answer, usize), String>> + Send;
}

/// What the workers of a run share.
#[derive(Debug)]
pub struct Run {
    draw: Draw,
    timeout: Duration,
    duration: Duration,
    calls_max: usize,
    seed: u64,
    tally: Tally,
}

impl Run {
    /// Prepares a run over so many sessions.
    pub fn new(job: &Job, sessions: usize) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            draw: Draw::new(job.draw, sessions),
            timeout: job.timeout(),
            duration: Duration::from_secs_f64(job.seconds),
            calls_max: job.calls_max,
            seed: job.seed,
            tally: Tally::new()?,
        }))
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Calls once and counts it from `began`.
    async fn call(
        &self,
        caller: &mut impl Caller,
        line: usize,
        began: Instant,
    ) -> Result<(), String> {
        let (answer, bytes) = match timeout(self.timeout, caller.call(line)).await {
            Ok(answered) => answered?,
            Err(_) => (Answer::Refused("timeout".into()), 0),
        };
        self.tally.add(answer, began.elapsed(), bytes);
        Ok(())
    }

    /// Each caller begins its next call when its last has ended; returns the time to the last end.
    pub async fn closed(self: &Arc<Self>, callers: Vec<impl Caller>) -> Result<Duration, String> {
        let started = Instant::now();
        let begun = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for (number, mut caller) in callers.into_iter().enumerate() {
            let (run, begun) = (Arc::clone(self), Arc::clone(&begun));
            workers.spawn(async move {
                let mut random = Random::new(run.seed, number);
                while started.elapsed() < run.duration
                    && begun.fetch_add(1, Ordering::Relaxed) < run.calls_max
                {
                    let line = run.draw.next(&mut random);
                    run.call(&mut caller, line, Instant::now()).await?;
                }
                Ok(())
            });
        }
        ended(workers).await?;
        Ok(started.elapsed())
    }

    /// Calls begin at a rate, by turns on the callers. A latency counts from when its call was
    /// meant to begin, so that a server that halts is charged for all who had to wait.
    pub async fn open(
        self: &Arc<Self>,
        callers: &[impl Caller + Clone],
        rate: f64,
        arrivals: Arrivals,
    ) -> Result<Duration, String> {
        let started = Instant::now();
        let mut random = Random::new(self.seed, 0);
        let mut beginnings = self.beginnings(started, rate, arrivals);
        let mut pending = JoinSet::new();
        let mut turns = callers.iter().cycle();
        while let Some(meant) = beginnings.recv().await {
            let caller = turns.next().ok_or("there is no caller")?;
            let (run, mut caller, line) = (
                Arc::clone(self),
                caller.clone(),
                self.draw.next(&mut random),
            );
            pending.spawn(async move {
                run.tally.add_lag(meant.elapsed());
                run.call(&mut caller, line, meant).await
            });
            while let Some(done) = pending.try_join_next() {
                done.map_err(|error| error.to_string())??;
            }
        }
        ended(pending).await?;
        Ok(started.elapsed())
    }

    /// Tells each time at which a call is meant to begin, when it has come.
    ///
    /// By a thread that sleeps: the runtime's timer is of milliseconds, and looking at the clock
    /// until then would take the core from what the server asks.
    fn beginnings(
        &self,
        started: Instant,
        rate: f64,
        arrivals: Arrivals,
    ) -> UnboundedReceiver<Instant> {
        let mut random = Random::new(self.seed, 1);
        let end = started + self.duration;
        let gaps = std::iter::repeat_with(move || match arrivals {
            Arrivals::Even => 1.0 / rate,
            Arrivals::Poisson => -(1.0 - random.fraction()).ln() / rate,
        });
        let times = gaps.scan(started, |time, gap| {
            *time += Duration::from_secs_f64(gap);
            Some(*time)
        });
        let times = times.take_while(move |time| *time <= end);
        let times = times.take(self.calls_max);
        let (tell, told) = unbounded_channel();
        spawn_blocking(move || {
            for time in times {
                sleep(time.saturating_duration_since(Instant::now()));
                if tell.send(time).is_err() {
                    return; // the run has ended by an error
                }
            }
        });
        told
    }
}

/// Waits for all, or for the first error.
async fn ended(mut tasks: JoinSet<Result<(), String>>) -> Result<(), String> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}
