//! The same through the gateway: WebSocket clients of the relay, each with one message in
//! flight, acknowledged once it is durable; an agent that takes everything.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use memchr::memmem;

use super::load::{Load, Taken, What, Wire};
use super::{Shape, Subject, Turn};
use crate::frame::{self, Kind};
use crate::proc;
use crate::relay::{Agent, Manner};
use crate::server_process::{Server, tidegate_executable};

/// A gateway with its clients and their agent.
pub(super) struct Gateway {
    load: Load<Client>,
    server: Server,
}

impl Gateway {
    pub(super) fn start(executable: Option<&Path>, shape: Shape) -> anyhow::Result<Self> {
        let executable = tidegate_executable(executable)?;
        let agent = Agent::start(Manner::Acknowledges)?;
        let server = Server::relay(
            &executable,
            &format!(
                "{{ auth: none, rate: {{ per_client: {{ rate: 0 }} }}, routes: [ \
                 {{ client_id_prefix: \"client-\", agent: \"ws://{agent}/\", protocol: stratix, \
                 acks: true }} ] }}"
            ),
        )?;
        let payload = "x".repeat(shape.size);
        let host = server.address.socket;
        let clients = (0..shape.in_flight).map(|number| Client {
            number,
            host,
            payload: payload.clone(),
            upgraded: false,
            sent: 0,
        });
        let load = Load::connect(host, 1, clients)?;
        Ok(Self { load, server })
    }
}

impl Subject for Gateway {
    fn name(&self) -> &str {
        NAME
    }

    fn turn(&mut self, duration: Duration) -> anyhow::Result<Turn> {
        let cpu = proc::cpu_seconds(self.server.pid)?;
        let outcome = self.load.run(duration)?;
        Ok(Turn {
            records: outcome.done,
            elapsed: outcome.elapsed,
            latency: outcome.latency,
            cpu_seconds: proc::cpu_seconds(self.server.pid)? - cpu,
            refused: outcome.refused,
        })
    }
}

/// A client of the relay.
struct Client {
    number: usize,
    host: SocketAddr,
    payload: String,
    upgraded: bool,
    sent: u64,
}

impl Wire for Client {
    fn greet(&mut self, out: &mut Vec<u8>) {
        let Self { number, host, .. } = self;
        let request = format!(
            "GET /relay/ws?clientId=client-{number}&ack=true HTTP/1.1\r\nHost: {host}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        let Self {
            number,
            payload,
            sent,
            ..
        } = self;
        *sent += 1;
        let message = format!(
            "{{\"type\":0,\"messageId\":\"m-{number}-{sent}\",\"data\":\"{payload}\",\"ack\":\"durable\"}}"
        );
        frame::text(out, message.as_bytes());
    }

    fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<Taken>> {
        let taken = |length, what| Ok(Some(Taken { length, what }));
        if !self.upgraded {
            let Some(end) = memmem::find(received, b"\r\n\r\n") else {
                return Ok(None);
            };
            let head = String::from_utf8_lossy(&received[..end]);
            ensure!(
                head.starts_with("HTTP/1.1 101 "),
                "the gateway answered {head:?}"
            );
            self.upgraded = true;
            return taken(end + 4, What::Ready);
        }
        let Some(found) = frame::next(received) else {
            return Ok(None);
        };
        let what = match found.kind {
            Kind::Message if memmem::find(found.payload, b"\"action\":\"ack\"").is_some() => {
                What::Done
            }
            Kind::Message if memmem::find(found.payload, b"\"action\":\"error\"").is_some() => {
                What::Refused
            }
            Kind::Message | Kind::Pong => What::Other,
            Kind::Ping => {
                frame::pong(out, found.payload);
                What::Other
            }
            Kind::Close => {
                let reason = String::from_utf8_lossy(found.payload.get(2..).unwrap_or_default());
                bail!("the gateway closed a connection: {reason}");
            }
        };
        taken(found.length, what)
    }
}

pub(super) const NAME: &str = "tidegate gateway";
