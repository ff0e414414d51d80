//! Connections of HTTP/2.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http1::{Chunk, Fields, Gone, Inflow, RequestHead, ResponseHead};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lifecycle::Clock;
use router::proxy::{Answer, Asked, Body, Refusal, Streaming};

use self::pace::{PACE, Pace, Streams};
use super::alarm::Alarm;
use super::caller::Callers;
use super::reply::Reply;
use super::serve::limits;
use super::socket::{Rewound, Unstalled};
use super::{Front, Peer, gatekeeper, proxied, refusal_of, reply, routes};
use crate::door::Underway;
use crate::live::Live;

mod pace;

/// Bytes a stream may send before it is read; two reads of ours.
const STREAM_WINDOW: u32 = 64 * 1_024;
/// The same for a connection.
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// Bytes of a stream's answer that wait for the client's window.
const SEND_BUFFER: usize = 64 * 1_024;

/// How long the client of a gRPC call may say nothing: thirty days.
const CALL_PATIENCE_MS: u64 = 30 * 24 * 3_600_000;

/// Serves a connection until it ends.
pub(super) async fn serve(front: Arc<Front>, stream: Unstalled, peer: Peer, early: Bytes) {
    let live = front.current.load_full();
    let Some(limits) = live.proxy.http2 else {
        return;
    };
    let patience = live.door.handshake_timeout;
    let streams = Arc::new(Streams::new(front.clock));
    let (service_front, service_peer) = (Arc::clone(&front), peer.clone());
    let service = service_fn(move |request| {
        let (front, peer) = (Arc::clone(&service_front), service_peer.clone());
        async move {
            peer.has_asked();
            Ok::<_, Infallible>(answer(front, peer, request).await)
        }
    });
    let mut builder = http2::Builder::new(Spawning {
        front: Arc::clone(&front),
        streams: Arc::clone(&streams),
        patience,
    });
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_list)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.local_resets)
        .keep_alive_interval(Some(limits.ping_after))
        .keep_alive_timeout(limits.ping_timeout);
    let connection = builder.serve_connection(TokioIo::new(Rewound::new(early, stream)), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = front.tasks.stopping();
    let draining = front.door.closed();
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = streams.rest(patience, live.proxy.keep_alive) => {
            connection.as_mut().graceful_shutdown();
            loop {
                match tokio::time::timeout(patience, connection.as_mut()).await {
                    Ok(served) => break served,
                    // One came in the last moment.
                    Err(_elapsed) if streams.are_open() => {}
                    Err(_elapsed) if streams.have_been() => return,
                    Err(_elapsed) => return front.metrics.refused("handshake_timeout"),
                }
            }
        }
        () = async { tokio::select! { () = stopping.cancelled() => {}, () = draining => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        let reason = refusal_of(&error);
        front.metrics.refused(reason);
        tracing::debug!(%error, reason, "http/2 connection ended");
    }
}

/// hyper's tasks under our owner, one per stream. hyper waits for ever for a client that
/// opens no window for its answer; here such a stream is reset.
#[derive(Clone)]
struct Spawning {
    front: Arc<Front>,
    streams: Arc<Streams>,
    patience: Duration,
}

impl<Task: Future<Output = ()> + Send + 'static> Executor<Task> for Spawning {
    fn execute(&self, task: Task) {
        let open = Streams::opens(&self.streams);
        let (front, patience) = (Arc::clone(&self.front), self.patience);
        let pace = Arc::new(Pace::new(front.clock));
        self.front.tasks.spawn("http/2 stream", async move {
            let task = PACE.scope(Arc::clone(&pace), task);
            tokio::select! {
                biased;
                () = task => {}
                () = pace.stalls(patience) => front.metrics.refused("write_timeout"),
            }
            drop(open);
        });
    }
}

async fn answer(front: Arc<Front>, peer: Peer, request: Request<Incoming>) -> Reply {
    let is_proxied = gatekeeper::is_proxied(request.uri().path())
        || front.proxy.as_ref().is_some_and(|proxy| {
            let content_type = request.headers().get(CONTENT_TYPE);
            proxy.takes_call(
                request.uri().path(),
                content_type.map(HeaderValue::as_bytes),
            )
        });
    match &front.proxy {
        Some(proxy) if is_proxied && front.root.is_none() => {
            let proxy = Arc::clone(proxy);
            let live = front.current.load_full();
            let (parts, body) = request.into_parts();
            let mut head = match http1::http2_request(&parts, !body.is_end_stream(), &limits(&live))
            {
                Ok(head) => head,
                Err(reject) => {
                    front.metrics.refused("request");
                    let status = StatusCode::from_u16(reject.status());
                    let status = status.unwrap_or(StatusCode::BAD_REQUEST);
                    return reply::text(status, &reject.to_string());
                }
            };
            // hyper has no way to tell the client to go on: it does so when it likes, and the
            // upstream need not be asked.
            head.expects_continue = false;
            let underway = front.door.request_begins();
            let mut inflow = StreamInflow::new(body, front.clock, live.proxy.body_patience_ms);
            let answer = proxied_answer(&front, &live, &proxy, &peer, head, &mut inflow).await;
            reply_of(answer, inflow, underway)
        }
        _ => routes::answer(front, peer, request).await,
    }
}

async fn proxied_answer(
    front: &Front,
    live: &Live,
    proxy: &Arc<router::proxy::Proxy>,
    peer: &Peer,
    head: RequestHead,
    inflow: &mut StreamInflow,
) -> Answer {
    let from = proxied::origin(front, live, peer, &head);
    if !live.addresses.admits(from.client) {
        front.metrics.refused("address");
        return proxy.refuse(&Refusal::Denied, &head);
    }
    let found = match proxy.find_call(&head) {
        Some(route) => Ok(route),
        None => proxy.find(head.target.path()),
    };
    match found {
        Ok(route) => {
            if route.is_grpc() {
                // A call may rest between two messages; that its client is there is asked by
                // pings.
                inflow.patience_ms = CALL_PATIENCE_MS;
            }
            let (caller, has_our_token) = Callers::default().of(front, &head.fields).await;
            let asked = Asked {
                head,
                from,
                caller,
                has_our_token,
            };
            proxy.answer(&route, asked, inflow).await
        }
        Err(refusal) => proxy.refuse(&refusal, &head),
    }
}

fn reply_of(answer: Answer, inflow: StreamInflow, underway: Underway) -> Reply {
    let body = match answer.body {
        Body::Stream(streaming) => reply::proxied(StreamBody {
            streaming,
            inflow,
            pace: PACE.try_with(Arc::clone).ok(),
            _underway: underway,
        }),
        Body::Full(bytes) => reply::full(bytes),
        Body::Empty | Body::Tunnel(_) => reply::full(Bytes::new()),
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *reply.headers_mut() = answer
        .fields
        .to_header_map()
        .unwrap_or_else(|_| HeaderMap::new());
    reply
}

/// A stream's request body.
pub(super) struct StreamInflow {
    body: Incoming,
    has_ended: bool,
    clock: Clock,
    alarm: Alarm,
    patience_ms: u64,
    due_ms: Option<u64>,
}

impl StreamInflow {
    fn new(body: Incoming, clock: Clock, patience_ms: u64) -> Self {
        Self {
            has_ended: body.is_end_stream(),
            body,
            clock,
            alarm: Alarm::default(),
            patience_ms,
            due_ms: None,
        }
    }
}

impl Inflow for StreamInflow {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        loop {
            if self.has_ended {
                return Poll::Ready(Ok(Chunk::End(None)));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let now = self.clock.mono_ms();
                    let due = *self
                        .due_ms
                        .get_or_insert(now.saturating_add(self.patience_ms));
                    ready!(self.alarm.poll(cx, self.clock, due));
                    return Poll::Ready(Err(Gone::TooSlow));
                }
            };
            self.due_ms = None;
            match frame {
                None => self.has_ended = true,
                Some(Err(_)) => return Poll::Ready(Err(Gone::Left)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Ok(Chunk::Data(data))),
                    Err(frame) => {
                        self.has_ended = true;
                        let trailers = frame.into_trailers().ok().map(|trailers| {
                            let mut fields = Fields::from_header_map(&trailers);
                            http1::strip_request_trailers(&mut fields);
                            Box::new(fields)
                        });
                        return Poll::Ready(Ok(Chunk::End(trailers)));
                    }
                },
            }
        }
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<Gone> {
        // A stream that is reset takes the task that serves it along.
        Poll::Pending
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        self.alarm.poll(cx, self.clock, at)
    }

    fn interim(&mut self, _head: &ResponseHead) {
        // hyper has no way to send one.
    }
}

/// A stream's answer.
pub(crate) struct StreamBody {
    streaming: Box<Streaming>,
    inflow: StreamInflow,
    pace: Option<Arc<Pace>>,
    _underway: Underway,
}

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = router::proxy::Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(pace) = &this.pace {
            pace.is_taken();
        }
        Poll::Ready(
            match ready!(this.streaming.poll_chunk(cx, &mut this.inflow)) {
                Ok(Chunk::Data(data)) => {
                    if let Some(pace) = &this.pace {
                        pace.gives();
                    }
                    Some(Ok(Frame::data(data)))
                }
                Ok(Chunk::End(None)) => None,
                Ok(Chunk::End(Some(trailers))) => trailers
                    .to_header_map()
                    .ok()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
                Err(broken) => Some(Err(broken)),
            },
        )
    }
}
