//! One connection of the gateway.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use websocket::handshake::server::{response, validate};
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, close_payload, encode_frame};

use super::Shared;
use super::methods::{Ending, ok};
use super::state::Order;

pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    upgrade(&mut stream).await?;
    let (speaker, orders) = mpsc::channel(4096);
    shared.change(|state| state.ledger.open += 1);
    let mut connection = Connection {
        stream,
        shared,
        speaker,
        listener: None,
        nonce: String::new(),
        ts: 0,
        seq: 0,
    };
    let talked = connection.talk(orders).await;
    let listener = connection.listener;
    drop(connection);
    shared.change(|state| {
        state.ledger.open -= 1;
        if let Some(listener) = listener {
            state.leave(listener);
        }
    });
    talked
}

async fn upgrade(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of what follows is taken.
        bytes.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(bytes)?;
    let headers = text.split("\r\n").skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name, value.trim().as_bytes()))
    });
    let key = validate("GET", 1, headers)?.key.to_owned();
    let mut answer = Vec::new();
    response(&mut answer, &key, None, None);
    stream.write_all(&answer).await?;
    Ok(())
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    speaker: mpsc::Sender<Order>,
    /// Set once it was greeted.
    listener: Option<u64>,
    nonce: String,
    ts: u64,
    seq: u64,
}

/// What a frame asks for; owned, as frames are lent.
enum Heard {
    Request(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
}

impl Connection<'_> {
    async fn talk(&mut self, mut orders: mpsc::Receiver<Order>) -> anyhow::Result<()> {
        self.challenge().await?;
        let mut decoder = Decoder::new(Role::Server, None);
        let mut inflater = Inflater::new();
        let limits = Limits {
            message_max: 64 << 20,
            frame_max: 64 << 20,
            ..Limits::default()
        };
        let mut ticks = tokio::time::interval(self.shared.state().behaviour.tick);
        ticks.reset();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = tokio::select! {
                order = orders.recv() => {
                    let order = order.context("connection has no orders")?;
                    if self.obey(order).await?.is_break() {
                        return Ok(());
                    }
                    continue;
                }
                _ = ticks.tick() => {
                    if self.listener.is_some() && self.shared.state().behaviour.ticks {
                        self.event("tick", &json!({"ts": now_ms()})).await?;
                    }
                    continue;
                }
                count = self.stream.read(&mut buffer) => count?,
            };
            if count == 0 {
                return Ok(());
            }
            let mut heard = Vec::new();
            let mut input = &mut buffer[..count];
            while !input.is_empty() {
                let (used, event) = decoder.decode(&limits, &mut inflater, input)?;
                heard.extend(event.and_then(heed));
                input = &mut input[used..];
            }
            for one in heard {
                if self.act(one).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }

    async fn challenge(&mut self) -> anyhow::Result<()> {
        self.ts = now_ms();
        self.nonce = format!(
            "nonce-{}-{}",
            self.ts,
            self.shared.state().ledger.connects.len()
        );
        let payload = json!({"nonce": self.nonce, "ts": self.ts});
        let frame = json!({"type": "event", "event": "connect.challenge", "payload": payload});
        self.write(&frame).await
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<ControlFlow<()>> {
        match order {
            Order::Event(event, payload) => self.event(&event, &payload).await?,
            Order::Lose => self.seq += 1,
            Order::Close(code, reason) => {
                self.close(code, reason).await?;
                return Ok(ControlFlow::Break(()));
            }
            Order::Drop => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn act(&mut self, heard: Heard) -> anyhow::Result<ControlFlow<()>> {
        match heard {
            Heard::Ping(payload) => self.send(OpCode::Pong, &payload).await?,
            Heard::Close(code) => {
                self.shared.change(|state| state.ledger.closes.push(code));
                self.close(code.unwrap_or(1000), "").await?;
                return Ok(ControlFlow::Break(()));
            }
            Heard::Request(bytes) => {
                let Ok(request) = serde_json::from_slice::<Value>(&bytes) else {
                    self.close(1000, "").await?;
                    return Ok(ControlFlow::Break(()));
                };
                return self.request(&request).await;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn request(&mut self, request: &Value) -> anyhow::Result<ControlFlow<()>> {
        let method = request["method"].as_str().unwrap_or_default();
        if request["type"] != "req" || !request["id"].is_string() {
            self.close(1008, "invalid request frame").await?;
            return Ok(ControlFlow::Break(()));
        }
        self.shared
            .change(|state| state.ledger.requests.push(method.to_owned()));
        if self.listener.is_none() {
            return self.connect(method, request).await;
        }
        let answer = match method {
            "chat.send" => return self.chat_send(request).await,
            "agent.wait" => self.shared.change(|state| state.agent_wait(request)),
            "chat.history" => self.shared.change(|state| state.chat_history(request)),
            _ => self.shared.change(|state| state.unknown_method(request)),
        };
        self.write(&answer).await?;
        Ok(ControlFlow::Continue(()))
    }

    async fn connect(&mut self, method: &str, request: &Value) -> anyhow::Result<ControlFlow<()>> {
        if method != "connect" {
            self.close(1008, "invalid handshake: first request must be connect")
                .await?;
            return Ok(ControlFlow::Break(()));
        }
        let greeted = self.shared.change(|state| {
            let greeted = state.connect(&request["params"], &self.nonce, self.ts);
            if greeted.is_ok() {
                self.listener = Some(state.listen(self.speaker.clone()));
            }
            greeted
        });
        match greeted {
            Ok(hello) => {
                self.write(&ok(request, &hello)).await?;
                Ok(ControlFlow::Continue(()))
            }
            Err(refusal) => {
                let detail = refusal.error["details"]["code"]
                    .as_str()
                    .unwrap_or_default();
                self.shared
                    .change(|state| state.ledger.refusals.push(detail.to_owned()));
                let answer = json!({"type": "res", "id": request["id"], "ok": false,
                    "error": refusal.error});
                self.write(&answer).await?;
                if let Some((code, reason)) = refusal.close {
                    self.close(code, reason).await?;
                }
                Ok(ControlFlow::Break(()))
            }
        }
    }

    async fn chat_send(&mut self, request: &Value) -> anyhow::Result<ControlFlow<()>> {
        let delay = self.shared.state().behaviour.delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let sent = self.shared.change(|state| state.chat_send(request));
        if let Some(response) = &sent.response {
            self.write(response).await?;
            if sent.twice {
                self.write(response).await?;
            }
        }
        if let Some((key, ending)) = sent.run {
            self.shared.change(|state| match ending {
                Ending::Echo(text) => state.finish(&key, &text, true),
                Ending::Failure => state.fail(&key, "the model is gone"),
                Ending::None { session, waits } => {
                    state.tell_begun(&key, &session, waits);
                    Ok(())
                }
            })?;
        }
        if sent.drop {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn event(&mut self, event: &str, payload: &Value) -> anyhow::Result<()> {
        self.seq += 1;
        let frame = json!({"type": "event", "event": event, "payload": payload, "seq": self.seq});
        self.write(&frame).await
    }

    async fn close(&mut self, code: u16, reason: &str) -> anyhow::Result<()> {
        self.send(OpCode::Close, &close_payload(code, reason)).await
    }

    async fn write(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.send(OpCode::Text, frame.to_string().as_bytes()).await
    }

    async fn send(&mut self, opcode: OpCode, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        encode_frame(&mut frame, opcode, true, false, None, payload);
        let write = self.stream.write_all(&frame);
        match tokio::time::timeout(crate::PATIENCE, write).await {
            Ok(written) => Ok(written?),
            Err(_) => bail!("the client does not read"),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

fn heed(event: Event<'_>) -> Option<Heard> {
    match event {
        Event::Message { payload, .. } => Some(Heard::Request(payload.to_vec())),
        Event::Ping(payload) => Some(Heard::Ping(payload.to_vec())),
        Event::Pong(_) => None,
        Event::Close { code, .. } => Some(Heard::Close(code)),
    }
}
