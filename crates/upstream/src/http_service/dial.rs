//! Making a connection: name, address, TCP, TLS.
//!
//! Each answer of the resolver is checked and then connected to as it is, so that no
//! second look-up can lead elsewhere; TLS asks for the name all the same.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Clock;
use rustls::InvalidMessage;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::guarded::Forbidden;
use super::{Origin, Scheme, Stream, Versions};

use tls::TlsConfig;

pub(super) use names::Names;
pub(super) use tls::TlsClients;

mod names;
mod tls;

/// Why there is no connection. Clones share their cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The name was not resolved, or nothing accepted, within the dial timeout.
    #[error("upstream did not accept a connection in time")]
    TimedOut,
    /// The name has no address.
    #[error("name of the upstream could not be resolved")]
    NameUnknown(#[source] Arc<io::Error>),
    /// None of its addresses may be connected to.
    #[error("address of the upstream is not allowed: {0}")]
    Forbidden(Forbidden),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No way leads there.
    #[error("upstream is unreachable")]
    Unreachable,
    /// TCP failed in another way.
    #[error("connection failed")]
    Tcp(#[source] Arc<io::Error>),
    /// The certificates to trust, or the name to check, are not usable.
    #[error("tls could not be set up: {0}")]
    TlsSetup(Arc<str>),
    /// The handshake failed, be it that the certificate is not trusted.
    #[error("tls handshake failed: {0}")]
    Tls(Arc<io::Error>),
    /// What it answered is no TLS: a plain HTTP port behind `https://`, for example.
    #[error("upstream does not speak tls at this port")]
    NotTls,
    /// The handshake was not done within its time.
    #[error("tls handshake was not done in time")]
    TlsTimedOut,
    /// HTTP/2 was asked for, and the server does not speak it.
    #[error("upstream does not speak http/2")]
    NotHttp2,
    /// The connection was lost in the handshake of HTTP/2.
    #[error("http/2 handshake failed")]
    Http2(#[source] Arc<h2::Error>),
    /// All connections of HTTP/2 had as many streams as the server lets them.
    #[error("upstream had no stream to spare in time")]
    NoStream,
    /// The gateway stops.
    #[error("gateway is stopping")]
    Stopping,
    /// `quantum://` is asked for, and the gateway has no identity to show there.
    #[error("quantum is not set up")]
    NoQuantum,
    /// A handshake of Quantum failed.
    #[error("quantum handshake failed: {0}")]
    Quantum(Arc<str>),
}

impl DialError {
    /// Time ran out, as opposed to something having gone wrong.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut | Self::TlsTimedOut | Self::NoStream)
    }

    /// Its name in figures and logs; one of a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::NameUnknown(_) => "name_unknown",
            Self::Forbidden(_) => "forbidden",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tcp(_) => "tcp",
            Self::TlsSetup(_) => "tls_setup",
            Self::Tls(_) => "tls",
            Self::NotTls => "not_tls",
            Self::TlsTimedOut => "tls_timeout",
            Self::NotHttp2 => "not_http2",
            Self::Http2(_) => "http2",
            Self::NoStream => "no_stream",
            Self::Stopping => "stopping",
            Self::NoQuantum => "no_quantum",
            Self::Quantum(_) => "quantum",
        }
    }

    fn handshake(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|it| it.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            _ => Self::Tls(Arc::new(error)),
        }
    }

    fn tcp(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Tcp(Arc::new(error)),
        }
    }
}

/// A connection just made.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// HTTP/2 is to be spoken on it.
    pub(super) is_http2: bool,
}

/// Connects to one origin.
#[derive(Debug)]
pub(super) struct Dialler {
    origin: Arc<Origin>,
    names: Names,
    tls: TlsConfig,
    tls_timeout: Duration,
    clock: Clock,
}

impl Dialler {
    pub(super) fn new(
        origin: Arc<Origin>,
        tls: Arc<TlsClients>,
        tls_timeout: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            origin,
            names: Names::new(),
            tls: TlsConfig::new(tls),
            tls_timeout,
            clock,
        }
    }

    /// A new connection, within the dial timeout and that of the handshake.
    pub(super) async fn open(&self) -> Result<Dialled, DialError> {
        let tcp = timeout(self.origin.dial_timeout, self.connect())
            .await
            .map_err(|_| DialError::TimedOut)??;
        match self.origin.scheme {
            Scheme::Http => Ok(Dialled {
                stream: Stream::Plain(tcp),
                is_http2: self.origin.versions == Versions::Http2,
            }),
            Scheme::Https => timeout(self.tls_timeout, seal(&self.origin, &self.tls, tcp))
                .await
                .map_err(|_| DialError::TlsTimedOut)?,
            Scheme::Quantum => Err(DialError::NoQuantum),
        }
    }

    async fn connect(&self) -> Result<TcpStream, DialError> {
        let deadline = self.clock.elapsed() + self.origin.dial_timeout;
        let addresses = self.names.resolve(&self.origin, self.clock).await?;
        let mut last = DialError::TimedOut;
        for (index, address) in addresses.iter().enumerate() {
            // An address that does not answer leaves time for those after it.
            let left = deadline.saturating_sub(self.clock.elapsed());
            let tries = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            match timeout(left / tries, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    prepare(&tcp).map_err(DialError::tcp)?;
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = DialError::tcp(error),
                Err(_) => last = DialError::TimedOut,
            }
        }
        Err(last)
    }
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

async fn seal(origin: &Origin, tls: &TlsConfig, tcp: TcpStream) -> Result<Dialled, DialError> {
    let config = tls.get(origin)?;
    let name = origin.tls.server_name.as_ref().unwrap_or(&origin.host);
    let name = ServerName::try_from(name.clone())
        .map_err(|_| DialError::TlsSetup("server name is not a valid name".into()))?;
    let stream = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(DialError::handshake)?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_HTTP2);
    if origin.versions == Versions::Http2 && !is_http2 {
        return Err(DialError::NotHttp2);
    }
    Ok(Dialled {
        stream: Stream::Tls(Box::new(stream)),
        is_http2,
    })
}

/// After how long without traffic the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
