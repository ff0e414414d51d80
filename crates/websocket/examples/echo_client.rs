//! A client that sends every message back, for conformance tests against the fuzzing server of
//! the Autobahn test suite.
//!
//! `echo_client ADDRESS AGENT` asks the server at the address how many cases it has, runs them
//! all, and has it write its report about the agent.

use std::io::{self, Write as _};
use std::net::TcpStream;

use websocket::handshake::ClientHandshake;
use websocket::{DeflateConfig, Role};

use connection::{Connection, Keys, read_head, unexpected};

#[path = "echo/connection.rs"]
mod connection;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(agent)) = (args.next(), args.next()) else {
        return Err(unexpected("usage: echo_client ADDRESS AGENT"));
    };
    let mut count = 0;
    connect(&address, "/getCaseCount")?.run(|message| {
        count = str::from_utf8(message)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        false
    })?;
    for case in 1..=count {
        let connection = connect(&address, &format!("/runCase?case={case}&agent={agent}"))?;
        // Many cases end in a broken connection; the server judges.
        let _ = connection.run(|_| true);
    }
    connect(&address, &format!("/updateReports?agent={agent}"))?.run(|_| false)?;
    writeln!(io::stdout(), "{count} cases")
}

fn connect(address: &str, target: &str) -> io::Result<Connection> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut keys = Keys::new();
    let mut key = [0; 16];
    for part in key.chunks_mut(4) {
        part.copy_from_slice(&keys.next());
    }
    let mut handshake = ClientHandshake::new(key);
    handshake.deflate = Some(DeflateConfig::default());
    stream.write_all(
        &handshake
            .request(address, target, &[])
            .map_err(unexpected)?,
    )?;
    let (accepted, early) = read_head(&mut stream, |received| {
        handshake.parse(received).map_err(unexpected)
    })?;
    Ok(Connection {
        stream,
        role: Role::Client,
        deflate: accepted.deflate,
        early,
    })
}
