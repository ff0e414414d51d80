//! A blocking live-data client: subjects as JSON text, payloads as binary frames.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use tungstenite::{Message, WebSocket};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct LiveClient {
    socket: WebSocket<TcpStream>,
    /// The sub-protocol that the server has chosen.
    pub protocol: Option<String>,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A payload, with or without its subject.
    Payload(Vec<u8>),
    /// A notice.
    Notice(Value),
    /// The end.
    Closed(Option<u16>),
}

/// A handshake that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// `code` of the body.
    pub code: String,
}

impl LiveClient {
    /// Connects; what the server refuses is no error of the test's.
    ///
    /// # Errors
    /// If there is no answer at all.
    pub fn open(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Result<Self, Refused>> {
        let mut request = format!("ws://{address}{target}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_str(value)?,
            );
        }
        let stream = TcpStream::connect(address).context("gateway does not accept")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.and_then(|value| value.to_str().ok());
                Ok(Ok(Self {
                    socket,
                    protocol: protocol.map(str::to_owned),
                }))
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let status: StatusCode = response.status();
                let body = response.body().as_deref().unwrap_or_default();
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                Ok(Err(Refused {
                    status: status.as_u16(),
                    code: body["code"].as_str().unwrap_or_default().to_owned(),
                }))
            }
            Err(error) => bail!("handshake failed: {error}"),
        }
    }

    /// Connects to `/live/ws` with a token.
    ///
    /// # Errors
    /// If the client is not let in.
    pub fn connect(address: SocketAddr, token: &str, query: &str) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {token}");
        Self::open(
            address,
            &format!("/live/ws{query}"),
            &[("authorization", &bearer)],
        )?
        .map_err(|refused| anyhow::anyhow!("client was refused: {refused:?}"))
    }

    /// Subscribes to subjects and waits until the server has seen to it: it answers in
    /// order, and says of one subject that nobody may have that it is refused.
    ///
    /// # Errors
    /// If that does not come.
    pub fn subscribe(&mut self, subjects: &[&str], replace: bool) -> anyhow::Result<()> {
        self.send(&json!({
            "type": "subscribe", "subjects": subjects, "replace": replace,
        }))?;
        self.settle()
    }

    /// Ends subscriptions, and waits likewise.
    ///
    /// # Errors
    /// If that does not come.
    pub fn unsubscribe(&mut self, subjects: &[&str]) -> anyhow::Result<()> {
        self.send(&json!({ "type": "unsubscribe", "subjects": subjects }))?;
        self.settle()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        self.socket.send(Message::text(message.to_string()))?;
        Ok(())
    }

    /// What comes next.
    ///
    /// # Errors
    /// If nothing comes in time.
    pub fn hear(&mut self) -> anyhow::Result<Said> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Said::Notice(serde_json::from_str(&text)?)),
                Ok(Message::Binary(bytes)) => return Ok(Said::Payload(bytes.to_vec())),
                Ok(Message::Close(close)) => {
                    return Ok(Said::Closed(close.map(|close| close.code.into())));
                }
                // Pings are answered by the library.
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("nothing came within {PATIENCE:?}")
    }

    /// Waits for a payload.
    ///
    /// # Errors
    /// If something else comes, or nothing.
    pub fn payload(&mut self) -> anyhow::Result<Vec<u8>> {
        match self.hear()? {
            Said::Payload(payload) => Ok(payload),
            other => bail!("no payload came, but {other:?}"),
        }
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.send(&json!({ "type": "subscribe", "subjects": [NOBODYS] }))?;
        loop {
            match self.hear()? {
                Said::Notice(notice) if notice["subject"] == NOBODYS => return Ok(()),
                Said::Closed(code) => bail!("connection was closed: {code:?}"),
                Said::Notice(_) | Said::Payload(_) => {}
            }
        }
    }
}

/// A subject that nobody may have.
const NOBODYS: &str = "nobodys";
