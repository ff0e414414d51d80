use super::*;

const LIMITS: Limits = Limits {
    head: 4096,
    fields: 32,
    target: 1024,
};

fn parsed(bytes: &[u8]) -> Result<Option<RequestHead>, Reject> {
    request(&mut BytesMut::from(bytes), &LIMITS)
}

#[test]
fn plain_request_is_read() {
    let mut buffer = BytesMut::from(
        &b"POST /a/b?c=d HTTP/1.1\r\nHost: example.org:81\r\ncontent-length:  5 \r\n\r\nhello"[..],
    );
    let head = request(&mut buffer, &LIMITS).unwrap().unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target.path(), "/a/b");
    assert_eq!(head.target.query(), Some("c=d"));
    assert_eq!(&head.authority[..], b"example.org:81");
    assert_eq!(head.framing, Framing::Length(5));
    assert!(head.keep_alive);
    assert_eq!(&buffer[..], b"hello");
    assert!(parsed(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
}
