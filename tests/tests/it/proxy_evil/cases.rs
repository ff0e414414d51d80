//! Answers that no server should give.

/// What an origin answers, and what the client is to get.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Sent for the case's request, as it is.
    pub(super) answer: Vec<u8>,
    /// The connection is closed behind it.
    pub(super) closes: bool,
    pub(super) wanted: Wanted,
}

/// What the client of a case gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An answer of the gateway.
    Status(u16),
    /// The origin's answer with this body; what comes behind it is gone.
    Body(&'static str),
    /// The beginning of an answer, which is then cut.
    Cut,
}

/// Somebody else's answer, where it would do harm.
pub(super) const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

fn case(name: &'static str, wanted: Wanted, answer: impl AsRef<[u8]>) -> Case {
    Case {
        name,
        answer: answer.as_ref().to_vec(),
        closes: false,
        wanted,
    }
}

fn closing(name: &'static str, wanted: Wanted, answer: impl AsRef<[u8]>) -> Case {
    Case {
        closes: true,
        ..case(name, wanted, answer)
    }
}

#[expect(clippy::too_many_lines, reason = "it is a list")]
pub(super) fn all() -> Vec<Case> {
    use Wanted::{Body, Cut, Status};
    let bad = Status(502);
    vec![
        case(
            "two framings",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        case(
            "two lengths",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        ),
        case(
            "two equal lengths",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "list of lengths",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        ),
        case(
            "negative length",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        ),
        case(
            "length above 2^64",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        ),
        case(
            "unknown coding",
            bad,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        case(
            "coding with vertical tab",
            bad,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        ),
        case(
            "doubled coding",
            bad,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        case(
            "coding with HTTP/1.0",
            bad,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        case(
            "line feeds",
            bad,
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        ),
        case(
            "line feed in a field",
            bad,
            "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "carriage return in a field",
            bad,
            "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "zero byte in a field",
            bad,
            "HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "folded field",
            bad,
            "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "space before a colon",
            bad,
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        ),
        case(
            "no colon",
            bad,
            "HTTP/1.1 200 OK\r\nhello\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "no status",
            bad,
            "HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "status of two digits",
            bad,
            "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "status 999",
            bad,
            "HTTP/1.1 999 No\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "status 099",
            bad,
            "HTTP/1.1 099 No\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "other version",
            bad,
            "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "other protocol",
            bad,
            "ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case("no head at all", bad, "hello, I am a mail server\r\n\r\n"),
        closing("nothing", bad, ""),
        closing("half a head", bad, "HTTP/1.1 200 OK\r\nContent-Le"),
        case(
            "switch that nobody asked for",
            bad,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        ),
        case(
            "interim answers without end",
            bad,
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(10_000),
        ),
        case(
            "interim answer with a length",
            Body("hello"),
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        case(
            "field of a megabyte",
            bad,
            format!(
                "HTTP/1.1 200 OK\r\nX-A: {}\r\nContent-Length: 5\r\n\r\nhello",
                "b".repeat(1 << 20)
            ),
        ),
        case(
            "ten thousand fields",
            bad,
            format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello",
                "X-A: b\r\n".repeat(10_000)
            ),
        ),
        case(
            "head without end",
            bad,
            format!("HTTP/1.1 200 OK\r\nX-A: {}", "b".repeat(1 << 20)),
        ),
        case(
            "status line without end",
            bad,
            format!("HTTP/1.1 200 {}", "b".repeat(1 << 20)),
        ),
        case(
            "answer behind the answer",
            Body("hello"),
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{POISON}"),
        ),
        case(
            "body longer than said",
            Body("hello"),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        ),
        case(
            "body where there is none",
            Body(""),
            format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"),
        ),
        case(
            "length where there is no body",
            Body(""),
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n{POISON}"),
        ),
        case(
            "coding where there is no body",
            Body(""),
            format!("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n{POISON}"),
        ),
        case(
            "answer behind the last chunk",
            Body("5\r\nhello\r\n0\r\n\r\n"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{POISON}"
            ),
        ),
        case(
            "answer behind one that closes",
            Body("hello"),
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello{POISON}"
            ),
        ),
        closing(
            "body shorter than said",
            Cut,
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        ),
        closing(
            "chunks without end",
            Cut,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        case(
            "chunk of no size",
            Cut,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
        ),
        case(
            "chunk with sign",
            Cut,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n",
        ),
        case(
            "chunk that overflows",
            Cut,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        case(
            "chunk without its end",
            Cut,
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n{POISON}"
            ),
        ),
        case(
            "chunk of line feeds",
            Cut,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\nhello\n0\n\n",
        ),
        case(
            "extensions without end",
            Cut,
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;{}\r\nhello\r\n0\r\n\r\n",
                "x".repeat(1 << 20)
            ),
        ),
        case(
            "trailers without end",
            Cut,
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{}\r\n",
                "X-A: b\r\n".repeat(10_000)
            ),
        ),
        case(
            "trailer that is no field",
            Cut,
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{POISON}\r\n\r\n"
            ),
        ),
    ]
}
