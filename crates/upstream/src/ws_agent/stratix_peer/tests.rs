use std::time::Duration;

use serde_json::{Value, json};

use super::super::{AgentAuth, Answer, AnswerKind, DataEncoding, Peer as Speaks};
use super::*;

fn target(acks: bool) -> Target {
    Target {
        url: "ws://agent.example.com/ws".into(),
        peer: Speaks::Stratix,
        auth: AgentAuth::None,
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: false,
        acks,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 256,
        idle_timeout: Duration::ZERO,
    }
}

fn delivery(client: &str, message_id: &str) -> Arc<Delivery> {
    Arc::new(Delivery {
        client: client.into(),
        message_id: message_id.into(),
        body: DeliveryBody::Text("hello".into()),
        content_type: "text/plain".into(),
        compressed: false,
        at_ms: 1_709_078_400_000,
        check_first: false,
        traceparent: None,
    })
}

fn told(peer: &mut Peer, input: Input<'_>) -> Vec<Output> {
    let now = Now {
        mono_ms: 0,
        unix_ms: 0,
    };
    let mut out = Vec::new();
    peer.handle(now, input, &mut out);
    out
}

fn opened(acks: bool) -> Peer {
    let mut peer = Peer::new(&target(acks));
    assert!(matches!(
        told(&mut peer, Input::Opened)[..],
        [Output::Ready]
    ));
    peer
}

fn sent(peer: &mut Peer, tag: u64, delivery: Arc<Delivery>) -> String {
    match told(peer, Input::Send { tag, delivery }).pop() {
        Some(Output::Watched { tag: watched, text }) => {
            assert_eq!(watched, tag);
            text
        }
        other => panic!("no frame but {other:?}"),
    }
}

fn delivered(out: &[Output]) -> Vec<u64> {
    let tag = |one: &Output| match one {
        Output::Outcome {
            tag,
            outcome: Outcome::Delivered,
        } => *tag,
        other => panic!("{other:?}"),
    };
    out.iter().map(tag).collect()
}

#[test]
fn a_message_goes_out_as_the_seed_shows_it() {
    let mut peer = opened(false);
    let text = sent(&mut peer, 1, delivery("client-123", "msg-uuid"));
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({
            "type": 0,
            "clientId": "client-123",
            "messageId": "msg-uuid",
            "timestamp": 1_709_078_400_000_000_000_i64,
            "data": "hello",
            "route": "ws://agent.example.com/ws",
            "contentType": "text/plain",
        })
    );
}

#[test]
fn bytes_go_out_as_base64() {
    let mut peer = opened(false);
    let bytes = Arc::new(Delivery {
        body: DeliveryBody::Binary(vec![0, 255, 1].into()),
        ..(*delivery("c", "m")).clone()
    });
    let text: Value = serde_json::from_str(&sent(&mut peer, 1, bytes)).unwrap();
    assert_eq!((&text["type"], &text["data"]), (&json!(1), &json!("AP8B")));
}

#[test]
fn a_written_message_is_delivered_until_the_first_acknowledgement() {
    let mut peer = opened(false);
    sent(&mut peer, 1, delivery("c", "m1"));
    assert_eq!(delivered(&told(&mut peer, Input::Written { tag: 1 })), [1]);

    let ack = br#"{"type":2,"action":"ack","clientId":"c","messageId":"m1"}"#;
    assert!(told(&mut peer, Input::Frame(ack)).is_empty());
    sent(&mut peer, 2, delivery("c", "m2"));
    assert!(told(&mut peer, Input::Written { tag: 2 }).is_empty());
    let ack = br#"{"type":2,"action":"ack","clientId":"c","messageId":"m2"}"#;
    assert_eq!(delivered(&told(&mut peer, Input::Frame(ack))), [2]);
}

#[test]
fn an_acknowledgement_settles_only_the_message_of_its_client() {
    let mut peer = opened(true);
    sent(&mut peer, 1, delivery("a", "m"));
    sent(&mut peer, 2, delivery("b", "m"));
    let ack = br#"{"type":2,"action":"ack","clientId":"b","messageId":"m"}"#;
    assert_eq!(delivered(&told(&mut peer, Input::Frame(ack))), [2]);
    let ack = br#"{"type":2,"action":"ack","messageId":"m"}"#;
    assert_eq!(delivered(&told(&mut peer, Input::Frame(ack))), [1]);
}

#[test]
fn what_is_open_at_the_end_of_the_connection_is_unknown() {
    let mut peer = opened(true);
    sent(&mut peer, 1, delivery("c", "m1"));
    sent(&mut peer, 2, delivery("c", "m2"));
    told(&mut peer, Input::Forget { tag: 1 });
    let closed = Input::Closed {
        code: Some(1012),
        reason: "service restart".to_owned(),
    };
    let out = told(&mut peer, closed);
    assert!(
        matches!(
            &out[..],
            [Output::Outcome { tag: 2, outcome: Outcome::Unknown { reason } }]
                if reason.ends_with("service restart")
        ),
        "{out:?}"
    );
    let late = Input::Send {
        tag: 3,
        delivery: delivery("c", "m3"),
    };
    assert!(matches!(
        told(&mut peer, late)[..],
        [Output::Outcome {
            outcome: Outcome::NotSent { .. },
            ..
        }]
    ));
}

#[test]
fn answers_keep_what_the_agent_said() {
    let mut peer = opened(false);
    let answer = |frame: &[u8], peer: &mut Peer| match told(peer, Input::Frame(frame)).pop() {
        Some(Output::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    };
    let text = br#"{"type":0,"clientId":"c","messageId":"r1","data":"hi","contentType":"text/plain","x":1}"#;
    assert_eq!(
        answer(text, &mut peer),
        Answer {
            client: "c".into(),
            message_id: "r1".into(),
            in_reply_to: "".into(),
            kind: AnswerKind::Final,
            data: "hi".into(),
            content_type: "text/plain".into(),
        }
    );
    let bytes = answer(br#"{"type":1,"clientId":"c","data":"AP8B"}"#, &mut peer);
    assert_eq!((bytes.kind, &*bytes.data), (AnswerKind::Binary, "AP8B"));
    let frame = br#"{"type":2,"clientId":"c","action":"typing","data":{"a":1}}"#;
    let control = answer(frame, &mut peer);
    assert_eq!(control.kind, AnswerKind::Control);
    assert_eq!(control.data.as_bytes(), frame);
}

#[test]
fn what_means_nothing_is_skipped() {
    let mut peer = opened(false);
    let frames: [&[u8]; 8] = [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        br#"{"type":3,"clientId":"c"}"#,
        br#"{"type":-1,"clientId":"c"}"#,
        br#"{"type":0,"clientId":"c","data":{"a":1}}"#,
        br#"{"type":2,"action":"ack"}"#,
    ];
    for frame in frames {
        assert!(told(&mut peer, Input::Frame(frame)).is_empty());
    }
}
