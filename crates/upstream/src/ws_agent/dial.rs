//! From a target to an open WebSocket: TCP, TLS, the opening handshake.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use websocket::handshake::client::{ClientHandshake, RequestError, ResponseError};

use super::tls::{Mismatch, TlsClients};
use super::{AgentAuth, Peer, Target};

pub use url::{AgentUrl, UrlError};

pub(super) use stream::Stream;

mod stream;
mod url;

/// An open WebSocket.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// What came behind the handshake already.
    pub(super) rest: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("could not connect: {0}")]
    Connect(io::Error),
    #[error("tls could not be set up: {0}")]
    TlsSetup(rustls::Error),
    #[error("tls handshake failed: {0}")]
    Tls(io::Error),
    #[error(transparent)]
    Certificate(Mismatch),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error("upgrade request could not be written: {0}")]
    Request(#[from] RequestError),
    #[error("connection was lost in the handshake: {0}")]
    Handshake(io::Error),
    #[error("connection was closed in the handshake")]
    Closed,
    #[error(transparent)]
    Response(ResponseError),
    #[error("upgrade was refused with status {status}: {body}")]
    Refused { status: u16, body: String },
}

/// Opens a WebSocket to a target. The caller sets the time limit.
pub(super) async fn open(target: &Target, tls: &TlsClients) -> Result<Dialled, DialError> {
    let url = AgentUrl::parse(&target.url)?;
    let tcp = TcpStream::connect((url.host, url.port))
        .await
        .map_err(DialError::Connect)?;
    tcp.set_nodelay(true).map_err(DialError::Connect)?;
    let stream = if url.tls {
        encrypt(tcp, &url, target, tls).await?
    } else {
        Stream::Plain(tcp)
    };
    upgrade(stream, &url, target).await
}

async fn encrypt(
    tcp: TcpStream,
    url: &AgentUrl<'_>,
    target: &Target,
    tls: &TlsClients,
) -> Result<Stream, DialError> {
    let config = tls
        .config(target.tls_fingerprint)
        .map_err(DialError::TlsSetup)?;
    let name =
        rustls::pki_types::ServerName::try_from(url.host.to_owned()).map_err(|_| UrlError::Host)?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(match Mismatch::within(&error) {
            Some(mismatch) => DialError::Certificate(mismatch),
            None => DialError::Tls(error),
        }),
    }
}

async fn upgrade(
    mut stream: Stream,
    url: &AgentUrl<'_>,
    target: &Target,
) -> Result<Dialled, DialError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    let handshake = ClientHandshake::new(key);

    let bearer = match (&target.peer, &target.auth) {
        (Peer::Stratix, AgentAuth::Token(secret) | AgentAuth::Password(secret)) => {
            Some(format!("Bearer {}", secret.reveal()))
        }
        (Peer::Stratix, AgentAuth::None) | (Peer::OpenClaw, _) => None,
    };
    let mut headers = vec![("User-Agent", USER_AGENT)];
    if let Some(bearer) = &bearer {
        headers.push(("Authorization", bearer));
    }
    let request = handshake.request(&url.host_header(), &url.target, &headers)?;
    stream
        .write_all(&request)
        .await
        .map_err(DialError::Handshake)?;
    stream.flush().await.map_err(DialError::Handshake)?;

    let mut received = Vec::with_capacity(1024);
    loop {
        // The handshake has a limit of its own, which ends this loop.
        match handshake.parse(&received) {
            Ok(Some((used, _))) => {
                received.drain(..used);
                let rest = received;
                return Ok(Dialled { stream, rest });
            }
            Ok(None) => {}
            Err(ResponseError::Status(status)) => {
                let body = refusal(&mut stream, received).await;
                return Err(DialError::Refused { status, body });
            }
            Err(error) => return Err(DialError::Response(error)),
        }
        let read = stream.read_buf(&mut received).await;
        if read.map_err(DialError::Handshake)? == 0 {
            return Err(DialError::Closed);
        }
    }
}

/// The beginning of the body of a refusal, as far as it comes at once.
async fn refusal(stream: &mut Stream, mut received: Vec<u8>) -> String {
    let head = received.windows(4).position(|four| four == b"\r\n\r\n");
    let body = head.map_or(received.len(), |at| at + 4);
    let more = async {
        while received.len() < body + REFUSAL_SHOWN {
            match stream.read_buf(&mut received).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // What has come by then is what is shown.
    drop(tokio::time::timeout(REFUSAL_WAIT, more).await);
    let shown = received.get(body..).unwrap_or_default();
    let shown = &shown[..shown.len().min(REFUSAL_SHOWN)];
    let text = String::from_utf8_lossy(shown);
    let text = text.trim_end_matches('\u{fffd}');
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Bytes of the body of a refusal that operators see.
const REFUSAL_SHOWN: usize = 200;

/// How long the body of a refusal may take.
const REFUSAL_WAIT: std::time::Duration = std::time::Duration::from_millis(500);
