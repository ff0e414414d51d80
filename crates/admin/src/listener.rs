//! A socket for the router: HTTP/1.1 with bounds on heads, time and number.

mod write_deadline;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lifecycle::{CancellationToken, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use write_deadline::WriteDeadline;

/// Who is at the other end, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Fires when the listener stops, as an extension of each request: answers without an end
/// end then.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// How long a TLS handshake, a request's head, or the silence before it may take.
    pub header_timeout: Duration,
    /// Largest request head in bytes (431); below 8,192 counts as that.
    pub header_bytes_max: usize,
    /// Most header fields (431).
    pub headers_max: usize,
    /// How long a client may take nothing of an answer before it is cut off.
    pub write_timeout: Duration,
    /// Most connections at once; further ones wait in the socket's backlog.
    pub connections_max: usize,
    /// How long requests under way may take to finish once the shutdown has begun.
    pub grace: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            header_bytes_max: 16 * 1024,
            headers_max: 64,
            write_timeout: Duration::from_secs(10),
            connections_max: 1_024,
            grace: Duration::from_secs(5),
        }
    }
}

/// Serves plain HTTP until `shutdown` completes, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ListenerLimits,
    shutdown: impl Future<Output = ()>,
) {
    serve_with(
        listener,
        router,
        limits,
        async |stream| Ok(stream),
        shutdown,
    )
    .await;
}

/// As [`serve`], over whatever `accept` makes of a socket: TLS, for example. A failure of
/// `accept` closes that socket.
pub async fn serve_with<A, F, S>(
    listener: TcpListener,
    router: Router,
    limits: ListenerLimits,
    accept: A,
    shutdown: impl Future<Output = ()>,
) where
    A: Fn(TcpStream) -> F + Clone + Send + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let connections = Tasks::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = next_socket(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin listener did not accept");
                // Out of descriptors, most likely: the wait lets some be closed.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (accept, router, limits) = (accept.clone(), router.clone(), limits.clone());
        let stopping = connections.stopping();
        connections.spawn("admin connection", async move {
            match tokio::time::timeout(limits.header_timeout, accept(stream)).await {
                Ok(Ok(stream)) => serve_connection(stream, peer, router, &limits, stopping).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "admin handshake failed"),
                Err(_elapsed) => tracing::debug!(%peer, "admin handshake timed out"),
            }
            drop(slot);
        });
    }
    drop(listener);
    // Each connection keeps to the grace by itself; a handshake to its own, longer, time.
    connections
        .stop(limits.grace.max(limits.header_timeout))
        .await;
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// Waits for a slot first, so that there is no socket without one.
async fn next_socket(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Slot)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Fails if the client is gone already, and then so does the first read.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, slot))
}

async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: &ListenerLimits,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let told = Stopping(stopping.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(told.clone());
        router.call(request)
    });
    let stream = WriteDeadline::new(stream, limits.write_timeout);
    let connection = http1::Builder::new()
        // Without a timer the header timeout would be off, silently.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.grace, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    tracing::warn!(%peer, "admin connection was cut off at the end of the grace");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "admin connection failed");
    }
}

/// The HTTP library refuses to work with less.
const HEADER_BYTES_MIN: usize = 8_192;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
