//! The HTTP request that opens a connection, and its answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use websocket::handshake::server::{self, HandshakeError};

/// Reads the request and answers it. Returns what came after it, or `None` if the
/// connection was refused.
pub(super) async fn exchange(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    let end = loop {
        if head.len() > HEAD_BYTES_MAX {
            return refuse(stream, 431).await;
        }
        if let Some(at) = head.windows(END.len()).position(|bytes| bytes == END) {
            break at;
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    };
    let rest = head.split_off(end + END.len());
    head.truncate(end);
    let mut answer = Vec::new();
    match accept(&head, &mut answer) {
        Ok(()) => {
            stream.write_all(&answer).await?;
            Ok(Some(rest))
        }
        Err(status) => refuse(stream, status).await,
    }
}

/// Writes the answer of a request that may be upgraded, or returns the status of a refusal.
fn accept(head: &[u8], answer: &mut Vec<u8>) -> Result<(), u16> {
    let head = std::str::from_utf8(head).map_err(|_| 400_u16)?;
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let method = request.next().unwrap_or_default();
    let minor = u8::from(request.nth(1) == Some("HTTP/1.1"));
    let headers: Option<Vec<(&str, &[u8])>> = lines
        .map(|line| line.split_once(':'))
        .map(|header| header.map(|(name, value)| (name, value.as_bytes())))
        .collect();
    let headers = headers.ok_or(400_u16)?;
    let upgrade = server::validate(method, minor, headers.into_iter())
        .map_err(|error: HandshakeError| error.status())?;
    // Browsers name the page that connects, and no page has a reason to.
    if upgrade.origin.is_some() {
        return Err(403);
    }
    server::response(answer, upgrade.key, None, None);
    Ok(())
}

async fn refuse(stream: &mut TcpStream, status: u16) -> io::Result<Option<Vec<u8>>> {
    let text = format!(
        "HTTP/1.1 {status} Refused\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Connection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(None)
}

const END: &[u8] = b"\r\n\r\n";
const HEAD_BYTES_MAX: usize = 8 * 1024;
