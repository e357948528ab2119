//! The load generator of the session checks, and a bare server to compare with.
//!
//! ```text
//! watchword-load run < job.json           prints one JSON object; job.rs has the fields
//! watchword-load echo BYTES               serves answers of so many bytes until stdin ends
//! watchword-load fill-redis ADDRESS COUNT stores what a run with `redis_get` asks for
//! ```
//!
//! One thread, since whoever starts it gives it one core, and for an open loop one that is its clock.
//! Every answer is checked: exit code 1 is at least one wrong one, 2 a run that could not be made.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )
)]

mod answer;
mod echo;
mod grpc;
mod job;
mod pace;
mod redis;
mod sessions;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;

use job::{Call, Job, Load};
use pace::Run;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| match words[..] {
            ["run"] => runtime.block_on(run()),
            ["echo", bytes] => runtime.block_on(echo::serve(number(bytes)?)).map(|()| 0),
            ["fill-redis", target, count] => runtime
                .block_on(redis::fill(target, number(count)?))
                .map(|()| 0),
            _ => Err("expected `run`, `echo BYTES` or `fill-redis ADDRESS COUNT`".into()),
        });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("error: {wrong} answers were wrong");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Reads the job, runs it and prints the result; returns how many answers were wrong.
async fn run() -> Result<u64, String> {
    let text = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string())?;
    let job = Job::parse(&text)?;
    let lines = std::fs::read_to_string(&job.sessions).map_err(|error| error.to_string())?;
    let sessions = Arc::new(sessions::parse(&lines, job.batch)?);
    let run = Run::new(&job, sessions.len())?;
    let targets = job.targets.iter().cycle().take(job.connections);
    let elapsed = match &job.call {
        Call::RedisGet {} => {
            let keys = Arc::new(redis::Keys::new(sessions.len()));
            let mut callers = Vec::new();
            for target in targets {
                callers.push(redis::Connection::connect(target, Arc::clone(&keys)).await?);
            }
            run.closed(callers).await?
        }
        Call::Grpc {
            method,
            authorization,
            expect,
        } => {
            let calls = grpc::Calls::new(method, authorization, job.timeout(), sessions, *expect)?;
            let calls = Arc::new(calls);
            let mut callers = Vec::new();
            for target in targets {
                callers.push(grpc::Stream::connect(target, Arc::clone(&calls)).await?);
            }
            match job.load {
                Load::Open { rate, arrivals } => run.open(&callers, rate, arrivals).await?,
                Load::Closed { in_flight } => {
                    let each = callers.iter().flat_map(|one| vec![one.clone(); in_flight]);
                    run.closed(each.collect()).await?
                }
            }
        }
    };
    let (result, wrong) = run.tally().result(elapsed);
    println!("{result}");
    Ok(wrong)
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}
