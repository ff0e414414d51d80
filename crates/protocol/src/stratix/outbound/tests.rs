use super::{Outbound, ack, answer, error, history_complete};
use crate::stratix::{Kind, Level, Message};

#[test]
fn notices_are_as_the_contract_shows_them() {
    assert_eq!(
        ack("m1", Level::Durable, false),
        r#"{"type":2,"action":"ack","messageId":"m1","level":"durable"}"#
    );
    assert_eq!(
        error("m1", 7, "no route", true),
        r#"{"type":2,"action":"error","messageId":"m1","code":7,"error":"no route","final":true}"#
    );
    assert_eq!(
        error("", 8, "not JSON", false),
        r#"{"type":2,"action":"error","code":8,"error":"not JSON","final":false}"#
    );
    let notice = r#"{"type":2,"action":"history_complete","total":50,"oldestMessageId":"msg-50","newestMessageId":"msg-99"}"#;
    assert_eq!(history_complete(50, Some("msg-50"), Some("msg-99")), notice);
    assert_eq!(
        history_complete(0, None, None),
        r#"{"type":2,"action":"history_complete","total":0}"#
    );
}

#[test]
fn whatever_the_client_called_it_is_escaped() {
    let id = "\"},{\\\u{2028}\n\0é";
    let text = ack(id, Level::Accepted, false);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["messageId"], id);
    assert!(!text.contains('\n'));
}

#[test]
fn answers_go_out_by_their_kind() {
    let text = Message {
        client_id: "client-123".to_owned(),
        message_id: "msg-uuid".to_owned(),
        timestamp: 1_709_078_400_000_000_000,
        data: "base64 encoded".to_owned(),
        route: "ws://target-gateway:8080/ws".to_owned(),
        ..Message::default()
    };
    let expected = r#"{"type":0,"clientId":"client-123","messageId":"msg-uuid","timestamp":1709078400000000000,"data":"base64 encoded","route":"ws://target-gateway:8080/ws"}"#;
    assert_eq!(answer(&text), Ok(Outbound::Text(expected.to_owned())));
    let control = Message {
        kind: Kind::Control,
        ..text.clone()
    };
    assert!(matches!(answer(&control), Ok(Outbound::Text(_))));
    let binary = Message {
        kind: Kind::Binary,
        data: "AAEC".to_owned(),
        ..text
    };
    assert_eq!(answer(&binary), Ok(Outbound::Binary(vec![0, 1, 2])));
    let broken = Message {
        data: "no".to_owned(),
        ..binary
    };
    assert!(answer(&broken).is_err());
}
