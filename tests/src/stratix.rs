//! A blocking client of the relay: messages as JSON text frames over `/relay/ws`.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::AUTHORIZATION;
use tungstenite::{Message, WebSocket};

/// One connection of one client.
///
/// What comes is kept until somebody waits for it, at most [`KEPT_MAX`] messages.
#[derive(Debug)]
pub struct StratixClient {
    socket: WebSocket<TcpStream>,
    inbox: VecDeque<Value>,
}

impl StratixClient {
    /// Connects as `client`, with a token whose subject is that id. Acknowledgements are on;
    /// `query` is appended as it is (`&loadHistory=true`).
    pub fn connect(
        address: SocketAddr,
        client: &str,
        token: &str,
        query: &str,
    ) -> anyhow::Result<Self> {
        let url = format!("ws://{address}/relay/ws?clientId={client}&ack=true{query}");
        let mut request = url.into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let stream = TcpStream::connect(address).context("gateway does not accept")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (socket, _) = tungstenite::client(request, stream)
            .map_err(|error| anyhow::anyhow!("handshake of client {client:?} failed: {error}"))?;
        Ok(Self {
            socket,
            inbox: VecDeque::new(),
        })
    }

    /// Sends a text message.
    pub fn send(&mut self, message_id: &str, text: &str) -> anyhow::Result<()> {
        self.send_json(&json!({ "type": 0, "messageId": message_id, "data": text }))
    }

    /// Sends a message as it is.
    pub fn send_json(&mut self, message: &Value) -> anyhow::Result<()> {
        self.socket.send(Message::text(message.to_string()))?;
        Ok(())
    }

    /// Sends a binary frame.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.socket.send(Message::binary(bytes.to_vec()))?;
        Ok(())
    }

    /// Waits for the acknowledgement of a message at a level.
    ///
    /// # Errors
    /// Also if the gateway says instead that the message failed for good.
    pub fn wait_ack(
        &mut self,
        message_id: &str,
        level: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let told = self.wait(patience, |message| {
            let action = message["action"].as_str().unwrap_or_default();
            message["messageId"] == message_id
                && (action == "ack" && message["level"] == level
                    || action == "error" && message["final"] == true)
        });
        let told = told.with_context(|| format!("no ack {level:?} for {message_id:?}"))?;
        ensure!(
            told["action"] == "ack",
            "message {message_id:?} failed: {told}"
        );
        Ok(())
    }

    /// Waits for a text message of the agent whose text satisfies `wanted`; its text.
    pub fn wait_text(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let message = self.wait(patience, |message| {
            message["type"] == 0 && message["data"].as_str().is_some_and(&wanted)
        })?;
        Ok(message["data"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a message that satisfies `wanted`, and takes it out of what came.
    pub fn wait(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(index) = self.inbox.iter().position(&wanted) {
                return self.inbox.remove(index).context("the index was found");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "nothing like it within {patience:?}; came: {:?}",
                    self.inbox
                );
            }
            self.read_once(left)?;
        }
    }

    /// What came and was not waited for.
    pub fn unclaimed(&self) -> impl Iterator<Item = &Value> {
        self.inbox.iter()
    }

    fn read_once(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.socket
            .get_ref()
            .set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text)
                    .with_context(|| format!("frame is not JSON: {text}"))?;
                ensure!(self.inbox.len() < KEPT_MAX, "too many unclaimed messages");
                self.inbox.push_back(message);
            }
            Ok(Message::Close(close)) => bail!("gateway closed the connection: {close:?}"),
            // Pings are answered by the library.
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Most messages that nobody has waited for.
const KEPT_MAX: usize = 10_000;
