use super::*;

const LIMITS: Limits = Limits {
    head: 4096,
    fields: 4,
    target: 64,
};

/// A target and fields that are refused.
type Case<'a> = (Reject, &'a str, &'a [(&'a str, &'a str)]);

fn parsed(
    method: &str,
    uri: &str,
    fields: &[(&str, &str)],
    has_body: bool,
) -> Result<RequestHead, Reject> {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    http2_request(&parts, has_body, &LIMITS)
}

#[test]
fn request_is_taken_over() {
    let fields = [("accept", "a"), ("te", "trailers"), ("host", "A:443")];
    let head = parsed("POST", "https://a/b?c=d", &fields, true).unwrap();
    assert_eq!(
        (head.target.path(), head.target.query()),
        ("/b", Some("c=d"))
    );
    assert_eq!(head.authority, "a");
    assert_eq!(
        (head.version, head.framing),
        (Version::Http2, Framing::Chunked)
    );
    assert_eq!(head.fields.len(), 3);
    let head = parsed("GET", "/", &[("host", "a:1")], false).unwrap();
    assert_eq!(
        (&head.authority[..], head.framing),
        (&b"a:1"[..], Framing::Empty)
    );
    let head = parsed("PUT", "http://a/", &[("content-length", "5")], true).unwrap();
    assert_eq!(head.framing, Framing::Length(5));
}

#[test]
fn what_http1_could_read_otherwise_is_refused() {
    let long = format!("https://a/{}", "b".repeat(64));
    let many = [("a", "b"); 5];
    let cases: &[Case<'_>] = &[
        (
            Reject::TransferEncoding,
            "https://a/",
            &[("transfer-encoding", "chunked")],
        ),
        (Reject::Name, "https://a/", &[("connection", "close")]),
        (Reject::Name, "https://a/", &[("keep-alive", "5")]),
        (Reject::Name, "https://a/", &[("proxy-connection", "close")]),
        (Reject::Name, "https://a/", &[("upgrade", "websocket")]),
        (Reject::Name, "https://a/", &[("x_forwarded_for", "b")]),
        (Reject::Value, "https://a/", &[("te", "gzip")]),
        (
            Reject::ContentLength,
            "https://a/",
            &[("content-length", "5")],
        ),
        (
            Reject::ContentLength,
            "https://a/",
            &[("content-length", "+5")],
        ),
        (
            Reject::ContentLength,
            "https://a/",
            &[("content-length", "0"), ("content-length", "0")],
        ),
        (Reject::Expectation, "https://a/", &[("expect", "x")]),
        (Reject::Host, "/", &[]),
        (Reject::Host, "https://u@a/", &[]),
        (Reject::Host, "https://a/", &[("host", "a b")]),
        (Reject::Host, "https://a/", &[("host", "a"), ("host", "a")]),
        (Reject::HostMismatch, "https://a/", &[("host", "b")]),
        (Reject::HostMismatch, "https://a/", &[("host", "a:80")]),
        (Reject::Target, "*", &[("host", "a")]),
        (Reject::TargetTooLong, &long, &[]),
        (Reject::TooManyFields, "https://a/", &many),
    ];
    for (reject, uri, fields) in cases {
        let found = parsed("GET", uri, fields, false).map(|_| ());
        assert_eq!(found, Err(*reject), "{uri} {fields:?}");
    }
    let connect = parsed("CONNECT", "a:80", &[], false).map(|_| ());
    assert_eq!(connect, Err(Reject::Connect));
}

#[test]
fn cookies_in_pieces_become_one_field() {
    let fields = [
        ("host", "a"),
        ("cookie", "a=1"),
        ("accept", "x"),
        ("cookie", "b=2"),
        ("cookie", "c=3; d=4"),
    ];
    let head = parsed("GET", "/", &fields, false).unwrap();
    let cookies: Vec<&[u8]> = head.fields.all(Known::Cookie).collect();
    assert_eq!(cookies, [b"a=1; b=2; c=3; d=4"]);
}
