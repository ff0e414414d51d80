use super::*;

#[test]
fn sizes_are_plain_hexadecimal() {
    for length in [
        1,
        9,
        10,
        15,
        16,
        255,
        256,
        4096,
        65_535,
        1 << 31,
        usize::MAX,
    ] {
        let mut out = BytesMut::new();
        chunk_start(&mut out, length);
        assert_eq!(out, format!("{length:x}\r\n").as_bytes());
    }
}

#[test]
fn status_lines_have_three_digits_and_the_usual_reason() {
    for (status, line) in [
        (101, "HTTP/1.1 101 Switching Protocols\r\n"),
        (200, "HTTP/1.1 200 OK\r\n"),
        (404, "HTTP/1.1 404 Not Found\r\n"),
        (599, "HTTP/1.1 599 \r\n"),
    ] {
        let mut out = BytesMut::new();
        write_status_line(&mut out, status);
        assert_eq!(out, line.as_bytes());
    }
}

#[test]
fn request_and_trailers_are_written() {
    let mut out = BytesMut::new();
    write_request_line(&mut out, &Method::PUT, b"/a?b");
    let mut fields = Fields::new();
    fields.push("X-One", b"1").unwrap();
    fields.push("two", b"").unwrap();
    write_fields(&mut out, &fields);
    assert_eq!(out, &b"PUT /a?b HTTP/1.1\r\nX-One: 1\r\ntwo: \r\n"[..]);
    out.clear();
    chunk_end(&mut out, Some(&fields));
    assert_eq!(out, &b"0\r\nX-One: 1\r\ntwo: \r\n\r\n"[..]);
    out.clear();
    chunk_end(&mut out, None);
    assert_eq!(out, &b"0\r\n\r\n"[..]);
}
