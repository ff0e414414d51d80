//! One connection of the scripted agent.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use websocket::handshake::server::{response, validate};
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, close_payload, encode_frame};

use super::{Order, Received, Request, Shared};

pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
) -> anyhow::Result<()> {
    let request = head(&mut stream).await?;
    let path = request.path.clone();
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let key = validate("GET", 1, headers)?.key.to_owned();
    shared.note(|ledger| ledger.requests.push(request));
    if let Some((status, body)) = shared.behaviour().refusal {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
        return Ok(());
    }
    let (speaker, orders) = mpsc::channel(64);
    shared.speakers().insert(path.clone(), speaker.clone());
    let mut answer = Vec::new();
    response(&mut answer, &key, None, None);
    stream.write_all(&answer).await?;
    shared.note(|ledger| {
        ledger.open += 1;
        ledger.most_open = ledger.most_open.max(ledger.open);
    });
    let talked = Connection {
        stream,
        shared,
        path: &path,
        received: 0,
    }
    .talk(orders)
    .await;
    {
        // A newer connection may have taken the path over.
        let mut speakers = shared.speakers();
        if speakers
            .get(&path)
            .is_some_and(|now| now.same_channel(&speaker))
        {
            speakers.remove(&path);
        }
    }
    shared.note(|ledger| {
        ledger.open -= 1;
        ledger.ended += 1;
    });
    talked
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Request> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of what follows is taken.
        bytes.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(bytes)?;
    let mut lines = text.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Request {
        path: path.context("request has no target")?.to_owned(),
        headers: lines.filter_map(header).collect(),
    })
}

struct Connection<'a, S> {
    stream: S,
    shared: &'a Shared,
    path: &'a str,
    /// Messages so far.
    received: usize,
}

/// What a frame asks for; owned, as frames are lent.
enum Heard {
    Text(String),
    Ping(Vec<u8>),
    Close(Option<u16>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn talk(mut self, mut orders: mpsc::Receiver<Order>) -> anyhow::Result<()> {
        if let Some(len) = self.shared.behaviour().greeting_len {
            self.write(OpCode::Text, "x".repeat(len).as_bytes()).await?;
        }
        let mut decoder = Decoder::new(Role::Server, None);
        let mut inflater = Inflater::new();
        let limits = Limits {
            message_max: 128 << 20,
            frame_max: 128 << 20,
            ..Limits::default()
        };
        let mut buffer = vec![0; 4096];
        loop {
            let reads = self.shared.behaviour().reads;
            let count = tokio::select! {
                order = orders.recv() => {
                    match order {
                        Some(Order::Say(text)) => self.write(OpCode::Text, text.as_bytes()).await?,
                        Some(Order::Drop) | None => return Ok(()),
                    }
                    continue;
                }
                count = self.stream.read(&mut buffer), if reads => count?,
                () = tokio::time::sleep(Duration::from_millis(20)), if !reads => continue,
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

    async fn act(&mut self, heard: Heard) -> anyhow::Result<std::ops::ControlFlow<()>> {
        use std::ops::ControlFlow::{Break, Continue};
        let behaviour = self.shared.behaviour();
        match heard {
            Heard::Ping(payload) => {
                self.shared.note(|ledger| ledger.pings += 1);
                if behaviour.answers_control {
                    self.write(OpCode::Pong, &payload).await?;
                }
            }
            Heard::Close(code) => {
                let path = self.path.to_owned();
                self.shared.note(|ledger| ledger.closes.push((path, code)));
                if behaviour.answers_control {
                    let payload = close_payload(code.unwrap_or(1000), "");
                    self.write(OpCode::Close, &payload).await?;
                    return Ok(Break(()));
                }
            }
            Heard::Text(text) => {
                self.received += 1;
                let message: Value = serde_json::from_str(&text)?;
                self.note(&message)?;
                if behaviour
                    .close_after
                    .is_some_and(|count| self.received >= count)
                {
                    return Ok(Break(()));
                }
                if !behaviour.delay.is_zero() {
                    tokio::time::sleep(behaviour.delay).await;
                }
                let (client, id) = (&message["clientId"], &message["messageId"]);
                if behaviour.acks {
                    let ack =
                        json!({"type": 2, "action": "ack", "clientId": client, "messageId": id});
                    self.write(OpCode::Text, ack.to_string().as_bytes()).await?;
                }
                if behaviour.echoes {
                    let id = format!("re-{}", id.as_str().unwrap_or_default());
                    let echo = json!({"type": 0, "clientId": client, "messageId": id,
                        "timestamp": 0, "data": message["data"]});
                    self.write(OpCode::Text, echo.to_string().as_bytes())
                        .await?;
                }
            }
        }
        Ok(Continue(()))
    }

    fn note(&self, message: &Value) -> anyhow::Result<()> {
        let text = |key: &str| message[key].as_str().map(str::to_owned);
        let (Some(client), Some(message_id), Some(data), Some(kind)) = (
            text("clientId"),
            text("messageId"),
            text("data"),
            message["type"].as_u64(),
        ) else {
            bail!("not a message: {message}");
        };
        let received = Received {
            path: self.path.to_owned(),
            client,
            message_id,
            kind,
            data,
        };
        self.shared.note(|ledger| ledger.received.push(received));
        Ok(())
    }

    async fn write(&mut self, opcode: OpCode, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        encode_frame(&mut frame, opcode, true, false, None, payload);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

fn heed(event: Event<'_>) -> Option<Heard> {
    match event {
        Event::Message { payload, .. } => {
            Some(Heard::Text(String::from_utf8_lossy(payload).into_owned()))
        }
        Event::Ping(payload) => Some(Heard::Ping(payload.to_vec())),
        Event::Pong(_) => None,
        Event::Close { code, .. } => Some(Heard::Close(code)),
    }
}
