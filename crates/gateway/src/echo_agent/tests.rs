use std::net::SocketAddr;
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, encode_frame};

use super::{CONNECTIONS_MAX, start};

/// The gateway's end of a connection.
struct Gateway {
    stream: TcpStream,
    decoder: Decoder,
    inflater: Inflater,
    input: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Json(Value),
    Pong(Vec<u8>),
    Closed(Option<u16>),
    /// The connection ended without a close frame.
    Gone,
}

impl Gateway {
    async fn connect(agent: SocketAddr) -> Self {
        let (status, stream, input) = open(agent, "").await;
        assert_eq!(status, 101);
        Self {
            stream,
            decoder: Decoder::new(Role::Client, None),
            inflater: Inflater::new(),
            input,
        }
    }

    async fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut frame = Vec::new();
        encode_frame(&mut frame, opcode, true, false, Some([1, 2, 3, 4]), payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn say(&mut self, message: &Value) {
        self.send(OpCode::Text, message.to_string().as_bytes())
            .await;
    }

    async fn hear(&mut self) -> Heard {
        let limits = Limits::default();
        loop {
            while !self.input.is_empty() {
                let (used, event) = self
                    .decoder
                    .decode(&limits, &mut self.inflater, &mut self.input)
                    .unwrap();
                let heard = event.map(|event| match event {
                    Event::Message { payload, .. } => {
                        Heard::Json(serde_json::from_slice(payload).unwrap())
                    }
                    Event::Ping(payload) | Event::Pong(payload) => Heard::Pong(payload.to_vec()),
                    Event::Close { code, .. } => Heard::Closed(code),
                });
                self.input.drain(..used);
                if let Some(heard) = heard {
                    return heard;
                }
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.input));
            if read.await.expect("something is heard in time").unwrap() == 0 {
                return Heard::Gone;
            }
        }
    }

    /// The next message, but for the time it was sent at.
    async fn message(&mut self) -> Value {
        let Heard::Json(mut message) = self.hear().await else {
            panic!("expected a message");
        };
        if let Some(at) = message.as_object_mut().unwrap().remove("timestamp") {
            assert!(at.as_i64().unwrap() > 1_600_000_000_000_000_000);
        }
        message
    }
}

/// Asks for an upgrade; the status, the connection, and what came after the answer.
async fn open(agent: SocketAddr, more: &str) -> (u16, TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {agent}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        if let Some(at) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = answer.split_off(at + 4);
            let status = std::str::from_utf8(&answer[9..12]).unwrap();
            return (status.parse().unwrap(), stream, rest);
        }
        let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await;
        if read.expect("an answer in time").unwrap_or(0) == 0 {
            return (0, stream, Vec::new());
        }
    }
}

fn ack(client: &str, id: &str) -> Value {
    json!({ "type": 2, "action": "ack", "clientId": client, "messageId": id })
}

#[tokio::test]
async fn a_message_is_acknowledged_and_said_back_once() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateway = Gateway::connect(agent).await;
    let message = json!({
        "type": 0, "clientId": "ann", "messageId": "m1", "timestamp": 5,
        "data": "high tide", "route": "ws://agent/", "contentType": "text/plain",
    });
    gateway.say(&message).await;
    assert_eq!(gateway.message().await, ack("ann", "m1"));
    let echo = json!({
        "type": 0, "clientId": "ann", "messageId": "echo-m1",
        "data": "You said: high tide", "contentType": "text/plain",
    });
    assert_eq!(gateway.message().await, echo);

    // Again, on a new connection: the agent remembers. The same id of another client is new.
    let mut gateway = Gateway::connect(agent).await;
    gateway.say(&message).await;
    gateway
        .say(&json!({ "type": 0, "clientId": "bob", "messageId": "m1", "data": "ebb" }))
        .await;
    assert_eq!(gateway.message().await, ack("ann", "m1"));
    assert_eq!(gateway.message().await, ack("bob", "m1"));
    assert_eq!(gateway.message().await["data"], "You said: ebb");
    assert!(tasks.stop(DEADLINE).await);
}

#[tokio::test]
async fn bytes_come_back_as_they_are() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateway = Gateway::connect(agent).await;
    let message = json!({
        "type": 1, "clientId": "ann", "messageId": "m1", "data": "AAEC",
        "contentType": "image/png", "compressed": true,
    });
    gateway.say(&message).await;
    assert_eq!(gateway.message().await, ack("ann", "m1"));
    let mut expected = message;
    expected["messageId"] = "echo-m1".into();
    assert_eq!(gateway.message().await, expected);
}

#[tokio::test]
async fn what_is_no_message_is_skipped() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateway = Gateway::connect(agent).await;
    gateway.send(OpCode::Text, b"{").await;
    for odd in [
        json!([1]),
        json!({ "type": 2, "clientId": "ann", "messageId": "m1", "data": "ping" }),
        json!({ "type": 0, "clientId": "", "messageId": "m1" }),
        json!({ "type": 0, "clientId": "ann", "messageId": "x".repeat(513) }),
    ] {
        gateway.say(&odd).await;
    }
    gateway.send(OpCode::Ping, b"there?").await;
    assert_eq!(gateway.hear().await, Heard::Pong(b"there?".to_vec()));
    gateway.send(OpCode::Close, &1000_u16.to_be_bytes()).await;
    assert_eq!(gateway.hear().await, Heard::Closed(Some(1000)));
    assert_eq!(gateway.hear().await, Heard::Gone);
}

#[tokio::test]
async fn too_large_a_message_is_refused_by_its_header() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateway = Gateway::connect(agent).await;
    let mut header = vec![0x81, 0xff];
    header.extend_from_slice(&(1_u64 << 30).to_be_bytes());
    header.extend_from_slice(&[1, 2, 3, 4]);
    gateway.stream.write_all(&header).await.unwrap();
    assert_eq!(gateway.hear().await, Heard::Closed(Some(1009)));
}

#[tokio::test]
async fn only_upgrades_that_no_page_asks_for_are_accepted() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let page = open(agent, "Origin: https://example.com\r\n").await;
    assert_eq!(page.0, 403);
    assert_eq!(open(agent, "no header\r\n").await.0, 400);
    assert_eq!(open(agent, "Content-Length: 9\r\n").await.0, 400);
    let long = format!("X-Long: {}\r\n", "x".repeat(9_000));
    assert_eq!(open(agent, &long).await.0, 431);
}

#[tokio::test]
async fn connections_above_the_limit_are_closed() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateways = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        gateways.push(Gateway::connect(agent).await);
    }
    assert_eq!(open(agent, "").await.0, 0);
    // A place that is given up is free for another.
    let mut leaving = gateways.pop().unwrap();
    leaving.send(OpCode::Close, &[]).await;
    while leaving.hear().await != Heard::Gone {}
    let came = timeout(DEADLINE, async {
        while open(agent, "").await.0 != 101 {
            tokio::task::yield_now().await;
        }
    });
    came.await.expect("the place is free");
}

#[tokio::test]
async fn it_stops_with_its_tasks() {
    let tasks = Tasks::new();
    let agent = start(&tasks, Clock::start()).unwrap();
    let mut gateway = Gateway::connect(agent).await;
    assert!(tasks.stop(DEADLINE).await);
    assert_eq!(gateway.hear().await, Heard::Gone);
}

const DEADLINE: Duration = Duration::from_secs(10);
