use super::*;

#[test]
fn every_known_name_is_found_in_any_case() {
    for known in Known::NAMED {
        assert_eq!(Known::of(known.name().as_bytes()), *known);
        assert_eq!(
            Known::of(known.name().to_ascii_uppercase().as_bytes()),
            *known
        );
        let longer = format!("{}x", known.name());
        assert_ne!(Known::of(longer.as_bytes()), *known);
    }
    for name in [&b""[..], b"x", b"hist", b"x-unknown"] {
        assert_eq!(Known::of(name), Known::Other);
    }
}

#[test]
fn name_and_value_bytes_are_those_of_the_rfc() {
    for byte in 0..=u8::MAX {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_name(&[b'a', byte]), is_token, "{byte}");
        let is_content = byte == b'\t' || byte >= 0x20 && byte != 0x7f;
        assert_eq!(is_value(&[b'a', byte, b'b']), is_content, "{byte}");
    }
    assert!(!is_name(b""));
    assert!(is_value(b""));
}

#[test]
fn fields_become_a_map_and_back() {
    let mut fields = Fields::new();
    for (name, value) in [("Accept", "a"), ("X-Own", "1"), ("accept", "b")] {
        fields.push(name, value.as_bytes()).unwrap();
    }
    let map = fields.to_header_map().unwrap();
    assert_eq!(map.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
    let back = Fields::from_header_map(&map);
    assert_eq!(back.all(Known::Accept).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(back.get_named("x-own"), Some(&b"1"[..]));
    assert_eq!(back.len(), 3);
}

#[test]
fn white_space_around_values_of_a_map_is_cut_off() {
    let mut map = http::HeaderMap::new();
    map.insert("a", http::HeaderValue::from_static("  x y\t"));
    assert_eq!(
        Fields::from_header_map(&map).get_named("a"),
        Some(&b"x y"[..])
    );
}
