//! Request lines.

use super::super::case::{Case, EVIL, answered, passed, refused};

/// Request lines that are refused, with the status.
const REFUSED: &[(&str, u16, &[u8])] = &[
    ("tabs for spaces", 400, b"GET\t%P/a\tHTTP/1.1"),
    ("tab before the version", 400, b"GET %P/a\tHTTP/1.1"),
    ("two spaces before the target", 400, b"GET  %P/a HTTP/1.1"),
    ("two spaces before the version", 400, b"GET %P/a  HTTP/1.1"),
    ("space behind the version", 400, b"GET %P/a HTTP/1.1 "),
    ("tab behind the version", 400, b"GET %P/a HTTP/1.1\t"),
    ("space in the target", 400, b"GET %P/a b HTTP/1.1"),
    ("two versions", 400, b"GET %P/a HTTP/1.1 HTTP/1.1"),
    (
        "version inside the target",
        400,
        b"GET %P/a HTTP/1.1 x HTTP/1.0",
    ),
    ("vertical tab in the target", 400, b"GET %P/a\x0bb HTTP/1.1"),
    (
        "carriage return in the target",
        400,
        b"GET %P/a\rb HTTP/1.1",
    ),
    ("zero byte in the target", 400, b"GET %P/a\0b HTTP/1.1"),
    ("delete in the target", 400, b"GET %P/a\x7f HTTP/1.1"),
    ("byte ff in the target", 400, b"GET %P/a\xff HTTP/1.1"),
    (
        "letters outside ASCII in the target",
        400,
        b"GET %P/\xc3\xa4 HTTP/1.1",
    ),
    ("no version", 400, b"GET %P/a"),
    ("no target", 400, b"GET HTTP/1.1"),
    ("no method", 400, b"%P/a HTTP/1.1"),
    ("no method, leading space", 400, b" %P/a HTTP/1.1"),
    ("version 1.10", 400, b"GET %P/a HTTP/1.10"),
    ("version 01.1", 400, b"GET %P/a HTTP/01.1"),
    ("version 1.1 and a letter", 400, b"GET %P/a HTTP/1.1x"),
    ("version with a space", 400, b"GET %P/a HTTP/ 1.1"),
    ("version with a comma", 400, b"GET %P/a HTTP/1,1"),
    ("version in small letters", 400, b"GET %P/a http/1.1"),
    ("other protocol", 400, b"GET %P/a HTTPS/1.1"),
    ("version 1.2", 505, b"GET %P/a HTTP/1.2"),
    ("version 0.9", 505, b"GET %P/a HTTP/0.9"),
    ("version 2.0", 505, b"GET %P/a HTTP/2.0"),
    ("version 3", 505, b"GET %P/a HTTP/3"),
    ("method with a bracket", 400, b"GE(T %P/a HTTP/1.1"),
    ("method with a colon", 400, b"GET: %P/a HTTP/1.1"),
    ("method with a zero byte", 400, b"GET\0 %P/a HTTP/1.1"),
    ("method with a slash", 400, b"GET/ %P/a HTTP/1.1"),
    (
        "tunnel to an authority",
        501,
        b"CONNECT gate.test:80 HTTP/1.1",
    ),
    ("tunnel to a path", 501, b"CONNECT %P/a HTTP/1.1"),
    ("authority form", 400, b"GET gate.test:80 HTTP/1.1"),
    ("no slash", 400, b"GET a HTTP/1.1"),
    ("asterisk for GET", 400, b"GET * HTTP/1.1"),
    ("fragment", 400, b"GET %P/a#b HTTP/1.1"),
    (
        "fragment that holds another path",
        400,
        b"GET %P/a#/../evil HTTP/1.1",
    ),
    (
        "absolute, other host",
        400,
        b"GET http://evil.test%P/a HTTP/1.1",
    ),
    (
        "absolute, other port",
        400,
        b"GET http://gate.test:81%P/a HTTP/1.1",
    ),
    (
        "absolute, user",
        400,
        b"GET http://user@gate.test%P/a HTTP/1.1",
    ),
    (
        "absolute, host for a user",
        400,
        b"GET http://gate.test@evil.test%P/a HTTP/1.1",
    ),
    ("absolute, no host", 400, b"GET http://%P/a HTTP/1.1"),
    (
        "absolute, no host but a path",
        400,
        b"GET http:/%P/a HTTP/1.1",
    ),
    (
        "absolute, backslash",
        400,
        b"GET http://gate.test\\%P/a HTTP/1.1",
    ),
    (
        "absolute, other scheme",
        400,
        b"GET ftp://gate.test%P/a HTTP/1.1",
    ),
    (
        "absolute, scheme of files",
        400,
        b"GET file://gate.test%P/a HTTP/1.1",
    ),
    (
        "absolute, fragment",
        400,
        b"GET http://gate.test%P/a#b HTTP/1.1",
    ),
    (
        "absolute, empty port",
        400,
        b"GET http://gate.test:%P/a HTTP/1.1",
    ),
];

/// Targets in which servers see different paths.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("two dots", "%P/../evil"),
    ("two dots at the end", "%P/a/.."),
    ("one dot", "%P/./a"),
    ("encoded dots", "%P/%2e%2e/evil"),
    ("half encoded dots", "%P/.%2E/evil"),
    ("dots before the route", "/-/x/..%P/a"),
];

pub(super) fn cases() -> Vec<Case> {
    let host = "Host: gate.test\r\n\r\n";
    let mut cases = vec![
        passed(
            "target",
            "query",
            &["GET /a?b=c&d"],
            format!("GET %P/a?b=c&d HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "question marks",
            &["GET /a??b?"],
            format!("GET %P/a??b? HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "line ends written out",
            &["GET /a?b=%0d%0aGET%20/evil"],
            format!("GET %P/a?b=%0d%0aGET%20/evil HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "path with a request",
            &["GET /a%20HTTP/1.1%0d%0aHost:%20x"],
            format!("GET %P/a%20HTTP/1.1%0d%0aHost:%20x HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "odd signs",
            &["GET /a;b=c,d|e\"<>\\^`{}"],
            format!("GET %P/a;b=c,d|e\"<>\\^`{{}} HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "method in small letters",
            &["get /a"],
            format!("get %P/a HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "absolute, same host",
            &["GET /a"],
            format!("GET http://gate.test%P/a HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "absolute, same host with the usual port",
            &["GET /a"],
            format!("GET http://gate.test:80%P/a HTTP/1.1\r\n{host}"),
        ),
        passed(
            "target",
            "absolute, scheme in other case",
            &["GET /a"],
            format!("GET HtTp://GATE.test%P/a HTTP/1.1\r\n{host}"),
        ),
        refused(
            "target",
            "absolute without host field",
            400,
            format!("GET http://gate.test%P/a HTTP/1.1\r\n\r\n{EVIL}"),
        ),
        refused(
            "target",
            "absolute, query with a path",
            400,
            format!("GET http://evil.test?%P/a HTTP/1.1\r\n{host}"),
        ),
        answered(
            "target",
            "two slashes before",
            404,
            format!("GET /%P/a HTTP/1.1\r\n{host}"),
        ),
        answered(
            "target",
            "no such route",
            404,
            format!("GET /-/none HTTP/1.1\r\n{host}"),
        ),
        answered(
            "target",
            "route with more behind",
            404,
            format!("GET /-/ox/a HTTP/1.1\r\n{host}"),
        ),
        refused(
            "target",
            "0.9, then a request",
            400,
            format!("GET %P/a\r\n\r\n{EVIL}"),
        ),
        refused(
            "target",
            "start of HTTP/2, then a request",
            505,
            format!("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n{EVIL}"),
        ),
        refused(
            "target",
            "start of HTTP/2 behind a request line",
            505,
            format!("GET * HTTP/2.0\r\n\r\nSM\r\n\r\n{EVIL}"),
        ),
    ];
    for (name, status, line) in REFUSED {
        let head = [line, &b"\r\n"[..], host.as_bytes(), EVIL.as_bytes()].concat();
        cases.push(refused("line", name, *status, head));
    }
    for (name, target) in AMBIGUOUS {
        cases.push(answered(
            "path",
            name,
            400,
            format!("GET {target} HTTP/1.1\r\n{host}"),
        ));
    }
    cases
}
