use super::{DecodeError, Inbound, Level, Priority};
use crate::stratix::{IdError, Kind, Message};

fn parse(text: &str) -> Result<Inbound, DecodeError> {
    Inbound::parse(text.as_bytes())
}

#[track_caller]
fn field_of(text: &str) -> &'static str {
    match parse(text) {
        Err(DecodeError::Field { field, .. } | DecodeError::Text { field, .. }) => field,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_example_of_the_seed_is_read() {
    let text = r#"{
      "type": 0,
      "clientId": "client-123",
      "messageId": "msg-uuid",
      "timestamp": 1709078400000000000,
      "data": "base64 encoded",
      "route": "ws://target-gateway:8080/ws"
    }"#;
    let expected = Inbound {
        message: Message {
            client_id: "client-123".to_owned(),
            message_id: "msg-uuid".to_owned(),
            timestamp: 1_709_078_400_000_000_000,
            data: "base64 encoded".to_owned(),
            ..Message::default()
        },
        ..Inbound::default()
    };
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn every_field_is_read() {
    let text = concat!(
        r#"{"type":1,"messageId":"m","data":"AAEC","contentType":"image/png","compressed":true,"#,
        r#""priority":"bulk","ack":"delivered","nonce":"n","keyId":"k","signature":"00ff","#,
        r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","more":[{}]}"#
    );
    let read = parse(text).unwrap();
    assert_eq!(read.message.kind, Kind::Binary);
    assert_eq!(read.message.content_type, "image/png");
    assert!(read.message.compressed);
    assert_eq!(read.priority, Some(Priority::Bulk));
    assert_eq!(read.ack, Some(Level::Delivered));
    assert_eq!(read.nonce.as_deref(), Some("n"));
    assert_eq!(read.key_id.as_deref(), Some("k"));
    assert_eq!(read.signature.as_deref(), Some("00ff"));
    assert!(read.traceparent.is_some());
}

#[test]
fn missing_fields_and_nulls_have_defaults() {
    assert_eq!(parse("{}"), Ok(Inbound::default()));
    let nulls = concat!(
        r#"{"type":null,"clientId":null,"messageId":null,"timestamp":null,"data":null,"#,
        r#""contentType":null,"compressed":null,"priority":null,"ack":null,"nonce":null,"#,
        r#""keyId":null,"signature":null,"traceparent":null}"#
    );
    assert_eq!(parse(nulls), Ok(Inbound::default()));
    let heartbeat = parse(r#"{"type":2,"data":"ping"}"#).unwrap();
    assert_eq!(heartbeat.message.kind, Kind::Control);
    assert_eq!(heartbeat.message.data, "ping");
}

#[test]
fn data_that_is_no_string_stands_for_its_json() {
    for json in [r#"{"a": [1, "é"]}"#, "[1,2]", "-1.50e3", "true", "[[[[]]]]"] {
        let read = parse(&format!(r#"{{"data": {json} }}"#)).unwrap();
        assert_eq!(read.message.data, json);
    }
    let escaped = parse(r#"{"data":"a\"\u00e9\ud83d\ude00\n"}"#).unwrap();
    assert_eq!(escaped.message.data, "a\"é😀\n");
}

#[test]
fn what_is_wrong_names_its_field() {
    let cases = [
        (r#"{"type":3}"#, "type"),
        (r#"{"type":-1}"#, "type"),
        (r#"{"type":"0"}"#, "type"),
        (r#"{"type":0.5}"#, "type"),
        (r#"{"clientId":7}"#, "clientId"),
        (r#"{"messageId":7}"#, "messageId"),
        (r#"{"messageId":"a\nb"}"#, "messageId"),
        (r#"{"timestamp":"now"}"#, "timestamp"),
        (r#"{"timestamp":1e999}"#, "timestamp"),
        (r#"{"data":"\ud83d"}"#, "data"),
        (r#"{"contentType":["a"]}"#, "contentType"),
        (r#"{"contentType":"a\u0000"}"#, "contentType"),
        (r#"{"compressed":1}"#, "compressed"),
        (r#"{"priority":"urgent"}"#, "priority"),
        (r#"{"priority":0}"#, "priority"),
        (r#"{"ack":true}"#, "ack"),
        (r#"{"ack":"Durable"}"#, "ack"),
        (r#"{"nonce":1}"#, "nonce"),
        (r#"{"nonce":"\u0007"}"#, "nonce"),
        (r#"{"keyId":{}}"#, "keyId"),
        (r#"{"signature":[]}"#, "signature"),
        (r#"{"traceparent":0}"#, "traceparent"),
    ];
    for (text, field) in cases {
        assert_eq!(field_of(text), field, "{text}");
    }
    let long = format!(r#"{{"messageId":"{}"}}"#, "x".repeat(257));
    let problem = IdError::TooLong {
        size: 257,
        max: 256,
    };
    let expected = DecodeError::Text {
        field: "messageId",
        problem,
    };
    assert_eq!(parse(&long), Err(expected));
}

#[test]
fn what_is_no_object_is_refused() {
    for text in [
        "[]",
        " [0]",
        r#"[0,"c","m",0,"d"]"#,
        "null",
        "1",
        r#""text""#,
    ] {
        assert_eq!(parse(text), Err(DecodeError::NotObject), "{text}");
    }
    for text in [
        "",
        " ",
        "{",
        "{]",
        r#"{"type":0}}"#,
        r#"{"type":0} x"#,
        "{'a':1}",
    ] {
        let read = parse(text);
        assert!(matches!(read, Err(DecodeError::NotJson { .. })), "{text}");
    }
    let read = Inbound::parse(b"{\"data\":\"\xff\"}");
    assert_eq!(read, Err(DecodeError::NotJson { at: 10 }));
    let twice = parse(r#"{"data":"a","d\u0061ta":"b"}"#);
    assert!(
        matches!(twice, Err(DecodeError::Repeated { .. })),
        "{twice:?}"
    );
}

#[test]
fn deep_nesting_is_no_recursion() {
    let deep = format!(
        r#"{{"data":{}1{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    // Either reading is fine, as long as it ends.
    if let Ok(read) = parse(&deep) {
        assert_eq!(read.message.data.len(), 400_001);
    }
}

#[test]
fn times_are_read_in_both_units() {
    let cases = [
        ("0", None),
        ("-5", None),
        ("1709078400123", Some(1_709_078_400_123)),
        ("1709078400123.7", Some(1_709_078_400_123)),
        ("1709078400123456789", Some(1_709_078_400_123)),
        ("1.709078400123e18", Some(1_709_078_400_123)),
        ("1e300", Some(9_223_372_036_854)),
    ];
    for (number, expected) in cases {
        let read = parse(&format!(r#"{{"timestamp":{number}}}"#)).unwrap();
        assert_eq!(read.timestamp_ms(), expected, "{number}");
    }
}

#[test]
fn traces_that_are_not_well_formed_are_dropped() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let wrong = [
        "",
        "00",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-00",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x",
    ];
    let kept = |text: &str| {
        let frame = format!(r#"{{"traceparent":"{text}"}}"#);
        parse(&frame).unwrap().traceparent
    };
    assert_eq!(kept(good).as_deref(), Some(good));
    for text in wrong {
        assert_eq!(kept(text), None, "{text}");
    }
}
