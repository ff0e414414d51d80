//! Lines and fields of heads.

use super::super::case::{Case, EVIL, answered, get, last, partly, passed, refused};

/// Lines of a head that end it.
const REFUSED: &[(&str, &[u8])] = &[
    ("line feed ends the field", b"X-A: b\nX-C: d\r\n"),
    ("line feed in the value", b"X-A: b\n\r\n"),
    ("carriage return in the value", b"X-A: b\rc\r\n"),
    (
        "carriage return hides a length",
        b"X-A: b\rContent-Length: 44\r\n",
    ),
    ("two carriage returns end the line", b"X-A: b\r\r\n"),
    ("carriage return before the name", b"\rX-A: b\r\n"),
    ("carriage return in the name", b"X\r-A: b\r\n"),
    ("folded with space", b"X-A: b\r\n c\r\n"),
    ("folded with tab", b"X-A: b\r\n\tc\r\n"),
    ("folded, first of the fields is fine", b"X-A:\r\n b\r\n"),
    ("line of one space", b" \r\n"),
    ("line of one tab", b"\t\r\n"),
    ("zero byte in the value", b"X-A: b\0c\r\n"),
    ("zero byte in the name", b"X\0A: b\r\n"),
    ("control byte in the value", b"X-A: b\x01c\r\n"),
    ("backspace in the value", b"X-A: b\x08c\r\n"),
    ("delete in the value", b"X-A: b\x7fc\r\n"),
    ("vertical tab in the value", b"X-A: b\x0bc\r\n"),
    ("form feed in the value", b"X-A: b\x0cc\r\n"),
    ("control byte in the name", b"X\x01A: b\r\n"),
    ("delete in the name", b"X\x7fA: b\r\n"),
    ("byte ff in the name", b"X\xffA: b\r\n"),
    ("space in the name", b"X A: b\r\n"),
    ("space before the colon", b"X-A : b\r\n"),
    ("tab before the colon", b"X-A\t: b\r\n"),
    ("no name", b": b\r\n"),
    ("no colon", b"X-A\r\n"),
    ("no colon, a request line", b"GET /evil HTTP/1.1\r\n"),
    ("parentheses in the name", b"X(A): b\r\n"),
    ("brackets in the name", b"X[A]: b\r\n"),
    ("slash in the name", b"X/A: b\r\n"),
    ("at sign in the name", b"X@A: b\r\n"),
    ("quotes in the name", b"\"X-A\": b\r\n"),
    ("equals sign in the name", b"X=A: b\r\n"),
    ("underscore in the name", b"X_Forwarded_For: 1.2.3.4\r\n"),
    ("underscore in an unknown name", b"X_A: b\r\n"),
];

/// Fields `Host`, in place of the right one.
const HOSTS: &[(&str, &[u8])] = &[
    ("none", b""),
    ("empty", b"Host:\r\n"),
    ("doubled, equal", b"Host: gate.test\r\nHost: gate.test\r\n"),
    (
        "doubled, different",
        b"Host: gate.test\r\nHost: evil.test\r\n",
    ),
    (
        "doubled in other case",
        b"Host: gate.test\r\nhOST: evil.test\r\n",
    ),
    ("list", b"Host: gate.test, evil.test\r\n"),
    ("two names", b"Host: gate.test evil.test\r\n"),
    ("path", b"Host: gate.test/evil\r\n"),
    ("query", b"Host: gate.test?evil\r\n"),
    ("fragment", b"Host: gate.test#evil\r\n"),
    ("user", b"Host: user@gate.test\r\n"),
    ("user and password", b"Host: gate.test:80@evil.test\r\n"),
    ("scheme", b"Host: http://gate.test\r\n"),
    ("backslash", b"Host: gate.test\\evil\r\n"),
    ("percent", b"Host: gate%2etest\r\n"),
    ("port without digits", b"Host: gate.test:\r\n"),
    ("port of letters", b"Host: gate.test:http\r\n"),
    ("port zero", b"Host: gate.test:0\r\n"),
    ("port too large", b"Host: gate.test:65536\r\n"),
    ("two ports", b"Host: gate.test:80:80\r\n"),
    ("plus sign before the port", b"Host: gate.test:+80\r\n"),
    ("bracket not closed", b"Host: [::1\r\n"),
    ("name in brackets", b"Host: [gate.test]\r\n"),
    ("bytes behind the bracket", b"Host: [::1]evil\r\n"),
    ("space before the colon", b"Host : gate.test\r\n"),
    ("leading space", b" Host: gate.test\r\n"),
    ("zero byte", b"Host: gate.test\0evil\r\n"),
    ("byte ff", b"Host: gate\xff.test\r\n"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        refused(
            "line",
            "line feeds only",
            400,
            "GET %P/a HTTP/1.1\nHost: gate.test\n\n",
        ),
        refused(
            "line",
            "line feed ends the request line",
            400,
            "GET %P/a HTTP/1.1\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "line feed ends the head",
            400,
            "GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\n",
        ),
        refused(
            "line",
            "line feed before the last line",
            400,
            "GET %P/a HTTP/1.1\r\nHost: gate.test\n\r\n",
        ),
        refused(
            "line",
            "carriage returns only",
            400,
            "GET %P/a HTTP/1.1\rHost: gate.test\r\r\n\r\n",
        ),
        refused(
            "line",
            "carriage return, line feed, line feed",
            400,
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\n{EVIL}"),
        ),
        refused(
            "line",
            "space behind the empty line",
            400,
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\n \r\n{EVIL}"),
        ),
        refused(
            "line",
            "folded behind the request line",
            400,
            "GET %P/a HTTP/1.1\r\n Host: gate.test\r\nHost: gate.test\r\n\r\n",
        ),
        passed(
            "line",
            "one empty line before",
            &["GET /a"],
            "\r\nGET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        passed(
            "line",
            "two empty lines before",
            &["GET /a"],
            "\r\n\r\nGET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "three empty lines before",
            400,
            "\r\n\r\n\r\nGET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "line feed before",
            400,
            "\nGET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "space before",
            400,
            " GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "zero byte before",
            400,
            "\0GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "line",
            "byte order mark before",
            400,
            b"\xef\xbb\xbfGET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        passed("field", "empty value", &["GET /a"], get("X-A:\r\n")),
        passed(
            "field",
            "bytes above 7f in the value",
            &["GET /a"],
            get(b"X-A: \xe4\xff\r\n"),
        ),
        passed(
            "field",
            "tab in the value",
            &["GET /a"],
            get("X-A: b\tc\r\n"),
        ),
        passed(
            "field",
            "no space behind the colon",
            &["GET /a"],
            get("X-A:b\r\n"),
        ),
        passed(
            "field",
            "value that looks like a request",
            &["GET /a"],
            get("X-A: GET /evil HTTP/1.1\r\n"),
        ),
        passed(
            "field",
            "line ends written out",
            &["GET /a"],
            get("X-A: b%0d%0aContent-Length: 44\\r\\n\r\n"),
        ),
        refused(
            "size",
            "target",
            414,
            format!(
                "GET %P/{} HTTP/1.1\r\nHost: gate.test\r\n\r\n",
                "a".repeat(17_000)
            ),
        ),
        refused(
            "size",
            "value",
            431,
            get(format!("X-A: {}\r\n", "b".repeat(17_000))),
        ),
        refused(
            "size",
            "name",
            431,
            get(format!("X-{}: b\r\n", "A".repeat(17_000))),
        ),
        refused(
            "size",
            "a thousand fields",
            431,
            get("X-A: b\r\n".repeat(1_000)),
        ),
        refused(
            "size",
            "method",
            400,
            format!(
                "{} %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n",
                "A".repeat(100)
            ),
        ),
        refused(
            "size",
            "head that does not end",
            431,
            format!(
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nX-A: {}",
                "b".repeat(40_000)
            ),
        ),
        refused("expect", "other", 417, get("Expect: the-impossible\r\n")),
        refused("expect", "list", 417, get("Expect: 100-continue, x\r\n")),
        refused(
            "expect",
            "word before",
            417,
            get("Expect: y 100-continue\r\n"),
        ),
        refused("expect", "empty", 417, get("Expect:\r\n")),
        refused(
            "expect",
            "with a body that is a request",
            417,
            super::super::case::post("Expect: x\r\nContent-Length: 44\r\n", EVIL),
        ),
        passed(
            "expect",
            "without a body",
            &["GET /a"],
            get("Expect: 100-continue\r\n"),
        ),
        passed(
            "expect",
            "doubled, without a body",
            &["GET /a"],
            get("Expect: 100-continue\r\nExpect: 100-continue\r\n"),
        ),
        passed(
            "expect",
            "body at once",
            &["POST /a hello", "GET /evil"],
            super::super::case::post(
                "Expect: 100-continue\r\nContent-Length: 5\r\n",
                format!("hello{EVIL}"),
            ),
        ),
        passed(
            "expect",
            "chunks at once, other case",
            &["POST /a hello"],
            super::super::case::post(
                "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        last(
            "expect",
            "HTTP/1.0",
            &["POST /a hello"],
            "POST %P/a HTTP/1.0\r\nHost: gate.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        ),
        partly(
            "expect",
            "named by connection",
            &[],
            417,
            get("Connection: expect\r\nExpect: x\r\n"),
        ),
        passed(
            "host",
            "port",
            &["GET /a"],
            "GET %P/a HTTP/1.1\r\nHost: gate.test:8080\r\n\r\n",
        ),
        passed(
            "host",
            "other case",
            &["GET /a"],
            "GET %P/a HTTP/1.1\r\nHOST: GATE.test\r\n\r\n",
        ),
        passed(
            "host",
            "address in brackets",
            &["GET /a"],
            "GET %P/a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        ),
        last(
            "host",
            "none with HTTP/1.0",
            &["GET /a"],
            "GET %P/a HTTP/1.0\r\n\r\n",
        ),
        refused(
            "host",
            "doubled with HTTP/1.0",
            400,
            "GET %P/a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        refused(
            "host",
            "named by connection, doubled",
            400,
            get("Connection: host\r\nHost: evil.test\r\n"),
        ),
        answered(
            "host",
            "outside of the proxy",
            404,
            "GET /nothing HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
    ];
    for (name, line) in REFUSED {
        cases.push(refused(
            "field",
            name,
            400,
            [&get(line)[..], EVIL.as_bytes()].concat(),
        ));
    }
    for (name, line) in HOSTS {
        let head = [b"GET %P/a HTTP/1.1\r\n", *line, b"\r\n", EVIL.as_bytes()].concat();
        cases.push(refused("host", name, 400, head));
    }
    cases
}
