//! A client's connection of which every byte is seen.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testkit::PATIENCE;
use testkit::http::{self, Response};

use super::message::{Body, Head, read_head};

/// A connection to the gateway.
#[derive(Debug)]
pub struct Wire {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
    /// What came of an event stream and is no whole event yet.
    partial: String,
    body: Option<Body>,
}

impl Wire {
    /// Opens one; reads and writes fail after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            reader: BufReader::new(http::connect(address)?),
            address,
            partial: String::new(),
            body: None,
        })
    }

    /// Opens one, sends a request and reads its answer.
    pub fn once(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Response> {
        let mut wire = Self::connect(address)?;
        wire.ask(method, target, headers, body)?;
        wire.answer()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stream = self.stream();
        stream.write_all(bytes).context("nobody takes this")
    }

    /// Sends a request. One with a body tells its length, unless `headers` tell its framing.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let is_framed = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        let has_body = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if has_body && !is_framed {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes)
    }

    /// Reads the head of the next answer.
    pub fn head(&mut self) -> anyhow::Result<Head> {
        let head = read_head(&mut self.reader).context("no answer")?;
        let head = head.context("connection ended instead of an answer")?;
        ensure!(head.start.starts_with("HTTP/1."), "{head:?} is no answer");
        self.body = Some(Body::of_answer(&head));
        Ok(head)
    }

    /// Reads the next answer to its end; interim ones are passed over.
    pub fn answer(&mut self) -> anyhow::Result<Response> {
        loop {
            let head = self.head()?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                continue;
            }
            let body = self.rest()?;
            return Ok(Response {
                status: head.status(),
                headers: head.headers,
                body,
            });
        }
    }

    /// Reads the answer to a HEAD request.
    pub fn answer_to_head(&mut self) -> anyhow::Result<Head> {
        let head = self.head()?;
        self.body = None;
        Ok(head)
    }

    /// The next part of the answer; `None` at its end.
    pub fn part(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let body = self.body.as_mut().context("there is no answer")?;
        Ok(body.next(&mut self.reader)?)
    }

    /// What is left of the answer.
    pub fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        let body = self.body.as_mut().context("there is no answer")?;
        Ok(body.all(&mut self.reader)?)
    }

    /// What came after the answer's last chunk.
    pub fn trailers(&self) -> &[(String, String)] {
        self.body.as_ref().map_or(&[], |body| &body.trailers)
    }

    /// The next event of an event stream, without its last line end; `None` at its end.
    pub fn event(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(at) = self.partial.find("\n\n") {
                let rest = self.partial.split_off(at + 2);
                let mut event = std::mem::replace(&mut self.partial, rest);
                event.truncate(at);
                return Ok(Some(event));
            }
            match self.part()? {
                Some(part) => self.partial.push_str(&String::from_utf8_lossy(&part)),
                None if self.partial.is_empty() => return Ok(None),
                None => bail!("stream ended within {:?}", self.partial),
            }
        }
    }

    /// Waits until the gateway closes the connection.
    pub fn wait_closed(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut forgotten = [0; 4_096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "connection is open after {timeout:?}");
            self.stream().set_read_timeout(Some(left))?;
            match self.reader.read(&mut forgotten) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Leaves at once.
    pub fn leave(self) {
        drop(self.reader.get_ref().shutdown(Shutdown::Both));
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

/// Reads within the timeout that was set did not come to anything.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Asks again and again until an answer is as wanted, for at most [`PATIENCE`].
pub fn eventually(
    mut ask: impl FnMut() -> anyhow::Result<Response>,
    wanted: impl Fn(&Response) -> bool,
) -> anyhow::Result<Response> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = ask()?;
        if wanted(&response) {
            return Ok(response);
        }
        ensure!(
            Instant::now() < deadline,
            "the answer stayed {} {}",
            response.status,
            response.text()
        );
    }
}
