//! An agent that costs little: a thread per connection that looks for two keys in what comes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use memchr::memmem;
use socket2::{Domain, Socket, Type};
use websocket::handshake::server::response;
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, close_payload, encode_frame};

/// What the agent does about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Acknowledges it.
    Acknowledges,
    /// Acknowledges it, and answers with `re-<id>` and the same data.
    Echoes,
}

/// Hears client and id of every message.
type Heard = dyn Fn(&str, &str) + Send + Sync;

/// An agent with an address of its own, at which nobody answers before [`Agent::open`].
pub(crate) struct Agent {
    socket: Socket,
    pub(crate) address: SocketAddr,
}

impl Agent {
    pub(crate) fn away() -> anyhow::Result<Self> {
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, None).context("agent has no socket")?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).context("agent was not bound")?;
        let address = socket.local_addr()?.as_socket();
        let address = address.context("agent has no address")?;
        Ok(Self { socket, address })
    }

    /// Starts one; it ends with this process.
    pub(crate) fn start(manner: Manner) -> anyhow::Result<SocketAddr> {
        let agent = Self::away()?;
        let address = agent.address;
        agent.open(manner, Arc::new(|_: &str, _: &str| {}))?;
        Ok(address)
    }

    /// Answers from now on, until this process ends.
    pub(crate) fn open(self, manner: Manner, heard: Arc<Heard>) -> anyhow::Result<()> {
        self.socket.listen(1_024).context("agent does not listen")?;
        let listener = TcpListener::from(self.socket);
        let accept = move || {
            while let Ok((stream, _)) = listener.accept() {
                let heard = Arc::clone(&heard);
                let serve = move || serve(stream, manner, &*heard);
                if lifecycle::thread("agent", serve).is_err() {
                    return;
                }
            }
        };
        lifecycle::thread("agents", accept)?;
        Ok(())
    }
}

/// Talks until the gateway has had enough.
fn serve(mut stream: TcpStream, manner: Manner, heard: &Heard) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    response(&mut out, &key(&mut stream)?, None, None);
    let mut decoder = Decoder::new(Role::Server, None);
    let mut inflater = Inflater::new();
    let limits = Limits::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        stream.write_all(&out)?;
        out.clear();
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut input = &mut buffer[..count];
        while !input.is_empty() {
            let (used, event) = decoder.decode(&limits, &mut inflater, input)?;
            match event {
                Some(Event::Message { payload, .. }) => take(payload, manner, heard, &mut out)?,
                Some(Event::Ping(payload)) => say(&mut out, OpCode::Pong, payload),
                Some(Event::Close { code, .. }) => {
                    let payload = close_payload(code.unwrap_or(1_000), "");
                    say(&mut out, OpCode::Close, &payload);
                    stream.write_all(&out)?;
                    return Ok(());
                }
                Some(Event::Pong(_)) | None => {}
            }
            input = &mut input[used..];
        }
    }
}

/// Reads the request's head; the key it brings.
fn key(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // One by one, so that nothing of what follows is taken.
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_key = name.eq_ignore_ascii_case("sec-websocket-key");
        is_key.then(|| value.trim().to_owned())
    });
    key.context("request brings no key")
}

fn take(text: &[u8], manner: Manner, heard: &Heard, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let text = std::str::from_utf8(text)?;
    let (Some(client), Some(id)) = (
        text_after(text, "\"clientId\":\""),
        text_after(text, "\"messageId\":\""),
    ) else {
        bail!("not a message: {text}");
    };
    heard(client, id);
    let ack = format!(
        "{{\"type\":2,\"action\":\"ack\",\"clientId\":\"{client}\",\"messageId\":\"{id}\"}}"
    );
    say(out, OpCode::Text, ack.as_bytes());
    if manner == Manner::Echoes {
        let data = text_after(text, "\"data\":\"").unwrap_or_default();
        let echo = format!(
            "{{\"type\":0,\"clientId\":\"{client}\",\"messageId\":\"re-{id}\",\"data\":\"{data}\"}}"
        );
        say(out, OpCode::Text, echo.as_bytes());
    }
    Ok(())
}

fn say(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    encode_frame(out, opcode, true, false, None, payload);
}

/// What stands between a key and the next quote.
fn text_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let start = memmem::find(text.as_bytes(), key.as_bytes())? + key.len();
    text[start..].split('"').next()
}
