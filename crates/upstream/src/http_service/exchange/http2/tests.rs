use super::*;
use http1::Target;

fn head(method: Method, framing: Framing, fields: &[(&str, &str)]) -> RequestHead {
    let mut all = Fields::new();
    for (name, value) in fields {
        all.push(name, value.as_bytes()).unwrap();
    }
    RequestHead {
        method,
        target: Target::new(Bytes::from_static(b"/a?b")).unwrap(),
        authority: Bytes::from_static(b"up.test"),
        version: Version::Http11,
        fields: all,
        framing,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
    }
}

#[test]
fn secrets_stay_out_of_the_table_that_clients_share() {
    let fields = [
        ("Authorization", "a"),
        ("Cookie", "b"),
        ("X-Api-Key", "c"),
        ("Accept", "d"),
    ];
    let map = header_map(&head(Method::GET, Framing::Empty, &fields)).unwrap();
    for (name, is_secret) in [
        ("authorization", true),
        ("cookie", true),
        ("x-api-key", true),
        ("accept", false),
    ] {
        assert_eq!(map[name].is_sensitive(), is_secret, "{name}");
    }
}

#[test]
fn nothing_of_one_connection_is_said() {
    let fields = [
        ("Connection", "close"),
        ("Host", "a"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "close"),
        ("TE", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "a"),
        ("Content-Length", "1"),
        ("Expect", "100-continue"),
    ];
    let map = header_map(&head(Method::GET, Framing::Chunked, &fields)).unwrap();
    assert!(map.is_empty(), "{map:?}");
}

#[test]
fn trailers_are_asked_for_where_they_matter() {
    for fields in [
        [("TE", "trailers")],
        [("te", "deflate;q=0.5, Trailers")],
        [("Content-Type", "application/grpc+proto")],
    ] {
        let map = header_map(&head(Method::POST, Framing::Chunked, &fields)).unwrap();
        assert_eq!(map["te"], "trailers", "{fields:?}");
    }
}

#[test]
fn the_length_is_that_of_the_framing() {
    let length = |method, framing| {
        let map = header_map(&head(method, framing, &[("content-length", "7")])).unwrap();
        map.get(CONTENT_LENGTH)
            .map(|length| length.to_str().unwrap().to_owned())
    };
    assert_eq!(
        length(Method::PUT, Framing::Length(3)).as_deref(),
        Some("3")
    );
    assert_eq!(length(Method::PUT, Framing::Empty).as_deref(), Some("0"));
    assert_eq!(length(Method::GET, Framing::Empty), None);
    assert_eq!(length(Method::PUT, Framing::Chunked), None);
}

#[test]
fn the_target_is_that_of_the_upstream() {
    let request = request(&head(Method::GET, Framing::Empty, &[]), Scheme::Https).unwrap();
    assert_eq!(request.uri(), "https://up.test/a?b");
    let mut star = head(Method::OPTIONS, Framing::Empty, &[]);
    star.target = Target::new(Bytes::from_static(b"*")).unwrap();
    assert!(super::request(&star, Scheme::Http).is_ok());
    let mut odd = head(Method::GET, Framing::Empty, &[]);
    odd.authority = Bytes::from_static(b"up test");
    let refused = super::request(&odd, Scheme::Http);
    assert!(matches!(refused, Err(ExchangeError::Unspeakable(_))));
}
