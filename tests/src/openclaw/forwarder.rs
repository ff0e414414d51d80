//! A reverse proxy as it may stand before an OpenClaw gateway: it names the client's address,
//! so that the gateway takes the connection for a remote one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::model::thread;

/// A running proxy; it ends with this value.
#[derive(Debug)]
pub(super) struct Forwarder {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Forwarder {
    /// Forwards to `target` from a free port.
    pub(super) fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread("forwarder", move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that fails is closed, and its client sees that.
                let begun = thread("forwarded", move || drop(forward(client, target)));
                if begun.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, stopped })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn forward(mut client: TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16 * 1024, "request head is too long");
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"X-Forwarded-For: 203.0.113.7\r\n\r\n");
    client.set_read_timeout(None)?;
    let mut server = TcpStream::connect(target)?;
    server.write_all(&head)?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    thread("forwarded back", move || {
        drop(io::copy(&mut from_server, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    })?;
    let copied = io::copy(&mut client, &mut server);
    server.shutdown(Shutdown::Both)?;
    copied?;
    Ok(())
}
