//! One call: which way it goes, and what refuses it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::{Request, Response, Version};
use tokio::time::{Instant, timeout};

use crate::answer::Asked;
use crate::body::{Body, Broken, Sent};
use crate::connection::{InFlight, Shared};
use crate::events::Events;
use crate::guard::caught;
use crate::intake::Intake;
use crate::lane::Lane;
use crate::route::Route;
use crate::settings::{FIRST_FRAME_PATIENCE, HEADERS_MAX_BYTES};
use crate::unary::HANDED_OVER_BYTES;
use crate::{courtesy, headers, respond};

/// The answer of a call. hyper moves it a few times, so that it is small: what a hit does not need
/// is on the heap.
pub(crate) enum Answering {
    Now(Option<Response<Body>>),
    Later(Later, Arc<Events>),
}

type Later = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;

impl Answering {
    /// Answers at once where that can be.
    pub(crate) fn begin(request: Request<Incoming>, call: InFlight, shared: &Arc<Shared>) -> Self {
        caught(|| begin(request, call, shared), &shared.events)
            .unwrap_or_else(|| Self::now(defect()))
    }

    fn now(answer: Response<Body>) -> Self {
        Self::Now(Some(answer))
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Broken>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => answer
                .take()
                .map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            // Nothing of a call that has panicked is looked at again.
            Self::Later(answer, events) => caught(|| answer.as_mut().poll(context), events)
                .unwrap_or_else(|| Poll::Ready(Ok(defect()))),
        }
    }
}

fn defect() -> Response<Body> {
    respond::status(respond::INTERNAL)
}

fn begin(request: Request<Incoming>, call: InFlight, shared: &Arc<Shared>) -> Answering {
    courtesy::end_in_time();
    if request.version() != Version::HTTP_2 {
        return Answering::now(respond::needs_http2());
    }
    let shared = Arc::clone(shared);
    let events = Arc::clone(&shared.events);
    if headers::list_bytes(&request) > HEADERS_MAX_BYTES {
        let refused = refuse(request, respond::TOO_MUCH_METADATA);
        return Answering::Later(Box::pin(refused), events);
    }
    let later: Later = match (shared.routes.find(request.uri().path()), &shared.lane) {
        (Route::Check(check), Some(lane)) => {
            let mut asked = Asked::begin(check, request, call.last_credential(), lane);
            if let Some(answer) = asked.at_once(lane) {
                return Answering::now(answer);
            }
            let lane = Arc::clone(lane);
            Box::pin(async move { asked.later(call, &lane, &shared).await })
        }
        (Route::Python, Some(lane)) => {
            let is_caller = lane
                .may_validate(request.headers(), call.last_credential())
                .is_some();
            let lane = Arc::clone(lane);
            Box::pin(async move {
                let began = Instant::now();
                let intake = if is_caller {
                    let mut intake = Intake::begin(request, HANDED_OVER_BYTES);
                    intake.wait().await;
                    intake
                } else {
                    Intake::unread(request)
                };
                ask_python(intake, began, call, is_caller, &lane, &shared).await
            })
        }
        (Route::Aside | Route::Python | Route::Check(_), _) => {
            let request = request.map(Sent::unread);
            Box::pin(async move { shared.upstream.pass_on(request, call, None).await })
        }
        (Route::Unknown, _) => Box::pin(refuse(request, respond::UNIMPLEMENTED)),
    };
    Answering::Later(later, events)
}

/// Has Python answer a call if there is room for it: what is one plain message of a caller's is
/// handed over, everything else goes through grpc.aio.
pub(crate) async fn ask_python(
    intake: Intake,
    began: Instant,
    call: InFlight,
    is_caller: bool,
    lane: &Lane,
    shared: &Shared,
) -> Result<Response<Body>, Broken> {
    let Some(place) = shared.room.enter(is_caller) else {
        begun(intake.into_request()?.into_body()).await;
        return Ok(respond::overloaded(&lane.refusals));
    };
    if let Some(unary) = &shared.unary
        && let Some(question) = unary.question(&intake, began)
    {
        return Ok(unary.ask(question, place).await);
    }
    let request = intake.into_request()?;
    shared.upstream.pass_on(request, call, Some(place)).await
}

async fn refuse(
    request: Request<Incoming>,
    status: respond::Status,
) -> Result<Response<Body>, Broken> {
    begun(request.into_body()).await;
    Ok(respond::status(status))
}

/// Waits until a client's first message has begun: grpc.aio's client takes an end that comes while
/// it still writes for an INTERNAL of its own.
async fn begun<B: HttpBody + Unpin>(mut body: B) {
    // Nothing is wanted of the frame, and who sends none has its answer a little later.
    let _frame = timeout(FIRST_FRAME_PATIENCE, body.frame()).await;
}
