//! What the echo server and the echo client share: a blocking loop over one socket.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use websocket::{
    Decoder, DeflateParams, Deflater, Event, Inflater, Limits, OpCode, Role, close_payload,
    encode_frame, encode_message,
};

/// Large enough for the performance cases of the Autobahn test suite.
const LIMITS: Limits = Limits {
    message_max: 64 << 20,
    frame_max: 64 << 20,
    inflated_max: 64 << 20,
    inflate_ratio_max: 2000,
};

/// An open connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) role: Role,
    pub(crate) deflate: Option<DeflateParams>,
    /// Bytes that came with the handshake.
    pub(crate) early: Vec<u8>,
}

impl Connection {
    /// Answers until the peer closes; messages go back if `echo` says so.
    pub(crate) fn run(mut self, mut echo: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut decoder = Decoder::new(self.role, self.deflate);
        let mut inflater = Inflater::new();
        let mut deflater = Deflater::new(6);
        let mut keys = Keys::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut out = Vec::new();
        let mut early = std::mem::take(&mut self.early);
        loop {
            let mut input: &mut [u8] = if early.is_empty() {
                let read = self.stream.read(&mut buffer)?;
                if read == 0 {
                    return Ok(());
                }
                &mut buffer[..read]
            } else {
                &mut early
            };
            let mut ended = false;
            while !input.is_empty() && !ended {
                let mask = (self.role == Role::Client).then(|| keys.next());
                let used = match decoder.decode(&LIMITS, &mut inflater, input) {
                    Ok((used, event)) => {
                        match event {
                            Some(Event::Message { binary, payload }) if echo(payload) => {
                                let deflate = self.deflate.map(|agreed| (&mut deflater, agreed));
                                encode_message(&mut out, binary, mask, payload, deflate);
                            }
                            Some(Event::Ping(payload)) => {
                                encode_frame(&mut out, OpCode::Pong, true, false, mask, payload);
                            }
                            Some(Event::Close { code, .. }) => {
                                let answer =
                                    code.map_or_else(Vec::new, |code| close_payload(code, ""));
                                encode_frame(&mut out, OpCode::Close, true, false, mask, &answer);
                                ended = true;
                            }
                            Some(Event::Message { .. } | Event::Pong(_)) | None => {}
                        }
                        used
                    }
                    Err(error) => {
                        let answer = close_payload(error.close_code(), &error.to_string());
                        encode_frame(&mut out, OpCode::Close, true, false, mask, &answer);
                        ended = true;
                        0
                    }
                };
                input = &mut input[used..];
            }
            early.clear();
            self.stream.write_all(&out)?;
            out.clear();
            if ended {
                return self.close(&mut buffer);
            }
        }
    }

    /// Ends our half and reads the rest, so that a reset does not overtake the close frame.
    fn close(mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.role == Role::Server {
            self.stream.shutdown(Shutdown::Write)?;
        }
        self.stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // How the peer ends its half no longer matters.
        while self.stream.read(buffer).is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

/// Reads until `parse` finds a whole HTTP head, and returns what follows it.
pub(crate) fn read_head<T>(
    stream: &mut TcpStream,
    mut parse: impl FnMut(&[u8]) -> io::Result<Option<(usize, T)>>,
) -> io::Result<(T, Vec<u8>)> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..read]);
        if let Some((len, outcome)) = parse(&received)? {
            return Ok((outcome, received.split_off(len)));
        }
    }
}

/// Closes a connection that carries something else than what was expected.
pub(crate) fn unexpected(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Mask keys: random enough for tests, though not for networks with naive proxies.
pub(crate) struct Keys(RandomState, u64);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(RandomState::new(), 0)
    }

    pub(crate) fn next(&mut self) -> [u8; 4] {
        self.1 += 1;
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(self.1);
        let [a, b, c, d, ..] = hasher.finish().to_ne_bytes();
        [a, b, c, d]
    }
}
