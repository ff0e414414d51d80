use super::*;

fn answer(bytes: &str, method: &Method) -> Result<Option<ResponseHead>, Reject> {
    response(&mut BytesMut::from(bytes), method, &LIMITS)
}

#[test]
fn framing_follows_status_method_and_fields() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (status, fields, to_get, to_head) in [
        ("200 OK", "", Framing::UntilClose, Framing::Empty),
        ("200", length, Framing::Length(5), Framing::Empty),
        (
            "200 ",
            "Content-Length: 0\r\n",
            Framing::Empty,
            Framing::Empty,
        ),
        ("200 \u{e9} t", chunked, Framing::Chunked, Framing::Empty),
        (
            "599 \t",
            "Under_score: a\r\n",
            Framing::UntilClose,
            Framing::Empty,
        ),
        ("304 Not Modified", length, Framing::Empty, Framing::Empty),
        ("304 Not Modified", chunked, Framing::Empty, Framing::Empty),
        ("204 No Content", length, Framing::Empty, Framing::Empty),
        ("100 Continue", "", Framing::Empty, Framing::Empty),
        (
            "101 x",
            "Connection: upgrade\r\n",
            Framing::Empty,
            Framing::Empty,
        ),
    ] {
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        for (method, framing) in [(&Method::GET, to_get), (&Method::HEAD, to_head)] {
            let parsed = answer(&head, method).unwrap().unwrap();
            assert_eq!(parsed.framing, framing, "{method} {head}");
            assert_eq!(parsed.status.to_string(), status[..3]);
        }
    }
}

#[test]
fn connection_stands_only_if_the_answer_ends_before_it() {
    for (line, fields, stands) in [
        ("1.1 200 OK", "Content-Length: 5\r\n", true),
        ("1.1 200 OK", "Transfer-Encoding: chunked\r\n", true),
        (
            "1.1 200 OK",
            "Content-Length: 5\r\nConnection: close\r\n",
            false,
        ),
        ("1.1 200 OK", "", false),
        ("1.1 200 OK", "Connection: keep-alive\r\n", false),
        ("1.0 200 OK", "Content-Length: 5\r\n", false),
        (
            "1.0 200 OK",
            "Content-Length: 5\r\nConnection: Keep-Alive\r\n",
            true,
        ),
        ("1.0 200 OK", "Connection: keep-alive\r\n", false),
        ("1.1 304 x", "Content-Length: 5\r\n", true),
        ("1.1 204 x", "", true),
        ("1.1 204 x", "Content-Length: 0\r\n", true),
        ("1.1 204 x", "Content-Length: 5\r\n", false),
        ("1.1 204 x", "Transfer-Encoding: chunked\r\n", false),
    ] {
        let head = format!("HTTP/{line}\r\n{fields}\r\n");
        let parsed = answer(&head, &Method::GET).unwrap().unwrap();
        assert_eq!(parsed.keep_alive, stands, "{head}");
    }
}

#[test]
fn broken_answers_are_refused() {
    for (reject, head) in [
        (Reject::StatusLine, "HTTP/1.1\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 \r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 20\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 2000\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 099 x\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 600 x\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 +20 x\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1  200 OK\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 200\tOK\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 200 O\0K\r\n\r\n"),
        (Reject::StatusLine, "HTTP/1.1 200 OK\r\r\n\r\n"),
        (Reject::StatusLine, "\r\n\r\n"),
        (Reject::StatusLine, "ICY 200 OK\r\n\r\n"),
        (Reject::Version, "HTTP/2 200\r\n\r\n"),
        (Reject::Version, "HTTP/1.2 200 OK\r\n\r\n"),
        (Reject::BareLineFeed, "HTTP/1.1 200 OK\n"),
        (Reject::BareLineFeed, "HTTP/1.1 200 OK\r\nA: b\n"),
        (Reject::Folded, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        (Reject::Name, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
        (Reject::Value, "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n"),
        (
            Reject::ContentLength,
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        ),
        (
            Reject::ContentLength,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            Reject::ContentLength,
            "HTTP/1.1 304 x\r\nContent-Length: x\r\n\r\n",
        ),
        (
            Reject::TransferEncoding,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            Reject::TransferEncoding,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            Reject::BothFramings,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        let found = answer(head, &Method::GET).map(|head| head.is_some());
        assert_eq!(found, Err(reject), "{}", head.escape_debug());
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(LIMITS.head));
    assert_eq!(answer(&long, &Method::GET).unwrap_err(), Reject::TooLarge);
}

#[test]
fn answer_fed_byte_by_byte_is_the_same() {
    let bytes = b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\nA:  b \r\n\r\n";
    let mut buffer = BytesMut::new();
    for byte in &bytes[..bytes.len() - 1] {
        buffer.extend_from_slice(&[*byte]);
        assert!(
            response(&mut buffer, &Method::GET, &LIMITS)
                .unwrap()
                .is_none()
        );
    }
    buffer.extend_from_slice(b"\nabc");
    let head = response(&mut buffer, &Method::GET, &LIMITS)
        .unwrap()
        .unwrap();
    assert_eq!((head.status, head.framing), (206, Framing::Length(3)));
    assert_eq!(head.fields.get_named("a"), Some(&b"b"[..]));
    assert_eq!(buffer, "abc");
}
