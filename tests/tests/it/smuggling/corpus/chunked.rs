//! Chunks that servers have been seen to read differently.

use super::super::case::{Case, EVIL, chunks, passed, post, refused};

/// Bodies that end where the gateway stops reading.
const REFUSED: &[(&str, &[u8])] = &[
    ("plus sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("minus sign", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("0x before", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("underscore", b"5_0\r\nhello\r\n0\r\n\r\n"),
    ("underscore before", b"_5\r\nhello\r\n0\r\n\r\n"),
    ("space before", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("tab before", b"\t5\r\nhello\r\n0\r\n\r\n"),
    ("space behind", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("tab behind", b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("space before semicolon", b"5 ;a=b\r\nhello\r\n0\r\n\r\n"),
    ("comma", b"5,0\r\nhello\r\n0\r\n\r\n"),
    ("no digit", b"\r\nhello\r\n0\r\n\r\n"),
    ("semicolon only", b";a\r\nhello\r\n0\r\n\r\n"),
    ("letter g", b"5g\r\nhello\r\n0\r\n\r\n"),
    ("zero byte", b"5\0\r\nhello\r\n0\r\n\r\n"),
    (
        "seventeen digits",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    ("2^64 and 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("2^64 less one", b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    ("2^63", b"8000000000000000\r\nhello\r\n0\r\n\r\n"),
    ("line feed behind size", b"5\nhello\r\n0\r\n\r\n"),
    ("carriage return behind size", b"5\rhello\r\n0\r\n\r\n"),
    (
        "two carriage returns behind size",
        b"5\r\r\nhello\r\n0\r\n\r\n",
    ),
    ("line feed in extension", b"5;a\nhello\r\n0\r\n\r\n"),
    (
        "carriage return in extension",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    ),
    ("zero byte in extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    (
        "line in quotes in extension",
        b"5;a=\"\r\n0\r\n\r\n\"\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "line feed in quotes in extension",
        b"5;a=\"\n0\r\n\r\n\"\r\nhello\r\n0\r\n\r\n",
    ),
    ("no line end behind data", b"5\r\nhello0\r\n\r\n"),
    ("line feed behind data", b"5\r\nhello\n0\r\n\r\n"),
    ("carriage return behind data", b"5\r\nhello\r0\r\n\r\n"),
    ("two bytes behind data", b"5\r\nhelloXX0\r\n\r\n"),
    ("empty line behind data", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
    ("data longer than said", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("data shorter than said", b"5\r\nhell\r\n0\r\n\r\n"),
    ("last chunk with line feeds", b"0\n\n"),
    ("last chunk with one line feed", b"0\r\n\n"),
    ("last chunk of minus zero", b"-0\r\n\r\n"),
    ("carriage return behind last chunk", b"0\r\n\rX"),
    ("trailer with line feed", b"0\r\nX-A: b\n\r\n"),
    ("trailer without colon", b"0\r\nX-A\r\n\r\n"),
    ("trailer with space before colon", b"0\r\nX-A : b\r\n\r\n"),
    ("trailer without name", b"0\r\n: b\r\n\r\n"),
    ("trailer that is folded", b"0\r\nX-A: b\r\n c\r\n\r\n"),
    ("trailer with zero byte", b"0\r\nX-A: b\0\r\n\r\n"),
    ("trailer with carriage return", b"0\r\nX-A: b\rc\r\n\r\n"),
    (
        "request for a trailer",
        b"0\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        passed(
            "chunk",
            "small letters and large ones",
            &["POST /a 0123456789abcdef012345"],
            chunks("a\r\n0123456789\r\nC\r\nabcdef012345\r\n0\r\n\r\n"),
        ),
        passed(
            "chunk",
            "sixteen digits",
            &["POST /a hello"],
            chunks("0000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        passed(
            "chunk",
            "several zeros for the last",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0000\r\n\r\n"),
        ),
        passed(
            "chunk",
            "extension",
            &["POST /a hello"],
            chunks("5;a=b;c=\"d e\"\r\nhello\r\n0;f\r\n\r\n"),
        ),
        passed(
            "chunk",
            "extension that looks like a size",
            &["POST /a hello"],
            chunks("5;0\r\nhello\r\n0;5\r\n\r\n"),
        ),
        passed(
            "chunk",
            "data that looks like the end",
            &["POST /a 0\r\n\r\nX"],
            chunks("6\r\n0\r\n\r\nX\r\n0\r\n\r\n"),
        ),
        passed(
            "chunk",
            "data that looks like a request",
            &["POST /a GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"],
            chunks("1f\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"),
        ),
        passed(
            "trailer",
            "harmless",
            &["POST /a hello"],
            post(
                "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n",
                "5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
            ),
        ),
        passed(
            "trailer",
            "length",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
        ),
        passed(
            "trailer",
            "coding",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0\r\nTransfer-Encoding: identity\r\n\r\n"),
        ),
        passed(
            "trailer",
            "host",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n"),
        ),
        passed(
            "trailer",
            "connection",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0\r\nConnection: close\r\n\r\n"),
        ),
        passed(
            "trailer",
            "who the client is",
            &["POST /a hello"],
            chunks(
                "5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: Bearer x\r\nCookie: a=b\r\n\r\n",
            ),
        ),
        passed(
            "trailer",
            "name with underscore",
            &["POST /a hello"],
            chunks("5\r\nhello\r\n0\r\nContent_Length: 50\r\n\r\n"),
        ),
        refused(
            "chunk",
            "extension of 5000 bytes",
            400,
            chunks(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5_000))),
        ),
        refused(
            "chunk",
            "extensions of 24000 bytes in all",
            400,
            chunks(format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\nx\r\n", "y".repeat(1_000)).repeat(24)
            )),
        ),
        refused(
            "trailer",
            "9000 bytes",
            400,
            chunks(format!("0\r\nX-A: {}\r\n\r\n", "b".repeat(9_000))),
        ),
        refused(
            "trailer",
            "a hundred",
            400,
            chunks(format!("0\r\n{}\r\n", "X-A: b\r\n".repeat(100))),
        ),
    ];
    for (name, body) in REFUSED {
        cases.push(refused(
            "chunk",
            name,
            400,
            chunks([body, EVIL.as_bytes()].concat()),
        ));
    }
    cases
}
