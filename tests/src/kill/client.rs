//! A client: it sends ahead, and after a loss sends again what was not acknowledged.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use super::chance::Chance;
use super::ledger::Entry;
use super::message::{self, Hash, Name};
use super::scene::Scene;

/// A client on a thread of its own.
#[derive(Debug)]
pub(super) struct Client {
    thread: JoinHandle<Sent>,
}

/// Everything a client has sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) client: u16,
    /// By number.
    pub(super) hashes: Vec<Hash>,
}

impl Client {
    pub(super) fn start(
        number: u16,
        chance: Chance,
        scene: Arc<Scene>,
        ledger: SyncSender<Entry>,
    ) -> anyhow::Result<Self> {
        let sender = Sender {
            scene,
            ledger,
            chance,
            sent: Sent {
                client: number,
                hashes: Vec::new(),
            },
            waiting: VecDeque::new(),
        };
        let thread = Builder::new()
            .name(format!("client {number}"))
            .spawn(move || sender.run())?;
        Ok(Self { thread })
    }

    /// Everything it sent is acknowledged.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it sent.
    pub(super) fn join(self) -> anyhow::Result<Sent> {
        let sent = self.thread.join();
        sent.map_err(|_| anyhow::anyhow!("a client has panicked"))
    }
}

struct Sender {
    scene: Arc<Scene>,
    ledger: SyncSender<Entry>,
    chance: Chance,
    sent: Sent,
    /// Sent and not acknowledged, in the order of sending.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    name: Name,
    id: String,
    text: String,
    hash: Hash,
}

impl Sender {
    fn run(mut self) -> Sent {
        loop {
            let Some(address) = self.scene.wait_open(LOOK_AGAIN) else {
                continue;
            };
            match self.converse(address) {
                Ok(End::Finished) => return self.sent,
                Ok(End::HungUp) => {}
                // The gateway is killed most likely; whoever kills it says where the next is.
                Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
            }
        }
    }

    /// One connection.
    fn converse(&mut self, address: SocketAddr) -> anyhow::Result<End> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let client = self.sent.client;
        let url = format!("ws://{address}/relay/ws?clientId=client-{client}&ack=true");
        let (mut socket, _) = tungstenite::client(url, stream).context("handshake failed")?;
        socket.get_ref().set_read_timeout(Some(LOOK_AGAIN))?;
        for waiting in &self.waiting {
            socket.write(Message::text(waiting.text.clone()))?;
        }
        let ahead = usize::try_from(1 + self.chance.below(AHEAD_MAX)).unwrap_or(1);
        loop {
            while self.waiting.len() < ahead && self.may_send() {
                let text = self.compose();
                socket.write(Message::text(text))?;
            }
            socket.flush()?;
            if self.waiting.is_empty() && self.scene.is_finishing() {
                return Ok(End::Finished);
            }
            if self.chance.once_in(HANGS_UP_ONCE_IN) {
                return Ok(End::HungUp);
            }
            self.read(&mut socket)?;
        }
    }

    fn may_send(&self) -> bool {
        self.scene.has_room() && !self.scene.is_finishing()
    }

    /// The next message.
    fn compose(&mut self) -> String {
        let priority = match self.chance.below(20) {
            0..=2 => 0,
            3..=13 => 1,
            _ => 2,
        };
        let name = Name {
            client: self.sent.client,
            number: u32::try_from(self.sent.hashes.len()).unwrap_or(u32::MAX),
            priority,
        };
        let size_max = self.scene.size_max.load(Ordering::Relaxed).max(1);
        let (text, hash) = message::write(name, size_max, &mut self.chance);
        self.sent.hashes.push(hash);
        self.waiting.push_back(Waiting {
            name,
            id: name.message_id(),
            text: text.clone(),
            hash,
        });
        text
    }

    fn read(&mut self, socket: &mut WebSocket<TcpStream>) -> anyhow::Result<()> {
        match socket.read() {
            Ok(Message::Text(text)) => self.hear(&serde_json::from_str(&text)?),
            Ok(Message::Close(close)) => {
                // A killed gateway says nothing.
                let client = self.sent.client;
                self.scene
                    .remark(format!("client {client} was sent away: {close:?}"));
                bail!("gateway closed the connection")
            }
            Ok(_) => Ok(()),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&mut self, said: &Value) -> anyhow::Result<()> {
        let id = said["messageId"].as_str().unwrap_or_default();
        match said["action"].as_str() {
            Some("ack") if said["level"] == "durable" || said["level"] == "delivered" => {
                // An acknowledgement of what was sent again may come twice.
                let place = self.waiting.iter().position(|waiting| waiting.id == id);
                if let Some(Waiting { name, hash, .. }) =
                    place.and_then(|place| self.waiting.remove(place))
                {
                    self.ledger
                        .send(Entry { name, hash })
                        .context("ledger is gone")?;
                }
                Ok(())
            }
            // Nothing here gives the gateway a reason to refuse.
            _ => {
                let client = self.sent.client;
                self.scene.remark(format!("client {client} heard {said}"));
                bail!("message was refused")
            }
        }
    }
}

/// How a connection ended.
enum End {
    /// All is acknowledged and nothing is to be sent.
    Finished,
    /// The client went in the middle of everything.
    HungUp,
}

/// Most messages sent ahead of their acknowledgements.
const AHEAD_MAX: u64 = 32;

/// In frames read.
const HANGS_UP_ONCE_IN: u64 = 2_000;

/// How often a client looks whether there is something else to do.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
