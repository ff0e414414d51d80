//! The agent: outside of the gateway, so it survives the kills. It notes what comes before
//! it acknowledges it.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tungstenite::Message;

use super::chance::Chance;
use super::message;
use super::scene::Scene;

/// How the agent behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// Acknowledges everything at once.
    #[default]
    Steady,
    /// Now and then drops the connection between a message and its acknowledgement.
    Drops,
    /// Now and then does not acknowledge a message.
    Forgets,
    /// Takes no connection and no message.
    Refuses,
    /// Takes its time for each message.
    Slow,
}

/// A running agent; dropping it closes its port.
#[derive(Debug)]
pub(super) struct Agent {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Agent {
    pub(super) fn start(scene: Arc<Scene>, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let accepting = Builder::new()
            .name("agent".to_owned())
            .spawn(move || accept(&listener, &stopped, &scene, seed))?;
        Ok(Self {
            address,
            is_stopped,
            accepting: Some(accepting),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, is_stopped: &AtomicBool, scene: &Arc<Scene>, seed: u64) {
    let mut chance = Chance::new(seed.rotate_left(32));
    for stream in listener.incoming().map_while(Result::ok) {
        if is_stopped.load(Ordering::Relaxed) {
            return;
        }
        let scene = Arc::clone(scene);
        let chance = Chance::new(chance.draw());
        // A connection that ends is nothing special here: a killed gateway ends them all.
        let serve = move || drop(serve(stream, &scene, chance));
        if Builder::new().spawn(serve).is_err() {
            return;
        }
    }
}

fn serve(mut stream: TcpStream, scene: &Scene, mut chance: Chance) -> anyhow::Result<()> {
    if scene.manner() == Manner::Refuses {
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let mut socket = tungstenite::accept(stream).context("handshake failed")?;
    loop {
        let Message::Text(text) = socket.read()? else {
            continue;
        };
        let manner = scene.manner();
        if manner == Manner::Refuses {
            return Ok(());
        }
        let message: Value = serde_json::from_str(&text)?;
        match message::read(&message) {
            Ok((name, hash)) => scene.arrive(name, hash),
            Err(error) => scene.remark(format!("invented: {error}")),
        }
        match manner {
            Manner::Drops if chance.once_in(100) => return Ok(()),
            Manner::Forgets if chance.once_in(50) => continue,
            Manner::Slow => std::thread::park_timeout(Duration::from_millis(1)),
            _ => {}
        }
        let ack = json!({
            "type": 2,
            "action": "ack",
            "clientId": message["clientId"],
            "messageId": message["messageId"],
        });
        socket.send(Message::text(ack.to_string()))?;
    }
}
