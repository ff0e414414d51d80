//! Requests of HTTP/2 that would be two in HTTP/1.1, or another one.
#![expect(clippy::too_many_lines, reason = "lists")]

/// A request on a connection of its own, and what must come of it.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// In order. `%P` stands for the case's own prefix.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) wanted: Wanted,
}

/// What the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The origin's answer; the origin sees exactly this.
    Seen(&'static str),
    /// The gateway's own, and the origin sees nothing whole.
    Status(u16),
    /// The stream or the connection is reset, and the origin sees nothing whole.
    Reset,
}

use Wanted::{Reset, Seen, Status};

type Plain<'a> = (&'a str, &'a [u8]);

const USUAL: [Plain<'static>; 4] = [
    (":method", b"GET"),
    (":scheme", b"http"),
    (":authority", b"gate.test"),
    (":path", b"%P/a"),
];

fn owned(fields: &[Plain<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect()
}

/// Fields as they are.
fn exactly(name: &'static str, wanted: Wanted, fields: &[Plain<'_>]) -> Case {
    Case {
        name,
        fields: owned(fields),
        body: None,
        trailers: Vec::new(),
        wanted,
    }
}

/// The usual ones, one of them another.
fn instead(name: &'static str, wanted: Wanted, field: &str, value: &[u8]) -> Case {
    let fields = USUAL.map(|(known, usual)| (known, if known == field { value } else { usual }));
    exactly(name, wanted, &fields)
}

/// The usual ones and these.
fn with(name: &'static str, wanted: Wanted, more: &[Plain<'_>]) -> Case {
    exactly(name, wanted, &[&USUAL, more].concat())
}

/// A `POST` with a body.
fn post(name: &'static str, wanted: Wanted, more: &[Plain<'_>], body: &str) -> Case {
    let mut case = with(name, wanted, more);
    case.fields[0].1 = b"POST".to_vec();
    case.body = Some(body.as_bytes().to_vec());
    case
}

/// A `POST` with a body and trailers.
fn trailing(name: &'static str, wanted: Wanted, trailers: &[Plain<'_>]) -> Case {
    let mut case = post(name, wanted, &[], "hello");
    case.trailers = owned(trailers);
    case
}

const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";

pub(super) fn all() -> Vec<Case> {
    [lengths(), fields(), pseudo(), trailers()]
        .into_iter()
        .flatten()
        .collect()
}

fn lengths() -> Vec<Case> {
    let end_and_evil = format!("0\r\n\r\n{EVIL}");
    vec![
        with("plain", Seen("GET /a"), &[]),
        post("body without length", Seen("POST /a hello"), &[], "hello"),
        post(
            "body with length",
            Seen("POST /a hello"),
            &[("content-length", b"5")],
            "hello",
        ),
        post(
            "body that looks like a request",
            Seen("POST /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"),
            &[],
            EVIL,
        ),
        post(
            "body that looks like chunks",
            Seen("POST /a 0\r\n\r\nX"),
            &[],
            "0\r\n\r\nX",
        ),
        post(
            "length of zero and a request",
            Reset,
            &[("content-length", b"0")],
            EVIL,
        ),
        post(
            "length too small",
            Reset,
            &[("content-length", b"4")],
            "hello",
        ),
        post(
            "length too large",
            Reset,
            &[("content-length", b"50")],
            "hello",
        ),
        post(
            "length with sign",
            Reset,
            &[("content-length", b"+5")],
            "hello",
        ),
        post(
            "length in hexadecimal",
            Reset,
            &[("content-length", b"0x5")],
            "hello",
        ),
        post(
            "list of lengths",
            Reset,
            &[("content-length", b"5, 5")],
            "hello",
        ),
        post(
            "length above 2^64",
            Reset,
            &[("content-length", b"18446744073709551621")],
            "hello",
        ),
        post(
            "two lengths",
            Status(400),
            &[("content-length", b"5"), ("content-length", b"5")],
            "hello",
        ),
        post(
            "two different lengths",
            Reset,
            &[("content-length", b"5"), ("content-length", b"6")],
            "hello",
        ),
        with("length without body", Reset, &[("content-length", b"5")]),
        with(
            "length of zero without body",
            Seen("GET /a"),
            &[("content-length", b"0")],
        ),
        post(
            "chunked",
            Reset,
            &[("transfer-encoding", b"chunked")],
            &end_and_evil,
        ),
        post(
            "chunked and a length",
            Reset,
            &[("content-length", b"36"), ("transfer-encoding", b"chunked")],
            &end_and_evil,
        ),
        post(
            "identity",
            Reset,
            &[("transfer-encoding", b"identity")],
            &end_and_evil,
        ),
        post(
            "underscore for the coding",
            Status(400),
            &[("transfer_encoding", b"chunked")],
            &end_and_evil,
        ),
        post(
            "underscore for the length",
            Status(400),
            &[("content_length", b"0")],
            EVIL,
        ),
        post(
            "coding in a value",
            Reset,
            &[("x-a", b"b\r\nTransfer-Encoding: chunked")],
            &end_and_evil,
        ),
        post(
            "coding in a value, line feed",
            Reset,
            &[("x-a", b"b\nTransfer-Encoding: chunked")],
            &end_and_evil,
        ),
        post(
            "coding in a name",
            Reset,
            &[("x-a: b\r\ntransfer-encoding", b"chunked")],
            &end_and_evil,
        ),
        post(
            "expectation",
            Seen("POST /a hello"),
            &[("expect", b"100-continue")],
            "hello",
        ),
        post(
            "other expectation",
            Status(417),
            &[("expect", b"x")],
            "hello",
        ),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        with(
            "request in a value",
            Reset,
            &[("x-a", b"b\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n")],
        ),
        with("line end in a value", Reset, &[("x-a", b"b\r\nX-C: d")]),
        with(
            "carriage return in a value",
            Reset,
            &[("x-a", b"b\rX-C: d")],
        ),
        with("line feed in a value", Reset, &[("x-a", b"b\nX-C: d")]),
        with("line end behind a value", Reset, &[("x-a", b"b\r\n")]),
        with("zero byte in a value", Reset, &[("x-a", b"b\0c")]),
        with("control byte in a value", Reset, &[("x-a", b"b\x01c")]),
        with("delete in a value", Reset, &[("x-a", b"b\x7fc")]),
        with(
            "bytes above 7f in a value",
            Seen("GET /a"),
            &[("x-a", b"\xe4")],
        ),
        with("line end in a name", Reset, &[("x-a\r\nx-c", b"b")]),
        with("colon in a name", Reset, &[("x-a: b", b"c")]),
        with("colon behind a name", Reset, &[("host:", b"evil.test")]),
        with("space in a name", Reset, &[("x a", b"b")]),
        with("space behind a name", Reset, &[("content-length ", b"5")]),
        with("zero byte in a name", Reset, &[("x\0a", b"b")]),
        with("tab in a name", Reset, &[("x\ta", b"b")]),
        with("capital in a name", Reset, &[("X-a", b"b")]),
        with(
            "capital in a known name",
            Reset,
            &[("Transfer-Encoding", b"chunked")],
        ),
        with("no name", Reset, &[("", b"b")]),
        with(
            "underscore in a name",
            Status(400),
            &[("x_forwarded_for", b"1.2.3.4")],
        ),
        with("connection", Reset, &[("connection", b"close")]),
        with(
            "connection that names a field",
            Reset,
            &[("connection", b"x-forwarded-for")],
        ),
        with("keep-alive", Reset, &[("keep-alive", b"timeout=5")]),
        with(
            "proxy-connection",
            Reset,
            &[("proxy-connection", b"keep-alive")],
        ),
        with("upgrade", Reset, &[("upgrade", b"websocket")]),
        with("te of trailers", Seen("GET /a"), &[("te", b"trailers")]),
        with("te of more", Reset, &[("te", b"trailers, chunked")]),
        with("te of gzip", Reset, &[("te", b"gzip")]),
        with(
            "who the client is",
            Seen("GET /a"),
            &[
                ("x-forwarded-for", b"1.2.3.4"),
                ("forwarded", b"for=1.2.3.4"),
                ("x-real-ip", b"1.2.3.4"),
            ],
        ),
        with(
            "cookies apart",
            Seen("GET /a"),
            &[("cookie", b"a=b"), ("cookie", b"c=d")],
        ),
    ]
}

fn pseudo() -> Vec<Case> {
    vec![
        instead("method in small letters", Seen("get /a"), ":method", b"get"),
        instead(
            "method with a request",
            Reset,
            ":method",
            b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\nGET",
        ),
        instead("method with a space", Reset, ":method", b"GET /evil"),
        instead("method with a line end", Reset, ":method", b"GET\r\n"),
        instead("empty method", Reset, ":method", b""),
        instead("tunnel", Reset, ":method", b"CONNECT"),
        instead(
            "path with a request",
            Reset,
            ":path",
            b"%P/a HTTP/1.1\r\nHost: x\r\n\r\nGET /evil",
        ),
        instead("path with a space", Reset, ":path", b"%P/a b"),
        instead("path with a line end", Reset, ":path", b"%P/a\r\nX-A: b"),
        instead("path with a zero byte", Reset, ":path", b"%P/a\0"),
        instead("empty path", Reset, ":path", b""),
        instead("path without slash", Reset, ":path", b"a"),
        instead(
            "path with a whole target",
            Reset,
            ":path",
            b"http://evil.test%P/a",
        ),
        instead(
            "path that is an authority",
            Reset,
            ":path",
            b"@evil.test%P/a",
        ),
        instead("path with dots", Status(400), ":path", b"%P/../evil"),
        instead("path with query", Seen("GET /a?b=c"), ":path", b"%P/a?b=c"),
        instead("path of another route", Status(404), ":path", b"/-/none"),
        instead(
            "authority with user",
            Status(400),
            ":authority",
            b"user@gate.test",
        ),
        instead(
            "authority with port zero",
            Status(400),
            ":authority",
            b"gate.test:0",
        ),
        instead(
            "authority with path",
            Reset,
            ":authority",
            b"gate.test/evil",
        ),
        instead(
            "authority with line end",
            Reset,
            ":authority",
            b"gate.test\r\nX-A: b",
        ),
        instead(
            "authority with space",
            Reset,
            ":authority",
            b"gate.test evil",
        ),
        instead(
            "scheme with a target",
            Reset,
            ":scheme",
            b"http://evil.test/?",
        ),
        instead("scheme with line end", Reset, ":scheme", b"http\r\nX-A: b"),
        instead("other scheme", Seen("GET /a"), ":scheme", b"https"),
        with(
            "host that says the same",
            Seen("GET /a"),
            &[("host", b"gate.test")],
        ),
        with(
            "host that says something else",
            Status(400),
            &[("host", b"evil.test")],
        ),
        with(
            "two hosts",
            Status(400),
            &[("host", b"gate.test"), ("host", b"gate.test")],
        ),
        with("second path", Reset, &[(":path", b"/evil")]),
        with("second method", Reset, &[(":method", b"POST")]),
        with("second authority", Reset, &[(":authority", b"evil.test")]),
        with(
            "pseudo field behind others",
            Reset,
            &[("x-a", b"b"), (":path", b"/evil")],
        ),
        with("unknown pseudo field", Reset, &[(":evil", b"b")]),
        with("status in a request", Reset, &[(":status", b"200")]),
        with(
            "protocol without tunnel",
            Reset,
            &[(":protocol", b"websocket")],
        ),
        exactly("no path", Reset, &[USUAL[0], USUAL[1], USUAL[2]]),
        exactly("no method", Reset, &[USUAL[1], USUAL[2], USUAL[3]]),
        exactly("no scheme", Reset, &[USUAL[0], USUAL[2], USUAL[3]]),
        exactly("no authority", Status(400), &[USUAL[0], USUAL[1], USUAL[3]]),
        exactly(
            "host for authority",
            Seen("GET /a"),
            &[USUAL[0], USUAL[1], USUAL[3], ("host", b"gate.test")],
        ),
        exactly(
            "two hosts for authority",
            Status(400),
            &[
                USUAL[0],
                USUAL[1],
                USUAL[3],
                ("host", b"gate.test"),
                ("host", b"evil.test"),
            ],
        ),
    ]
}

fn trailers() -> Vec<Case> {
    vec![
        trailing("harmless trailer", Seen("POST /a hello"), &[("x-a", b"b")]),
        trailing(
            "length as trailer",
            Seen("POST /a hello"),
            &[("content-length", b"50")],
        ),
        trailing(
            "host as trailer",
            Seen("POST /a hello"),
            &[("host", b"evil.test")],
        ),
        trailing(
            "client as trailer",
            Seen("POST /a hello"),
            &[
                ("x-forwarded-for", b"1.2.3.4"),
                ("authorization", b"Basic eDp5"),
                ("cookie", b"a=b"),
            ],
        ),
        trailing(
            "underscore in a trailer",
            Seen("POST /a hello"),
            &[("content_length", b"50")],
        ),
        trailing(
            "coding as trailer",
            Reset,
            &[("transfer-encoding", b"chunked")],
        ),
        trailing("connection as trailer", Reset, &[("connection", b"close")]),
        // The library reads over it, and so nobody else sees it.
        trailing(
            "path as trailer",
            Seen("POST /a hello"),
            &[(":path", b"/evil")],
        ),
        trailing("line end in a trailer", Reset, &[("x-a", b"b\r\nX-C: d")]),
    ]
}
