//! A client that sends what it is told and writes down what it is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testkit::PATIENCE;

/// What came back on a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transcript {
    /// Statuses and bodies of complete answers; interim ones are left out.
    pub(crate) answers: Vec<(u16, String)>,
    /// What came behind them and is no complete answer.
    pub(crate) rest: Vec<u8>,
    /// The connection was closed within [`PATIENCE`].
    pub(crate) is_closed: bool,
}

/// Sends bytes, so many at once; after the first answer, or when none comes, sends `end` too;
/// then reads to the end.
pub(crate) fn talk(
    address: SocketAddr,
    bytes: &[u8],
    at_once: usize,
    end: &[u8],
) -> anyhow::Result<Transcript> {
    let mut stream = testkit::http::connect(address)?;
    let mut transcript = Transcript::default();
    for part in bytes.chunks(at_once) {
        // Who refuses early may close before all is written; what was said counts.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    read(&mut stream, &mut transcript, 1, Duration::from_secs(3));
    if !transcript.is_closed {
        drop(stream.write_all(end));
        read(&mut stream, &mut transcript, usize::MAX, PATIENCE);
    }
    Ok(transcript)
}

/// Reads until there are so many answers, or the end.
fn read(stream: &mut TcpStream, transcript: &mut Transcript, count: usize, patience: Duration) {
    drop(stream.set_read_timeout(Some(patience)));
    while transcript.answers.len() < count {
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk) {
            Ok(0) => transcript.is_closed = true,
            Ok(length) => transcript.rest.extend_from_slice(&chunk[..length]),
            Err(error) => {
                let is_patience =
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                transcript.is_closed = !is_patience;
                if is_patience {
                    return;
                }
            }
        }
        while let Some((status, body, length)) = answer(&transcript.rest, transcript.is_closed) {
            transcript.rest.drain(..length);
            if status >= 200 || status == 101 {
                transcript.answers.push((status, body));
            }
        }
        if transcript.is_closed {
            return;
        }
    }
}

/// The first answer, if it is complete, and its length.
pub(crate) fn answer(bytes: &[u8], is_closed: bool) -> Option<(u16, String, usize)> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status: u16 = head.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    let value = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let body = &bytes[head_end..];
    let length = if status < 200 || matches!(status, 204 | 304) {
        0
    } else if value("transfer-encoding").is_some() {
        let end = body.windows(5).position(|five| five == b"0\r\n\r\n")?;
        end + 5
    } else if let Some(length) = value("content-length") {
        length.parse().ok()?
    } else if is_closed {
        body.len()
    } else {
        return None;
    };
    let body = String::from_utf8_lossy(body.get(..length)?).into_owned();
    Some((status, body, head_end + length))
}
