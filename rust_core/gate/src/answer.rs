//! Answering a session check here, and having Python answer what cannot be.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use tokio::time::Instant;

use crate::body::{Body, Broken};
use crate::call::ask_python;
use crate::check::{self, Answer, Missing};
use crate::connection::{InFlight, Shared};
use crate::credential::LastCredential;
use crate::intake::Intake;
use crate::lane::Lane;
use crate::route::Check;
use crate::settings::{ANSWER_MARGIN, DATABASE_BUDGET};
use crate::{headers, respond};

/// The longest request about one session that is looked at: a session token and a change token.
const LOOKED_AT_BYTES: usize = 512;
/// The same for a batch: its session tokens have 79 characters.
const BATCH_LOOKED_AT_BYTES: usize = 32 * 1024;

/// A session check under way.
pub(crate) struct Asked {
    check: Check,
    is_caller: bool,
    intake: Intake,
    missing: Option<Missing>,
}

impl Asked {
    /// Looks at who asks, and reads what has come of the body.
    pub(crate) fn begin(
        check: Check,
        request: Request<Incoming>,
        last: &LastCredential,
        lane: &Lane,
    ) -> Self {
        let most = match check {
            Check::Sessions => BATCH_LOOKED_AT_BYTES,
            Check::Session | Check::Roles => LOOKED_AT_BYTES,
        };
        let may_validate = lane.may_validate(request.headers(), last);
        Self {
            check,
            is_caller: may_validate.is_some(),
            intake: if may_validate == Some(true) {
                Intake::begin(request, most)
            } else {
                Intake::unread(request)
            },
            missing: None,
        }
    }

    /// The answer, where nothing has to be waited for; notes what is missing.
    pub(crate) fn at_once(&mut self, lane: &Lane) -> Option<Response<Body>> {
        match check::at_once(self.check, self.intake.whole()?, lane) {
            Answer::Ready(answer) => Some(respond::message(Bytes::from(answer))),
            Answer::Refused(refusal) => Some(respond::refused(&refusal)),
            // Most of what comes then is refused, and should cost no more than a hit.
            Answer::Missing(_) if lane.misses.is_full() => {
                Some(respond::overloaded(&lane.refusals))
            }
            Answer::Missing(missing) => {
                self.missing = Some(missing);
                None
            }
            Answer::NotJudged => None,
        }
    }

    /// The answer from the cache, by a read of Python's, or by a call of Python's own.
    pub(crate) async fn later(
        mut self,
        call: InFlight,
        lane: &Lane,
        shared: &Shared,
    ) -> Result<Response<Body>, Broken> {
        let began = Instant::now();
        if self.intake.wait().await
            && let Some(answer) = self.at_once(lane)
        {
            return Ok(answer);
        }
        if let Some(missing) = self.missing {
            let patience = database_budget(self.intake.headers(), began.elapsed());
            match check::after_read(missing, lane, patience).await {
                Some(Ok(answer)) => return Ok(respond::message(Bytes::from(answer))),
                Some(Err(refusal)) => return Ok(respond::refused(&refusal)),
                None => {}
            }
        }
        ask_python(self.intake, began, call, self.is_caller, lane, shared).await
    }
}

/// What a call may spend on the database that has taken so long already.
fn database_budget(headers: &HeaderMap, passed: Duration) -> Duration {
    let margin = ANSWER_MARGIN.saturating_add(passed);
    let left = headers::timeout(headers).map(|given| given.saturating_sub(margin));
    left.unwrap_or(DATABASE_BUDGET).min(DATABASE_BUDGET)
}
