//! A server that sends every message back, for conformance tests.
//!
//! `echo_server [ADDRESS]` binds the address, by default a free port of 127.0.0.1, prints
//! `listening on ADDRESS`, and serves until it is killed.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use websocket::handshake::{self, header_values, select_protocol, validate};
use websocket::{DeflateConfig, Role, negotiate_deflate};

use connection::{Connection, read_head, unexpected};

#[path = "echo/connection.rs"]
mod connection;

fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::Builder::new().spawn(move || {
            // A peer that breaks off is what the tests are about.
            let _ = serve(stream);
        })?;
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let ((answer, deflate), early) = read_head(&mut stream, |received| {
        let mut storage = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut storage);
        let httparse::Status::Complete(len) = request.parse(received).map_err(unexpected)? else {
            return Ok(None);
        };
        let headers = request
            .headers
            .iter()
            .map(|header| (header.name, header.value));
        let minor = request.version.unwrap_or_default();
        let method = request.method.unwrap_or_default();
        let upgrade = validate(method, minor, headers.clone()).map_err(unexpected)?;
        let offered = header_values(headers.clone(), "sec-websocket-protocol");
        let protocol = select_protocol(offered.collect::<Vec<_>>().into_iter(), &["echo"]);
        let offers = header_values(headers, "sec-websocket-extensions");
        let (deflate, extensions) = negotiate_deflate(offers, &DeflateConfig::default()).unzip();
        let mut answer = Vec::new();
        handshake::response(&mut answer, upgrade.key, protocol, extensions.as_deref());
        Ok(Some((len, (answer, deflate))))
    })?;
    stream.write_all(&answer)?;
    Connection {
        stream,
        role: Role::Server,
        deflate,
        early,
    }
    .run(|_| true)
}
