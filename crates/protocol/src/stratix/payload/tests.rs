use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Encoding, data_bytes, payload};
use crate::stratix::{Kind, Message};

#[test]
fn only_padded_base64_of_text_is_decoded_by_itself() {
    let cases: &[(&str, &[u8])] = &[
        ("", b""),
        ("SGVsbG8=", b"Hello"),
        ("5L2g5aW9", "你好".as_bytes()),
        // Of four letters, and no text behind it.
        ("ping", b"ping"),
        ("abcd", b"abcd"),
        // Without padding, with wrong padding, with a remainder that is not zero.
        ("SGVsbG8", b"SGVsbG8"),
        ("SGVsbG8==", b"SGVsbG8=="),
        ("SGVsbG9=", b"SGVsbG9="),
        // The other alphabet, and white space.
        ("fn5-fn5_", b"fn5-fn5_"),
        ("SGVs bG8=", b"SGVs bG8="),
        ("SGVsbG8=\n", b"SGVsbG8=\n"),
        ("Hello, agent", b"Hello, agent"),
        ("你好", "你好".as_bytes()),
    ];
    for (data, expected) in cases {
        let bytes = data_bytes(data, Encoding::Auto).unwrap();
        assert_eq!(bytes, *expected, "{data:?}");
        let plain = data_bytes(data, Encoding::Plain).unwrap();
        assert_eq!(plain, data.as_bytes(), "{data:?}");
    }
}

#[test]
fn base64_that_must_be_is_or_fails() {
    let bytes = data_bytes("//4=", Encoding::Base64).unwrap();
    assert_eq!(bytes, &[0xff, 0xfe][..]);
    assert!(data_bytes("Hello", Encoding::Base64).is_err());
    let message = Message {
        kind: Kind::Binary,
        data: "//4=".to_owned(),
        ..Message::default()
    };
    assert_eq!(
        payload(&message, Encoding::Plain).unwrap(),
        &[0xff, 0xfe][..]
    );
    let text = Message {
        kind: Kind::Text,
        ..message
    };
    assert_eq!(payload(&text, Encoding::Auto).unwrap(), &b"//4="[..]);
}

#[test]
fn what_was_encoded_is_decoded() {
    for text in ["a", "ab", "abc", "abcd", "zwölf Boxkämpfer", "\0\n"] {
        let encoded = STANDARD.encode(text);
        assert_eq!(
            data_bytes(&encoded, Encoding::Auto).unwrap(),
            text.as_bytes()
        );
    }
}
