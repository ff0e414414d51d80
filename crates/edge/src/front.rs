//! From an accepted socket to a client's connection.
//!
//! This part runs on the background runtime, one task per socket, with deadlines:
//! PROXY header, TLS, request head. Each head is checked by `http1`, which refuses what
//! two parsers might read differently. Requests for the HTTP proxy are served by the
//! task of their connection; all others are lent to hyper (`gatekeeper`), as is HTTP/2.
//! What becomes a WebSocket leaves hyper and the runtime for good and moves to a worker.
//! So a flood of handshakes competes with other handshakes, not with the fan-out.

mod address;
mod alarm;
mod caller;
mod client;
mod emulation;
mod gatekeeper;
mod http2;
mod live;
mod origin;
mod pages;
mod proxied;
mod pump;
mod relay;
mod reply;
mod routes;
mod serve;
mod socket;
mod websocket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::router::proxy::Proxy;
use ::router::relay::Relay;
use bytes::Bytes;
use lifecycle::{CancellationToken, Clock, Tasks};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::door::Door;
use crate::fleet::Fleet;
use crate::live::Current;
use crate::metrics::Metrics;
use crate::tls::TlsStream;
pub(crate) use address::{forwarded_for, proxy_header};
pub(crate) use emulation::percent_decoded;
use socket::{Socket, Stream, Unstalled};

/// Connections the system keeps for us while we are busy.
const BACKLOG: i32 = 4_096;

/// Sockets with hyper at once: plain requests, streaming clients, handshakes.
const HTTP_SOCKETS_MAX: usize = 65_536;

/// How long to leave the listener alone when the system has no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Takes sockets in and makes connections of them.
pub struct Front {
    /// All workers.
    pub fleet: Arc<Fleet>,
    /// The way to agents, if there is one.
    pub relay: Option<Arc<Relay>>,
    /// The way to HTTP services, if there is one.
    pub proxy: Option<Arc<Proxy>>,
    /// Whose administrator's token it is, if it is one.
    pub superuser: Superuser,
    /// Which application stands at the bare paths; `None` is the gateway itself.
    pub root: Option<Root>,
    /// Settings in force.
    pub current: Current,
    /// Who is let in.
    pub door: Arc<Door>,
    /// The edge's metrics.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
    /// Owns the tasks.
    pub tasks: Tasks,
    /// TLS, if the listener speaks it.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Handshakes under way at once.
    pub handshakes_pending: usize,
}

/// Tells the name of an administrator's token.
pub type Superuser = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// An application at the bare paths of a listener, as in its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// `/ws`, `/health`, `/metrics`, `/v1/…` (`contracts`: relay 1.2).
    Relay,
    /// `/ws`, `/healthz`, `/metrics.json` (`contracts`: live-data 6.2, 6.3).
    Live,
}

/// Binds a listening socket; with `shared`, several may be bound to one address and
/// the system spreads connections over them.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(shared)?;
    #[cfg(not(target_os = "linux"))]
    let _not_here = shared;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What is known of a socket's client before its first request.
#[derive(Clone)]
struct Peer {
    address: IpAddr,
    /// Held until the first request has been read.
    handshake: Arc<Mutex<Option<Handshake>>>,
}

/// A place among the handshakes under way.
struct Handshake {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.metrics.handshake_ends();
    }
}

impl Front {
    /// Accepts until told to stop; sockets taken in go on.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let pending = Arc::new(Semaphore::new(self.handshakes_pending.max(1)));
        let sockets = Arc::new(Semaphore::new(HTTP_SOCKETS_MAX));
        let accepts = listeners.into_iter().map(|listener| {
            let (front, stop) = (Arc::clone(&self), stop.clone());
            let (pending, sockets) = (Arc::clone(&pending), Arc::clone(&sockets));
            async move { front.accept(listener, &stop, pending, sockets).await }
        });
        for accept in accepts {
            self.tasks.spawn("accept", accept);
        }
        stop.cancelled().await;
        self.door.close();
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        stop: &CancellationToken,
        pending: Arc<Semaphore>,
        sockets: Arc<Semaphore>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    // Only now, so that a listener nobody comes to holds no place back.
                    let permits = async {
                        let permit = Arc::clone(&pending).acquire_owned().await.ok()?;
                        Some((permit, Arc::clone(&sockets).acquire_owned().await.ok()?))
                    };
                    let (permit, place) = tokio::select! {
                        permits = permits => match permits {
                            Some(permits) => permits,
                            None => return,
                        },
                        () = stop.cancelled() => return,
                    };
                    self.metrics.handshake_begins();
                    let handshake = Handshake {
                        _permit: permit,
                        metrics: Arc::clone(&self.metrics),
                    };
                    let front = Arc::clone(&self);
                    self.tasks.spawn("client socket", async move {
                        front.take_in(tcp, peer.ip(), handshake).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    self.metrics.refused("accept");
                    // Clients that exhaust the descriptors would fill the log with it.
                    tracing::debug!(%error, "connection could not be accepted");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn take_in(self: Arc<Self>, mut tcp: TcpStream, peer: IpAddr, handshake: Handshake) {
        let live = self.current.load_full();
        let deadline = live.door.handshake_timeout;
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small writes may be delayed");
        }
        let prepared = tokio::time::timeout(deadline, async {
            let mut client = peer.to_canonical();
            let mut early = Bytes::new();
            if self.proxy_protocol {
                match address::read_proxy_header(&mut tcp, client, &live.addresses).await {
                    Ok((address, rest)) => {
                        client = address.to_canonical();
                        early = rest;
                    }
                    Err(error) => {
                        self.metrics.refused("proxy_header");
                        tracing::debug!(%error, "proxy header was refused");
                        return None;
                    }
                }
            }
            let socket = Socket { tcp, early };
            let stream = match &self.tls {
                None => Stream::Plain(socket),
                Some(config) => match TlsStream::accept(Arc::clone(config), socket).await {
                    Ok(stream) => Stream::Tls(Box::new(stream)),
                    Err(error) => {
                        self.metrics.refused("tls");
                        tracing::debug!(%error, "tls handshake failed");
                        return None;
                    }
                },
            };
            Some((stream, client))
        });
        match prepared.await {
            Ok(Some((stream, client))) => {
                let is_http2 = stream.has_chosen_http2();
                self.serve_connection(
                    Unstalled::new(stream, deadline),
                    client,
                    is_http2,
                    handshake,
                )
                .await;
            }
            Ok(None) => {}
            Err(_elapsed) => self.metrics.refused("handshake_timeout"),
        }
    }
}

/// For the metric: what hyper did not like.
fn refusal_of(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        "header_size"
    } else if error.is_parse() {
        "request"
    } else if error.is_timeout() {
        "handshake_timeout"
    } else if is_stalled(error) {
        "write_timeout"
    } else {
        "connection_lost"
    }
}

/// Whether the client took nothing of its answer for too long.
fn is_stalled(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}
