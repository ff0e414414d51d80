//! The client's side: a tower service that makes each request a stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Version};
use lifecycle::Tasks;
use quantum_proto::streams::Priority;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::body::{ResponseBody, deadline_exceeded, plain, status_of};
use super::connecting::{Connecting, chain};
use super::fields::Field;
use super::pump::{self, Pump};
use super::reading::{Broken, Reader};
use super::{Target, code, deadline, kind};
use crate::error::{OpenError, ReadError, WriteError};
use crate::{Connection, Endpoint, RecvStream, SendStream};

/// What generated clients are made from. Clones share one connection, made at the first call and
/// again when it is lost. Dropping a call, or its answer, cancels it at the server.
///
/// `grpc-timeout` is kept here too. There are no retries: see [`CallError::may_have_reached`].
#[derive(Clone)]
pub struct Channel(Arc<Connecting>);

/// A call that has no answer.
#[derive(Debug, thiserror::Error)]
#[error("call failed")]
pub struct CallError {
    #[source]
    status: Status,
    may_have_reached: bool,
}

impl CallError {
    /// What the caller is told.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether the server may have acted; if not, the call may be sent again whatever it does.
    pub fn may_have_reached(&self) -> bool {
        self.may_have_reached
    }

    fn unsent(status: Status) -> Self {
        Self {
            status,
            may_have_reached: false,
        }
    }

    fn sent(status: Status) -> Self {
        Self {
            status,
            may_have_reached: true,
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        error.status
    }
}

impl Channel {
    /// A channel to a server; connects with the first call. `tasks` own what runs beside calls.
    pub fn new(endpoint: Endpoint, target: Target, tasks: Tasks) -> Self {
        Self(Arc::new(Connecting::new(endpoint, target, tasks)))
    }

    /// Connects now, or tells what is in the way.
    ///
    /// # Errors
    /// The server is not reached.
    pub async fn connected(&self) -> Result<Connection, super::TargetError> {
        self.0.ready().await
    }

    /// The present connection, if there is one.
    pub fn connection(&self) -> Option<Connection> {
        self.0.present()
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        self.0.target()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(call(Arc::clone(&self.0), request))
    }
}

/// Streams are tried this often: the connection may end between choice and use.
const OPEN_TRIES: usize = 3;

async fn call(
    connecting: Arc<Connecting>,
    request: Request<Body>,
) -> Result<Response<Body>, CallError> {
    let timeout = deadline::of(request.headers());
    let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    let mut sent = false;
    let answered = {
        let asking = ask(&connecting, request, &mut sent);
        tokio::pin!(asking);
        match &mut deadline {
            None => Some(asking.await),
            Some(deadline) => tokio::select! {
                biased;
                answered = asking => Some(answered),
                () = deadline => None,
            },
        }
    };
    let Some(answered) = answered else {
        return Err(CallError {
            status: deadline_exceeded(),
            may_have_reached: sent,
        });
    };
    let (fields, reader) = answered?;
    Ok(response(fields, reader, deadline))
}

/// Sends the request and waits for the head of the answer.
async fn ask(
    connecting: &Arc<Connecting>,
    request: Request<Body>,
    sent: &mut bool,
) -> Result<(Vec<Field>, Reader), CallError> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut pseudo = vec![(":path", path.as_bytes())];
    if let Some(authority) = head.uri.authority() {
        pseudo.push((":authority", authority.as_str().as_bytes()));
    }
    let headers = pump::message(kind::HEADERS, &pseudo, &head.headers);
    let headers = headers.map_err(|error| {
        CallError::unsent(Status::internal(format!("request cannot be sent: {error}")))
    })?;
    let (connection, send, recv) = open(connecting).await?;
    *sent = true;
    // Dropped from here on, the call is cancelled.
    let mut reader = Asking::new(recv);
    let mut pump = Pump::new(send, headers, body, false);
    // What is complete leaves at once; only the rest of a longer body needs a task.
    match std::future::poll_fn(|cx| Poll::Ready(pump.poll(cx))).await {
        // The answer says how it ended, even for a request that the server did not want whole.
        Poll::Ready(Ok(()) | Err(WriteError::Stopped(_) | WriteError::Ended)) => {}
        Poll::Ready(Err(WriteError::Closed(closed))) => {
            let text = format!("connection was lost: {closed}");
            return Err(CallError::sent(Status::unavailable(text)));
        }
        Poll::Pending => connecting.tasks.spawn("grpc request", async move {
            let _ = pump.run().await;
        }),
    }
    let answer = reader.headers().await;
    if answer.is_ok() {
        connecting.answered();
    }
    answer.map_err(|broken| failed(connecting, &connection, &broken))
}

fn failed(connecting: &Connecting, connection: &Connection, broken: &Broken) -> CallError {
    let status = status_of(broken);
    match broken {
        Broken::Stream(ReadError::Reset(code::REFUSED)) => CallError::unsent(status),
        Broken::Stream(ReadError::Reset(code::LEAVING)) => {
            connecting.retire(connection);
            CallError::unsent(status)
        }
        _ => {
            if let Some(closed) = connection.close_reason() {
                connecting.not_reached(&closed);
            }
            CallError::sent(status)
        }
    }
}

/// A stream on a connection that has one.
async fn open(
    connecting: &Arc<Connecting>,
) -> Result<(Connection, SendStream, RecvStream), CallError> {
    let mut why = Status::unavailable("connection was lost");
    for _ in 0..OPEN_TRIES {
        let connection = connecting
            .ready()
            .await
            .map_err(|error| CallError::unsent(Status::unavailable(chain(&error))))?;
        match connection.open(Priority::Unary).await {
            Ok((send, recv)) => return Ok((connection, send, recv)),
            Err(OpenError::Exhausted) => {}
            Err(OpenError::Closed(closed)) => {
                why = Status::unavailable(format!("connection was lost: {closed}"));
            }
        }
        connecting.retire(&connection);
    }
    Err(CallError::unsent(why))
}

fn response(
    fields: Vec<Field>,
    reader: Reader,
    deadline: Option<Pin<Box<Sleep>>>,
) -> Response<Body> {
    let status = fields.iter().find_map(|field| match field {
        Field::Pseudo("status", value) => StatusCode::from_bytes(value.as_bytes()).ok(),
        _ => None,
    });
    let body = Body::new(ResponseBody::new(reader, deadline));
    let mut response = Response::new(body);
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = plain(fields);
    response
}

/// A call whose answer has not begun. Dropped, it is cancelled.
struct Asking {
    reader: Option<Reader>,
}

impl Asking {
    fn new(recv: RecvStream) -> Self {
        Self {
            reader: Some(Reader::new(recv)),
        }
    }

    /// Gives the reader once the answer has begun.
    async fn headers(&mut self) -> Result<(Vec<Field>, Reader), Broken> {
        let gone = Broken::Stream(ReadError::Stopped);
        let fields = self.reader.as_mut().ok_or(gone.clone())?.headers().await?;
        Ok((fields, self.reader.take().ok_or(gone)?))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.stream().abandon(code::CANCELLED);
        }
    }
}
