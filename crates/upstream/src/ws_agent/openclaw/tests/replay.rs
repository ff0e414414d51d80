//! Captured connections, label by label.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::ws_agent::identity::hexadecimal;
use crate::ws_agent::openclaw::frame;
use crate::ws_agent::openclaw::handshake::{Signature, Signed};

const CAPTURED: &str = include_str!("../../../../fixtures/openclaw_frames.jsonl");

struct Line {
    label: String,
    incoming: bool,
    frame: Value,
}

fn lines() -> Vec<Line> {
    CAPTURED
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            Line {
                label: line["label"].as_str().unwrap().to_owned(),
                incoming: line["dir"] == "in",
                frame: line["frame"].take(),
            }
        })
        .collect()
}

fn labelled(label: &str) -> Vec<Line> {
    let mut lines = lines();
    lines.retain(|line| line.label == label);
    assert!(!lines.is_empty(), "{label}");
    lines
}

fn connects() -> Vec<Value> {
    lines()
        .into_iter()
        .filter(|line| !line.incoming && line.frame["method"] == "connect")
        .map(|line| line.frame)
        .collect()
}

/// Feeds what the gateway said on this connection.
fn replay(talk: &mut Talk, label: &str) -> Said {
    let mut said = Vec::new();
    for line in labelled(label).iter().filter(|line| line.incoming) {
        said.extend(hear(talk, &line.frame).0);
    }
    Said(said)
}

fn hear(talk: &mut Talk, frame: &Value) -> Said {
    if frame["type"].is_string() {
        return talk.hears(frame);
    }
    match frame["code"].as_u64() {
        Some(code) => talk.input(Input::Closed {
            code: u16::try_from(code).ok(),
            reason: frame["reason"].as_str().unwrap().to_owned(),
        }),
        // Pings are the link's business.
        None => Said(Vec::new()),
    }
}

#[test]
fn every_frame_of_the_gateway_decodes() {
    let mut decoded = 0;
    for line in lines().iter().filter(|line| line.incoming) {
        if line.frame["type"].is_string() {
            let text = line.frame.to_string();
            let frame = frame::read(text.as_bytes()).unwrap().unwrap();
            assert_eq!(frame.kind, line.frame["type"].as_str().unwrap());
            assert_eq!(frame.seq, line.frame["seq"].as_u64());
            assert_eq!(frame.error.is_some(), line.frame.get("error").is_some());
            assert_eq!(frame.payload.is_some(), line.frame.get("payload").is_some());
            decoded += 1;
        }
    }
    assert!(decoded > 100, "{decoded}");
}

#[test]
fn six_device_signatures_verify() {
    let mut verified = 0;
    for connect in connects() {
        let params = &connect["params"];
        let Some(device) = params.get("device") else {
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let auth = &params["auth"];
        let token = auth.get("token").unwrap_or(&auth["deviceToken"]);
        let scopes: Vec<String> = params["scopes"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let signed = Signed {
            device_id: &text(&device["id"]),
            client_id: &text(&params["client"]["id"]),
            client_mode: &text(&params["client"]["mode"]),
            role: &text(&params["role"]),
            scopes: &scopes,
            signed_at_ms: device["signedAt"].as_u64().unwrap(),
            token: &text(token),
            nonce: &text(&device["nonce"]),
            platform: &text(&params["client"]["platform"]),
            device_family: "",
        };
        let key = URL_SAFE_NO_PAD.decode(text(&device["publicKey"])).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(text(&device["signature"])).unwrap();
        UnparsedPublicKey::new(&ED25519, &key)
            .verify(signed.text(Signature::V3).as_bytes(), &signature)
            .unwrap();
        let id = hexadecimal(digest(&SHA256, &key).as_ref());
        assert_eq!(id, signed.device_id);
        verified += 1;
    }
    assert_eq!(verified, 6);
}

#[test]
fn our_connect_is_the_captured_one_but_for_names_and_range() {
    let captured = labelled("remote-approved");
    let mut expected = captured[1].frame.clone();
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    let mut ours = hear(&mut talk, &captured[0].frame).frame();

    let params = &mut ours["params"];
    assert_eq!(params["minProtocol"].take(), 3);
    assert_eq!(params["client"]["displayName"].take(), "tidegate");
    assert_eq!(
        params["client"]["version"].take(),
        env!("CARGO_PKG_VERSION")
    );
    let agent = format!("tidegate/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(params["userAgent"].take(), agent);
    for field in ["id", "publicKey"] {
        assert!(params["device"][field].take().is_string());
    }
    assert_eq!(
        params["device"]["signature"].take().as_str().unwrap().len(),
        86
    );
    params["client"]["platform"].take();

    let params = &mut expected["params"];
    params["minProtocol"].take();
    params["userAgent"].take();
    for field in ["displayName", "version", "platform"] {
        params["client"][field].take();
    }
    for field in ["id", "publicKey", "signature"] {
        params["device"][field].take();
    }
    assert_eq!(ours, expected);
}

#[test]
fn approved_device_is_ready_and_its_token_is_kept() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    let captured = labelled("remote-approved");
    hear(&mut talk, &captured[0].frame);
    let said = hear(&mut talk, &captured[2].frame);
    assert!(said.0.iter().any(|it| matches!(it, Output::Ready)));
    let kept = said.0.iter().find_map(|it| match it {
        Output::StoreDevice(device) => Some(device.clone()),
        _ => None,
    });
    let kept = kept.unwrap();
    assert_eq!(&*kept.url, URL);
    assert_eq!(kept.role, "operator");
    assert_eq!(kept.token, "l5_wxyn6QeCIHHtkGTk3RTR11FDjBsf-zxMNCSmmJOk");
    assert_eq!(kept.scopes, ["operator.read", "operator.write"]);
    talk.identity.store(&kept).unwrap();
    let stored = talk.identity.device_token(URL, "operator");
    assert_eq!(stored, Some(kept.token));
}

#[test]
fn device_that_is_not_approved_waits_for_the_operator() {
    for (label, request) in [
        ("remote-new-device", "4bd0b8c5-322e-41d0-8715-47b9a6fb5169"),
        ("scope-upgrade", "4c94a9f9-0ce2-43c4-81c6-cad4e393ac14"),
    ] {
        let mut talk = Talk::new(target());
        talk.input(Input::Opened);
        let said = replay(&mut talk, label);
        let (wait, reason, text) = said.hold().unwrap();
        assert_eq!(
            (wait, reason),
            (Duration::from_secs(15), HoldReason::Pairing)
        );
        let command = format!("openclaw devices approve {request}");
        assert!(text.contains(&command), "{text}");
        assert_eq!(
            said.0
                .iter()
                .filter(|it| matches!(it, Output::Hold { .. }))
                .count(),
            1
        );
    }
}

#[test]
fn grant_without_the_write_scope_is_held() {
    for label in ["backend-remote-nodevice", "cli-loopback-nodevice"] {
        let mut talk = Talk::new(target());
        talk.input(Input::Opened);
        let said = replay(&mut talk, label);
        let (wait, reason, text) = said.hold().unwrap();
        assert_eq!(
            (wait, reason),
            (Duration::from_secs(60), HoldReason::Scopes)
        );
        assert!(text.contains("not operator.write"), "{text}");
        assert!(!said.0.iter().any(|it| matches!(it, Output::Ready)));
        assert_eq!(said.close(), Some(1000));
    }
}

#[test]
fn local_connection_is_ready_with_and_without_an_approved_device() {
    for label in [
        "backend-loopback-nodevice",
        "cli-loopback-device",
        "cli-device-token-reconnect",
        "cli-device-token-reconnect2",
    ] {
        let mut talk = Talk::new(target());
        talk.input(Input::Opened);
        let said = replay(&mut talk, label);
        assert!(
            said.0.iter().any(|it| matches!(it, Output::Ready)),
            "{label}"
        );
        assert!(said.hold().is_none(), "{label}");
    }
}

/// The captured runs belong to the session of the gateway's operator; here they are told of as
/// those of a client.
#[test]
fn approved_connection_yields_one_answer_and_one_abort() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    let captured = labelled("remote-approved");
    let mut said = Vec::new();
    for line in &captured {
        if line.incoming {
            let mut frame = line.frame.clone();
            if frame["event"] == "chat" {
                frame["payload"]["sessionKey"] = json!("agent:main:probe");
            }
            said.extend(hear(&mut talk, &frame).0);
        }
        if line.frame["payload"]["type"] == "hello-ok" {
            // Makes the session known; its call has a number that no captured answer has.
            talk.peer.next_call = 100;
            talk.sends(1, delivery("probe", "m1", "say hi"));
        }
    }
    let said = Said(said);
    assert_eq!(
        said.answers(),
        [
            answer(
                "probe",
                "agent-1795191257567",
                AnswerKind::Final,
                "Tidegate probe reply number one.",
            ),
            answer("probe", "ss-1795191266649", AnswerKind::Aborted, ""),
        ]
    );
    // Its events are contiguous: nothing was asked.
    assert_eq!(said.methods(), ["connect"]);
}

#[test]
fn runs_of_other_operators_are_ignored_but_advance_the_count() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    let said = replay(&mut talk, "admin");
    assert!(said.answers().is_empty());
    assert_eq!(talk.peer.seq, 42);
}

#[test]
fn stop_of_the_gateway_leaves_the_unanswered_unknown() {
    let mut talk = Talk::open("boot-1");
    talk.sends(7, delivery("ann", "m1", "hello"));
    let mut said = Vec::new();
    for line in labelled("shutdown").iter().filter(|line| line.incoming) {
        said.extend(hear(&mut talk, &line.frame).0);
    }
    let said = Said(said);
    let reason = "connection closed with 1012: service restart".to_owned();
    assert_eq!(said.outcomes(), [(7, Outcome::Unknown { reason })]);
    assert!(said.hold().is_none());
    assert_eq!(talk.peer.deadline_ms(), u64::MAX);
}

#[test]
fn deaf_and_wrong_handshakes_end_in_a_close_by_the_gateway() {
    for (label, held) in [
        ("oversize-preauth", false),
        ("no-handshake", false),
        ("binary-frame", true),
    ] {
        let mut talk = Talk::new(target());
        talk.input(Input::Opened);
        let said = replay(&mut talk, label);
        assert_eq!(said.hold().is_some(), held, "{label}");
        assert!(!said.0.iter().any(|it| matches!(it, Output::Ready)));
    }
}
