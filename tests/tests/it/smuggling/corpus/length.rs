//! `Content-Length`: doubled, oddly spelled, out of range, or not what a server expects.

use super::super::case::{Case, EVIL, last, partly, passed, post, refused};

/// Values, or whole lines, that are no length.
const REFUSED: &[(&str, &[u8])] = &[
    ("plus sign", b"Content-Length: +5"),
    ("minus sign", b"Content-Length: -5"),
    ("hexadecimal", b"Content-Length: 0x5"),
    ("underscore in value", b"Content-Length: 5_0"),
    ("fraction", b"Content-Length: 5.0"),
    ("exponent", b"Content-Length: 5e0"),
    ("word", b"Content-Length: five"),
    ("empty", b"Content-Length:"),
    ("spaces only", b"Content-Length:  "),
    ("list of equals", b"Content-Length: 5, 5"),
    ("list of different", b"Content-Length: 5, 6"),
    ("list with empty", b"Content-Length: 5,"),
    ("two numbers", b"Content-Length: 5 6"),
    ("semicolon", b"Content-Length: 5;"),
    ("quotes", b"Content-Length: \"5\""),
    ("letter behind", b"Content-Length: 5b"),
    ("vertical tab behind", b"Content-Length: 5\x0b"),
    ("zero byte behind", b"Content-Length: 5\0"),
    ("zero byte before", b"Content-Length: \x005"),
    ("carriage return before", b"Content-Length:\r5"),
    ("full-width digit", b"Content-Length: \xef\xbc\x95"),
    ("just above 2^63", b"Content-Length: 9223372036854775808"),
    ("5 above 2^64", b"Content-Length: 18446744073709551621"),
    (
        "forty digits",
        b"Content-Length: 1000000000000000000000000000000000000005",
    ),
    (
        "twenty zeros before",
        b"Content-Length: 000000000000000000005",
    ),
    ("doubled, equal", b"Content-Length: 5\r\nContent-Length: 5"),
    (
        "doubled, different",
        b"Content-Length: 5\r\nContent-Length: 6",
    ),
    (
        "doubled, zero first",
        b"Content-Length: 0\r\nContent-Length: 5",
    ),
    (
        "doubled, zero last",
        b"Content-Length: 5\r\nContent-Length: 0",
    ),
    (
        "doubled in other case",
        b"Content-Length: 5\r\ncontent-length: 5",
    ),
    (
        "doubled with another between",
        b"Content-Length: 5\r\nX-A: b\r\nContent-Length: 50",
    ),
    ("space before colon", b"Content-Length : 5"),
    ("tab before colon", b"Content-Length\t: 5"),
    ("leading space", b" Content-Length: 5"),
    ("underscore in name", b"Content_Length: 5"),
    ("zero byte in name", b"Content-Length\0: 5"),
    ("folded", b"Content-Length:\r\n 5"),
    ("folded behind digits", b"Content-Length: 5\r\n 0"),
    ("behind a line feed", b"X-A: b\nContent-Length: 5"),
    ("behind a carriage return", b"X-A: b\rContent-Length: 5"),
];

pub(super) fn cases() -> Vec<Case> {
    let evil = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(evil.len(), 31, "the lengths below are counted");
    let mut cases = vec![
        passed(
            "CL.0",
            "body that looks like a request",
            &["POST /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            post("Content-Length: 31\r\n", evil),
        ),
        passed(
            "CL.0",
            "GET with such a body",
            &["GET /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 31\r\n\r\n{evil}"),
        ),
        passed(
            "CL.0",
            "DELETE with such a body",
            &["DELETE /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            format!("DELETE %P/a HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 31\r\n\r\n{evil}"),
        ),
        passed(
            "CL.0",
            "OPTIONS with such a body",
            &["OPTIONS /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            format!("OPTIONS %P/a HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 31\r\n\r\n{evil}"),
        ),
        passed(
            "CL.0",
            "unknown method with such a body",
            &["BREW /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            format!("BREW %P/a HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 31\r\n\r\n{evil}"),
        ),
        last(
            "CL.0",
            "length is named by connection",
            &["POST /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            post(
                "Connection: close, content-length\r\nContent-Length: 31\r\n",
                evil,
            ),
        ),
        passed(
            "CL.0",
            "origin answers 404",
            &["POST /a/status=404 GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            format!(
                "POST %P/a/status=404 HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 31\r\n\r\n{evil}"
            ),
        ),
        passed(
            "0.CL",
            "zero, and a request behind",
            &["POST /a", "GET /evil"],
            post("Content-Length: 0\r\n", EVIL),
        ),
        passed(
            "0.CL",
            "no length, and a request behind",
            &["POST /a", "GET /evil"],
            post("", EVIL),
        ),
        partly(
            "0.CL",
            "no length, and a body",
            &["POST /a"],
            400,
            post("", "{\"a\": 1}\r\n\r\n"),
        ),
        passed(
            "CL",
            "zeros before the digits",
            &["POST /a hello"],
            post("Content-Length: 0005\r\n", "hello"),
        ),
        passed(
            "CL",
            "two zeros",
            &["POST /a", "GET /evil"],
            post("Content-Length: 00\r\n", EVIL),
        ),
        passed(
            "CL",
            "white space around",
            &["POST /a hello"],
            post("Content-Length: \t5 \t\r\n", "hello"),
        ),
        passed(
            "CL",
            "exact",
            &["POST /a hello", "GET /evil"],
            post("Content-Length: 5\r\n", format!("hello{EVIL}")),
        ),
        last(
            "CL",
            "HTTP/1.0 that does not stay",
            &["POST /a hello"],
            format!(
                "POST %P/a HTTP/1.0\r\nHost: gate.test\r\nContent-Length: 5\r\n\r\nhello{EVIL}"
            ),
        ),
        passed(
            "CL",
            "HTTP/1.0 that stays",
            &["POST /a hello", "GET /evil"],
            format!(
                "POST %P/a HTTP/1.0\r\nHost: gate.test\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello{EVIL}"
            ),
        ),
    ];
    for (name, line) in REFUSED {
        let line = [line, &b"\r\n"[..]].concat();
        cases.push(refused("CL", name, 400, post(line, format!("hello{EVIL}"))));
    }
    cases
}
