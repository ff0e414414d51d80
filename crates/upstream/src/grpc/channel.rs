//! What carries calls to one endpoint. Clones share its connections.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::target::{Target, Tls, Transport};
use crate::quantum_peer::{Peer, Peers};

/// What carries calls to one endpoint. It connects with the first call, and again after a
/// loss. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Channel(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Tcp(tonic::transport::Channel, Arc<Reach>),
    Quantum(Peer),
}

/// Whether an endpoint is reached, as far as the log knows.
#[derive(Debug)]
struct Reach {
    endpoint: String,
    /// It was said that it is not: once, until it is again.
    is_told: AtomicBool,
}

impl Reach {
    fn of(target: &Target) -> Arc<Self> {
        Arc::new(Self {
            endpoint: target.to_string(),
            is_told: AtomicBool::new(false),
        })
    }

    fn answered(&self) {
        if self.is_told.load(Ordering::Relaxed) && self.is_told.swap(false, Ordering::Relaxed) {
            tracing::info!(endpoint = self.endpoint, "endpoint is reached again");
        }
    }

    /// Says why it is not reached. Clients that cause this again and again fill no log.
    fn failed(&self, error: &(dyn Error + 'static)) {
        let mut cause = Some(error);
        while let Some(error) = cause.filter(|error| !error.is::<tonic::ConnectError>()) {
            cause = error.source();
        }
        if cause.is_none() {
            return;
        }
        let (endpoint, error) = (&*self.endpoint, chain(error));
        if self.is_told.swap(true, Ordering::Relaxed) {
            tracing::debug!(endpoint, error, "endpoint is not reached");
        } else {
            tracing::warn!(endpoint, error, "endpoint is not reached");
        }
    }
}

/// A channel can't be made of what was configured.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Certificates, key or name are of no use.
    #[error("tls could not be set up: {0}")]
    Tls(String),
    /// There is no Quantum endpoint in this process.
    #[error("quantum is not set up")]
    NoQuantum,
}

impl Channel {
    /// A channel to an endpoint; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the TLS settings are of no use.
    pub fn new(
        target: &Target,
        tls: &Tls,
        connect_within: Duration,
        peers: Option<&Peers>,
    ) -> Result<Self, ChannelError> {
        match target.transport {
            Transport::Tcp | Transport::Tls => tcp(target, tls, connect_within),
            Transport::Quantum => {
                let peers = peers.ok_or(ChannelError::NoQuantum)?;
                let name = tls.server_name.as_deref();
                let peer = peers.channel(target.authority(), name, &target.host);
                Ok(Self(Kind::Quantum(peer)))
            }
        }
    }
}

fn tcp(target: &Target, tls: &Tls, connect_within: Duration) -> Result<Channel, ChannelError> {
    let is_sealed = target.transport == Transport::Tls;
    let scheme = if is_sealed { "https" } else { "http" };
    let refused = |error: tonic::transport::Error| ChannelError::Tls(chain(&error));
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.authority()))
        .map_err(refused)?
        .connect_timeout(connect_within)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if is_sealed {
        let mut config = ClientTlsConfig::new();
        config = match &tls.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let name = tls
            .server_name
            .clone()
            .unwrap_or_else(|| target.host.clone());
        endpoint = endpoint
            .tls_config(config.domain_name(name))
            .map_err(refused)?;
    }
    Ok(Channel(Kind::Tcp(
        endpoint.connect_lazy(),
        Reach::of(target),
    )))
}

/// What a channel's call comes to.
pub(super) type Calling =
    Pin<Box<dyn Future<Output = Result<Response<Body>, Box<dyn Error + Send + Sync>>> + Send>>;

impl GrpcService<Body> for Channel {
    type ResponseBody = Body;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.0 {
            Kind::Tcp(channel, _) => GrpcService::poll_ready(channel, cx).map_err(Into::into),
            Kind::Quantum(peer) => GrpcService::poll_ready(&mut peer.0, cx).map_err(Into::into),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Calling {
        match &mut self.0 {
            Kind::Tcp(channel, reach) => {
                let (calling, reach) = (GrpcService::call(channel, request), Arc::clone(reach));
                Box::pin(async move {
                    let answered = calling.await;
                    match &answered {
                        Ok(_) => reach.answered(),
                        Err(error) => reach.failed(error),
                    }
                    answered.map_err(Into::into)
                })
            }
            Kind::Quantum(peer) => {
                let calling = GrpcService::call(&mut peer.0, request);
                Box::pin(async move { Ok(calling.await?.map(|body| Body::new(Marked(body)))) })
            }
        }
    }
}

/// An answer's body whose own failures can be told from what the service said: they have a
/// cause.
struct Marked(Body);

/// The connection was lost within an answer.
#[derive(Debug, thiserror::Error)]
#[error("answer broke off")]
struct BrokeOff;

impl http_body::Body for Marked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(|mut status| {
            status.set_source(Arc::new(BrokeOff));
            status
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// After how long without a word, while calls are open, an endpoint is asked whether it is
/// still there; and how long its answer may take.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes that an endpoint may send of one answer, and of all, before they are read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
