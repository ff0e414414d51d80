//! The server's side: each stream becomes a request to tonic's services.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use lifecycle::{CancellationToken, Tasks};
use quantum_proto::codes::close;
use quantum_proto::streams::End;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower_service::Service;

use super::body::{RequestBody, deadline_exceeded, plain};
use super::fields::Field;
use super::pump::{self, Pump};
use super::reading::{Broken, Reader};
use super::{code, deadline, kind};
use crate::{Caller, Connection, Endpoint, RecvStream, SendStream};

/// What a server allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Calls at a time, of all clients; beyond it they are refused. Default 10,000.
    pub calls: usize,
    /// How long a call may take to bring its headers. Default 10 s.
    pub headers_within: Duration,
    /// How long calls may go on after the shutdown was asked for. Default 30 s.
    pub grace: Duration,
    /// `component` of the log lines of calls. Default `quantum`.
    pub component: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 10_000,
            headers_within: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            component: "quantum".to_owned(),
        }
    }
}

/// Serves calls until `shutdown` fires or the endpoint is closed; then no new ones are taken,
/// those under way get their grace, and connections are closed.
///
/// Services find [`Caller`] among the extensions of a request. A call whose client has gone, or
/// whose `grpc-timeout` is over, is dropped; one that panics ends by itself. Each call that has a
/// request id (a UUID) in `x-guuid` is a line in the log at info, target `quantum::calls`, with
/// `guuid`, `component` and `action`; others are at debug.
pub async fn serve(
    endpoint: Endpoint,
    routes: Routes,
    shutdown: CancellationToken,
    limits: Limits,
    tasks: Tasks,
) {
    let server = Arc::new(Server {
        routes: routes.prepare(),
        slots: Arc::new(Semaphore::new(limits.calls.min(Semaphore::MAX_PERMITS))),
        leaving: CancellationToken::new(),
        emptied: CancellationToken::new(),
        limits,
        tasks: tasks.clone(),
    });
    loop {
        tokio::select! {
            connection = endpoint.accept() => match connection {
                Some(connection) => {
                    tasks.spawn("grpc connection", Arc::clone(&server).connection(connection));
                }
                None => break,
            },
            () = shutdown.cancelled() => break,
        }
    }
    endpoint.refuse_new();
    server.leaving.cancel();
    let all = u32::try_from(server.limits.calls).unwrap_or(u32::MAX);
    let idle = server.slots.acquire_many(all);
    if tokio::time::timeout(server.limits.grace, idle)
        .await
        .is_err()
    {
        tracing::warn!("calls were cut off: the grace of the shutdown is over");
    }
    server.emptied.cancel();
    let _ = tokio::time::timeout(2 * SETTLE, endpoint.drained()).await;
}

/// How long the last answers may take to be acknowledged.
const SETTLE: Duration = Duration::from_secs(1);

struct Server {
    routes: Routes,
    limits: Limits,
    slots: Arc<Semaphore>,
    /// New calls are refused.
    leaving: CancellationToken,
    /// No call is under way any more.
    emptied: CancellationToken,
    tasks: Tasks,
}

impl Server {
    async fn connection(self: Arc<Self>, connection: Connection) {
        let caller = Caller::of(&connection);
        let accepting = async {
            while let Ok((send, recv)) = connection.accept().await {
                self.begin(&caller, send, recv);
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.emptied.cancelled() => {
                let _ = tokio::time::timeout(SETTLE, connection.settled()).await;
                connection.close(close::DONE, "server stops");
            }
        }
    }

    fn begin(self: &Arc<Self>, caller: &Caller, mut send: SendStream, mut recv: RecvStream) {
        let is_leaving = self.leaving.is_cancelled();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let (Ok(slot), false) = (slot, is_leaving) else {
            let reason = if is_leaving {
                code::LEAVING
            } else {
                code::REFUSED
            };
            recv.stop(reason);
            send.reset(reason);
            return;
        };
        let server = Arc::clone(self);
        let caller = caller.clone();
        self.tasks.spawn("grpc call", async move {
            server.call(caller, send, recv).await;
            drop(slot);
        });
    }

    async fn call(&self, caller: Caller, mut send: SendStream, recv: RecvStream) {
        let mut reader = Reader::new(recv);
        let headers = tokio::time::timeout(self.limits.headers_within, reader.headers());
        let request = match headers.await {
            Ok(Ok(fields)) => request(fields, reader, caller),
            Ok(Err(broken)) => {
                send.reset(reset_code(&broken));
                return;
            }
            Err(_) => {
                send.reset(code::DEADLINE);
                return;
            }
        };
        match request {
            Ok(request) => self.answer(request, send).await,
            Err(status) => refuse(send, &status).await,
        }
    }

    async fn answer(&self, request: Request<Body>, send: SendStream) {
        self.log(&request);
        let timeout = deadline::of(request.headers());
        let mut answering = Answering {
            routes: self.routes.clone(),
            state: State::Waiting(send),
        };
        let work = AssertUnwindSafe(answering.run(request)).catch_unwind();
        let done = match timeout {
            None => Ok(work.await),
            Some(timeout) => tokio::time::timeout(timeout, work).await,
        };
        let status = match done {
            Ok(Ok(())) => return,
            Ok(Err(_panic)) => Status::internal("service failed"),
            Err(_) => deadline_exceeded(),
        };
        match answering.state {
            State::Waiting(send) => refuse(send, &status).await,
            // The answer has begun: what is told now is only that it is not whole.
            State::Writing(mut pump) => pump.reset(match status.code() {
                tonic::Code::DeadlineExceeded => code::DEADLINE,
                _ => code::INTERNAL,
            }),
            State::Over => {}
        }
    }

    fn log(&self, request: &Request<Body>) {
        let component = &*self.limits.component;
        let path = request.uri().path();
        let guuid = request.headers().get("x-guuid");
        match guuid.and_then(|it| it.to_str().ok().filter(|it| is_guuid(it))) {
            Some(guuid) => tracing::info!(
                target: "quantum::calls",
                guuid,
                component,
                action = "request_received",
                path
            ),
            None => tracing::debug!(
                target: "quantum::calls",
                component,
                action = "request_received",
                path
            ),
        }
    }
}

/// The log takes ids, not whatever clients write there.
fn is_guuid(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    text.len() == 36 && text.bytes().all(is_digit)
}

struct Answering {
    routes: Routes,
    state: State,
}

enum State {
    /// The service has not answered yet.
    Waiting(SendStream),
    Writing(Pump),
    /// The client has gone.
    Over,
}

impl Answering {
    /// Ends when the answer is written or nobody wants it.
    async fn run(&mut self, request: Request<Body>) {
        let State::Waiting(send) = &mut self.state else {
            return;
        };
        let response = {
            let working = self.routes.call(request);
            tokio::pin!(working);
            let gone = std::future::poll_fn(|cx| match send.poll_stopped(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            });
            tokio::select! {
                biased;
                response = working => response,
                () = gone => {
                    send.reset(code::CANCELLED);
                    self.state = State::Over;
                    return;
                }
            }
        };
        let State::Waiting(send) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let Ok(response) = response;
        self.state = State::Writing(pump_of(response, send));
        if let State::Writing(pump) = &mut self.state {
            match pump.run().await {
                Ok(()) => {}
                Err(_gone) => pump.reset(code::CANCELLED),
            }
        }
    }
}

fn pump_of(response: Response<Body>, send: SendStream) -> Pump {
    let (head, body) = response.into_parts();
    let status = head.status.as_str().to_owned();
    let given = [(":status", status.as_bytes())];
    let pseudo = if head.status == http::StatusCode::OK {
        &[][..]
    } else {
        &given[..]
    };
    match pump::message(kind::HEADERS, pseudo, &head.headers) {
        Ok(headers) => Pump::new(send, headers, body, true),
        Err(error) => {
            let status = Status::internal(format!("headers cannot be sent: {error}"));
            let headers = pump::message_of(kind::HEADERS, &status);
            Pump::new(send, headers, Body::empty(), true)
        }
    }
}

/// Answers with a status alone.
async fn refuse(mut send: SendStream, status: &Status) {
    let message = pump::message_of(kind::HEADERS, status);
    let writing = send.write(message, End::Stream);
    let _ = tokio::time::timeout(SETTLE, writing).await;
}

fn request(fields: Vec<Field>, reader: Reader, caller: Caller) -> Result<Request<Body>, Status> {
    let mut path = None;
    let mut authority = None;
    for field in &fields {
        match field {
            Field::Pseudo("path", value) => path = Some(value.clone()),
            Field::Pseudo("authority", value) => authority = Some(value.clone()),
            Field::Pseudo(..) | Field::Plain(..) => {}
        }
    }
    let uri = uri(path.as_ref(), authority.as_ref())
        .ok_or_else(|| Status::invalid_argument("request has no usable :path"))?;
    let mut request = Request::new(Body::new(RequestBody(reader)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let mut headers: HeaderMap = plain(fields);
    headers.insert("te", HeaderValue::from_static("trailers"));
    *request.headers_mut() = headers;
    request.extensions_mut().insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(caller.remote),
    });
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn uri(path: Option<&HeaderValue>, authority: Option<&HeaderValue>) -> Option<Uri> {
    let path = path?.to_str().ok().filter(|path| path.starts_with('/'))?;
    let builder = Uri::builder().path_and_query(path);
    let builder = match authority.and_then(|it| it.to_str().ok()) {
        Some(authority) => builder.scheme("http").authority(authority),
        None => builder,
    };
    builder.build().ok()
}

fn reset_code(broken: &Broken) -> u32 {
    match broken {
        Broken::Stream(_) => code::CANCELLED,
        Broken::Kind(_) | Broken::Fields(_) | Broken::Order(_) => code::PROTOCOL,
    }
}
