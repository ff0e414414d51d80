//! An agent that speaks the Stratix message JSON: a WebSocket server to which the gateway
//! connects.

use std::collections::HashSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use anyhow::Context;
use serde_json::{Value, json};
use tungstenite::Message;

/// A running agent; dropping it closes its port and its connections.
pub(crate) struct Agent {
    shared: Arc<Shared>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    name: &'static str,
    answer: fn(&str) -> String,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    /// Messages seen, by client and id. The gateway may send one twice after a crash, always
    /// with the same id.
    seen: Mutex<HashSet<(String, String)>>,
}

impl Agent {
    /// Listens on a port of the loopback interface and answers each message.
    pub(crate) fn start(
        name: &'static str,
        port: u16,
        answer: fn(&str) -> String,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("{name} could not listen on port {port}"))?;
        let shared = Arc::new(Shared {
            name,
            answer,
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
            seen: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let accepting = Builder::new()
            .name(name.to_owned())
            .spawn(move || accepting.accept(&listener))?;
        Ok(Self {
            shared,
            port,
            accepting: Some(accepting),
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
        for connection in lock(&self.shared.connections).drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            lock(&self.connections).extend(stream.try_clone());
            let shared = Arc::clone(self);
            // The end of a connection is an error like any other here.
            let serve = move || drop(shared.serve(stream));
            if Builder::new().spawn(serve).is_err() {
                return;
            }
        }
    }

    fn serve(&self, stream: TcpStream) -> anyhow::Result<()> {
        let mut socket = tungstenite::accept(stream).context("handshake failed")?;
        loop {
            let Message::Text(text) = socket.read()? else {
                continue;
            };
            let message: Value = serde_json::from_str(&text)?;
            let of = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            let (client, id, said) = (of("clientId"), of("messageId"), of("data"));
            // Acknowledged, so that the gateway can forget it.
            let ack = json!({ "type": 2, "action": "ack", "clientId": client, "messageId": id });
            socket.send(Message::text(ack.to_string()))?;
            if !lock(&self.seen).insert((client.clone(), id.clone())) {
                continue;
            }
            println!("{:<12} gets {id} {said:?} from {client}", self.name);
            let answer = json!({
                "type": 0,
                "clientId": client,
                "messageId": format!("{id}-answer"),
                "data": (self.answer)(&said),
            });
            socket.send(Message::text(answer.to_string()))?;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
