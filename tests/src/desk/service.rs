//! What the service does.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::json;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use super::v1::desk_service_server::DeskService;
use super::v1::{
    AddRequest, AddResponse, CountRequest, CountResponse, SayRequest, SayResponse, TalkRequest,
    TalkResponse,
};

/// Texts that the service takes as orders.
pub mod orders {
    /// Does not answer. When nobody waits any more, it logs [`LET_GO`].
    pub const HOLD: &str = "hold";
    /// Refuses with `FAILED_PRECONDITION`, [`DETAILS`] and the words [`INSIDE`].
    pub const REFUSE: &str = "refuse";
    /// Refuses with `UNAVAILABLE`.
    pub const AWAY: &str = "away";
    /// Fails with `INTERNAL`.
    pub const BREAK: &str = "break";
    /// Details of a refusal.
    pub const DETAILS: &[u8] = b"\x08\x09 details\0";
    /// What clients should not hear unless they may.
    pub const INSIDE: &str = "the desk is out of order";
    /// The action that is logged when nobody waits for an answer any more.
    pub const LET_GO: &str = "let_go";
    /// The action that is logged when a talk ends. hyper takes a cancellation within the
    /// request for its end.
    pub const OVER: &str = "over";
}

/// The service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Works;

/// One call, as it is logged.
#[derive(Debug, Clone)]
struct Case {
    guuid: String,
    user: String,
    trace: String,
    call: &'static str,
}

impl Case {
    fn open(metadata: &MetadataMap, call: &'static str) -> Self {
        let said = |key: &str| {
            let value = metadata.get(key).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let case = Self {
            guuid: said("x-guuid"),
            user: said("x-user-id"),
            trace: said("traceparent"),
            call,
        };
        case.log("request_received");
        case
    }

    fn log(&self, action: &str) {
        let line = json!({
            "level": "info",
            "component": COMPONENT,
            "action": action,
            "call": self.call,
            "guuid": self.guuid,
            "traceparent": self.trace,
        });
        print_line(&line.to_string());
    }
}

/// Logs when it is dropped before its time.
struct Waiting(Option<Case>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(case) = self.0.take() {
            case.log(orders::LET_GO);
        }
    }
}

/// A stream of numbers.
pub(super) struct Counting {
    next: u32,
    request: CountRequest,
    waiting: Waiting,
}

impl Stream for Counting {
    type Item = Result<CountResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next > self.request.to {
            if self.request.hold {
                return Poll::Pending;
            }
            self.waiting.0 = None;
            return Poll::Ready(None);
        }
        let number = self.next;
        self.next += 1;
        let filling = vec![7; self.request.filling as usize];
        Poll::Ready(Some(Ok(CountResponse { number, filling })))
    }
}

#[tonic::async_trait]
impl DeskService for Works {
    type CountStream = Counting;
    type TalkStream = ReceiverStream<Result<TalkResponse, Status>>;

    async fn say(&self, request: Request<SayRequest>) -> Result<Response<SayResponse>, Status> {
        let case = Case::open(request.metadata(), "Say");
        let asked = request.into_inner();
        let details = || orders::DETAILS.into();
        match asked.text.as_str() {
            orders::HOLD => {
                let _waiting = Waiting(Some(case));
                std::future::pending().await
            }
            orders::REFUSE => Err(Status::with_details(
                Code::FailedPrecondition,
                orders::INSIDE,
                details(),
            )),
            orders::AWAY => Err(Status::unavailable(orders::INSIDE)),
            orders::BREAK => Err(Status::internal(orders::INSIDE)),
            _ => {
                let Case { guuid, user, .. } = case;
                let text = asked.text;
                let mut response = Response::new(SayResponse { text, user, guuid });
                let value = tonic::metadata::MetadataValue::from_bytes(orders::DETAILS);
                response.metadata_mut().insert_bin("x-desk-bin", value);
                Ok(response)
            }
        }
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Response<Counting>, Status> {
        let case = Case::open(request.metadata(), "Count");
        Ok(Response::new(Counting {
            next: 1,
            request: request.into_inner(),
            waiting: Waiting(Some(case)),
        }))
    }

    async fn add(
        &self,
        request: Request<Streaming<AddRequest>>,
    ) -> Result<Response<AddResponse>, Status> {
        let case = Case::open(request.metadata(), "Add");
        let mut waiting = Waiting(Some(case));
        let mut numbers = request.into_inner();
        let mut sum = 0;
        while let Some(one) = numbers.message().await? {
            sum += u64::from(one.number);
        }
        waiting.0 = None;
        Ok(Response::new(AddResponse { sum }))
    }

    async fn talk(
        &self,
        request: Request<Streaming<TalkRequest>>,
    ) -> Result<Response<Self::TalkStream>, Status> {
        let case = Case::open(request.metadata(), "Talk");
        let mut texts = request.into_inner();
        let (answers, answered) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut waiting = Waiting(Some(case));
            while let Ok(asked) = texts.message().await {
                let Some(TalkRequest { text }) = asked else {
                    if let Some(case) = waiting.0.take() {
                        case.log(orders::OVER);
                    }
                    return;
                };
                if answers.send(Ok(TalkResponse { text })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// Writes a line of the log.
pub(super) fn print_line(line: &str) {
    // Nobody who could be told of a failure is left when the pipe is gone.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// What the service calls itself in its log.
const COMPONENT: &str = "desk";
