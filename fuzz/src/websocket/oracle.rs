//! tungstenite, over a stream in memory.

use std::io::{self, Read, Write};

use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use websocket::{Limits, Role};

use super::listen::{End, Heard, Outcome};

/// Reads `data` until a close frame, an error or the end.
pub(super) fn listen(role: Role, limits: &Limits, data: &[u8]) -> Outcome {
    let role = match role {
        Role::Client => TheirRole::Client,
        Role::Server => TheirRole::Server,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(limits.message_max))
        .max_frame_size(usize::try_from(limits.frame_max).ok());
    let mut socket = WebSocket::from_raw_socket(Wire(data), role, Some(config));
    let mut heard = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Outcome {
                    heard,
                    end: End::Cut,
                };
            }
            Err(_) => {
                return Outcome {
                    heard,
                    end: End::RefusedThere,
                };
            }
        };
        match message {
            Message::Text(text) => heard.push(Heard::Text(text.as_str().to_owned())),
            Message::Binary(bytes) => heard.push(Heard::Binary(bytes.to_vec())),
            Message::Ping(bytes) => heard.push(Heard::Ping(bytes.to_vec())),
            Message::Pong(bytes) => heard.push(Heard::Pong(bytes.to_vec())),
            Message::Close(frame) => {
                let code = frame.as_ref().map(|frame| frame.code.into());
                let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                heard.push(Heard::Close(code, reason));
                return Outcome {
                    heard,
                    end: End::Closed,
                };
            }
            Message::Frame(_) => panic!("reading does not return raw frames"),
        }
    }
}

/// Gives its bytes and forgets what is written.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
