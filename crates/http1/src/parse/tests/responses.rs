use super::*;

fn answer(bytes: &str, method: &Method) -> Result<Option<ResponseHead>, Reject> {
    response(&mut BytesMut::from(bytes), method, &LIMITS)
}

#[test]
fn framing_follows_status_method_and_fields() {
    let (get, head) = (Method::GET, Method::HEAD);
    for (method, line, fields, framing, stands) in [
        (&get, "1.1 200 OK", "", Framing::UntilClose, false),
        (
            &get,
            "1.1 200",
            "Content-Length: 5\r\n",
            Framing::Length(5),
            true,
        ),
        (
            &get,
            "1.1 200 ",
            "Content-Length: 0\r\n",
            Framing::Empty,
            true,
        ),
        (
            &get,
            "1.1 200 OK",
            "Transfer-Encoding: chunked\r\n",
            Framing::Chunked,
            true,
        ),
        (
            &get,
            "1.1 200 \u{e9} t",
            "Content-Length: 5\r\nConnection: close\r\n",
            Framing::Length(5),
            false,
        ),
        (
            &get,
            "1.0 200 OK",
            "Content-Length: 5\r\n",
            Framing::Length(5),
            false,
        ),
        (
            &get,
            "1.0 200 OK",
            "Content-Length: 5\r\nConnection: keep-alive\r\n",
            Framing::Length(5),
            true,
        ),
        (
            &get,
            "1.0 200 OK",
            "Connection: keep-alive\r\n",
            Framing::UntilClose,
            false,
        ),
        (
            &head,
            "1.1 200 OK",
            "Content-Length: 5\r\n",
            Framing::Empty,
            true,
        ),
        (
            &head,
            "1.1 200 OK",
            "Transfer-Encoding: chunked\r\n",
            Framing::Empty,
            true,
        ),
        (&head, "1.1 200 OK", "", Framing::Empty, true),
        (
            &get,
            "1.1 304 Not Modified",
            "Content-Length: 5\r\n",
            Framing::Empty,
            true,
        ),
        (&get, "1.1 204 No Content", "", Framing::Empty, true),
        (
            &get,
            "1.1 204 No Content",
            "Content-Length: 0\r\n",
            Framing::Empty,
            true,
        ),
        (
            &get,
            "1.1 204 No Content",
            "Content-Length: 5\r\n",
            Framing::Empty,
            false,
        ),
        (
            &get,
            "1.1 204 No Content",
            "Transfer-Encoding: chunked\r\n",
            Framing::Empty,
            false,
        ),
        (&get, "1.1 100 Continue", "", Framing::Empty, true),
        (
            &get,
            "1.1 101 Switching Protocols",
            "Connection: upgrade\r\n",
            Framing::Empty,
            true,
        ),
        (
            &get,
            "1.1 599 \t",
            "Under_score: a\r\nContent-Length: 1\r\n",
            Framing::Length(1),
            true,
        ),
    ] {
        let bytes = format!("HTTP/{line}\r\n{fields}\r\n");
        let parsed = answer(&bytes, method).unwrap().unwrap();
        assert_eq!(parsed.framing, framing, "{bytes}");
        assert_eq!(parsed.keep_alive, stands, "{bytes}");
        assert_eq!(parsed.status.to_string(), line[4..7]);
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
