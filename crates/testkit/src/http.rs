//! A small HTTP/1.1 client: one request per connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};

use crate::PATIENCE;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("body is not JSON: {}", self.text()))
    }
}

/// Sends a GET.
pub fn get(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Response> {
    exchange(address, &request("GET", address, target, headers, b""))
}

/// Sends a POST.
pub fn post(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Response> {
    exchange(address, &request("POST", address, target, headers, body))
}

/// Sends bytes as they are and reads one answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> anyhow::Result<Response> {
    let mut stream = connect(address)?;
    // A server that refuses early may close before all is written; what it said counts.
    let written = stream.write_all(request);
    let mut received = Vec::new();
    let read = read_response(&mut stream, &mut received);
    match read {
        Ok(response) => Ok(response),
        Err(error) => Err(error.context(format!("request: {written:?}"))),
    }
}

/// Reads one answer; `received` holds what came after the head when this returns an error
/// and nothing that is needed otherwise.
pub fn read_response(stream: &mut impl Read, received: &mut Vec<u8>) -> anyhow::Result<Response> {
    loop {
        if let Some(response) = parse(received, false)? {
            return Ok(response);
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => received.extend_from_slice(&chunk[..length]),
            // A reset after the answer is the server's way to hang up on unread input.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => bail!("no complete answer: {error}"),
        }
    }
    parse(received, true)?.with_context(|| {
        format!(
            "connection ended within the answer {:?}",
            String::from_utf8_lossy(received)
        )
    })
}

/// Opens a connection whose reads and writes fail after [`PATIENCE`].
pub fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(
    method: &str,
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in [("Connection", "close")].iter().chain(headers) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// `None` while the answer is not complete.
fn parse(received: &[u8], ended: bool) -> anyhow::Result<Option<Response>> {
    let Some(head_end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..head_end]).context("head is not text")?;
    let body = &received[head_end + 4..];
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{status_line:?} is no status line"))?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    };
    let body = if header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        let Some(body) = unchunk(body)? else {
            return Ok(None);
        };
        body
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().context("content length is no number")?;
        if body.len() < length {
            return Ok(None);
        }
        body[..length].to_vec()
    } else if ended || matches!(status, 100..200 | 204 | 304) {
        body.to_vec()
    } else {
        return Ok(None);
    };
    Ok(Some(Response {
        status,
        headers,
        body,
    }))
}

fn unchunk(mut rest: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line_end])?;
        let size = usize::from_str_radix(size, 16).context("chunk size is no number")?;
        rest = &rest[line_end + 2..];
        if rest.len() < size + 2 {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_are_complete_when_their_framing_says_so() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                false,
                Some((200, "ok")),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
                false,
                None,
            ),
            ("HTTP/1.1 403 Forbidden\r\n\r\nno", true, Some((403, "no"))),
            ("HTTP/1.1 403 Forbidden\r\n\r\nno", false, None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                false,
                Some((200, "ok")),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Some((204, ""))),
        ];
        for (bytes, ended, expected) in cases {
            let parsed = parse(bytes.as_bytes(), ended).expect("an answer");
            let parsed = parsed.map(|response| (response.status, response.text()));
            assert_eq!(
                parsed
                    .as_ref()
                    .map(|(status, text)| (*status, text.as_str())),
                expected,
                "{bytes:?}"
            );
        }
    }
}
