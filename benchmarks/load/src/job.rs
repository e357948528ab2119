//! What a run of the generator is to do: JSON on stdin, so that no key is in an argument.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// One run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Where to connect to, by turns: `127.0.0.1:50051`.
    pub targets: Vec<String>,
    /// Lines of what is asked for, a session token or a user's id, and the id of its user.
    pub sessions: PathBuf,
    /// What is called.
    pub call: Call,
    /// When calls begin.
    pub load: Load,
    /// Whose token each call carries.
    pub draw: DrawKind,
    /// Connections in all.
    pub connections: usize,
    /// After so long a run begins no call any more.
    pub seconds: f64,
    /// A run ends earlier after so many calls.
    #[serde(default = "no_end")]
    pub calls_max: usize,
    /// A call that takes longer counts as `timeout`.
    pub timeout_seconds: f64,
    /// Runs of one seed draw the same tokens.
    pub seed: u64,
    /// How many tokens each request carries; more than one are a `BatchValidateSessionsRequest`.
    #[serde(default = "one")]
    pub batch: usize,
}

/// What is called.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// A unary method, with a `ValidateSessionRequest` for its request, or another one whose field 1
    /// is a text.
    Grpc {
        /// `/package.Service/Method`.
        method: String,
        /// The metadata of this name.
        authorization: String,
        /// What a right answer is.
        expect: Expect,
    },
    /// Redis `GET` of the value that `fill-redis` has stored for the session's line.
    RedisGet {},
}

/// What a right answer is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// A `ValidateSessionResponse` whose session and user are of the user of the token.
    User,
    /// A `BatchValidateSessionsResponse` with one such result for each token, in their order.
    Users,
    /// A `GetRolesResponse` with at least one role.
    Roles,
    /// A message of so many bytes.
    Bytes(usize),
}

/// When calls begin.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    /// So many workers for each connection, each calling when its last call has ended.
    Closed {
        /// Workers for each connection.
        in_flight: usize,
    },
    /// At a rate, whatever the server does.
    Open {
        /// Calls a second.
        rate: f64,
        /// The times between calls.
        arrivals: Arrivals,
    },
}

/// The times between the calls of an open loop.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// All the same.
    Even,
    /// Exponentially distributed, as those of many independent callers.
    Poisson,
}

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrawKind {
    /// Each as often as the others.
    Uniform,
    /// Line n of the file with a weight of n to the power of minus this.
    Zipf(f64),
    /// Line after line.
    Sequence,
}

impl Job {
    /// Reads a job; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let job: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value < 1e6 {
                return Ok(());
            }
            Err(format!("`{name}` is above 0 and below 1,000,000"))
        };
        positive("seconds", job.seconds)?;
        positive("timeout_seconds", job.timeout_seconds)?;
        if let Load::Open { rate, .. } = job.load {
            positive("rate", rate)?;
        }
        if job.targets.is_empty() || job.connections == 0 || job.batch == 0 {
            return Err("there is at least one target, one connection and one token a call".into());
        }
        let redis = matches!(job.call, Call::RedisGet {});
        if redis && !matches!(job.load, Load::Closed { in_flight: 1 }) {
            return Err("Redis is called in a closed loop of one in flight".into());
        }
        Ok(job)
    }

    /// The time after which a call counts as `timeout`.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }
}

fn one() -> usize {
    1
}

fn no_end() -> usize {
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{
        "targets": ["127.0.0.1:1"], "sessions": "s", "connections": 32, "seconds": 1.0,
        "timeout_seconds": 1.0, "seed": 1, "draw": "uniform",
        "call": {"redis_get": {}}, "load": {"closed": {"in_flight": 1}}
    }"#;

    #[test]
    fn a_job_is_read_and_one_that_cannot_be_run_is_refused() {
        assert_eq!(Job::parse(JOB).map(|job| job.calls_max), Ok(usize::MAX));
        for (old, new) in [
            (r#""seconds": 1.0"#, r#""seconds": 0"#),
            (r#""in_flight": 1"#, r#""in_flight": 2"#),
            (r#"["127.0.0.1:1"]"#, "[]"),
            (r#""seed": 1"#, r#""seed": 1, "seeds": 1"#),
            (r#""seed": 1"#, r#""seed": 1, "batch": 0"#),
        ] {
            assert!(Job::parse(&JOB.replace(old, new)).is_err(), "{new}");
        }
    }
}
