//! Refusals and what is done about them.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::ws_agent::openclaw::handshake::{Signature, Signed};
use crate::ws_agent::peer::DeviceToken;

fn connect(talk: &mut Talk) -> Value {
    talk.input(Input::Opened);
    talk.hears(&challenge()).frame()
}

fn failure(code: &str, detail: &str) -> Value {
    json!({"code": code, "message": "no", "details": {"code": detail}})
}

/// The signature in a connect frame is good for this text.
fn signs(connect: &Value, token: &str, signature: Signature) -> bool {
    let device = &connect["params"]["device"];
    let text = |name: &str| device[name].as_str().unwrap().to_owned();
    let signed = Signed {
        device_id: &text("id"),
        client_id: "gateway-client",
        client_mode: "backend",
        role: "operator",
        scopes: &["operator.read", "operator.write"],
        signed_at_ms: 1_795_191_257_554,
        token,
        nonce: NONCE,
        platform: std::env::consts::OS,
        device_family: "",
    };
    let key = URL_SAFE_NO_PAD.decode(text("publicKey")).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(text("signature")).unwrap();
    UnparsedPublicKey::new(&ED25519, &key)
        .verify(signed.text(signature).as_bytes(), &bytes)
        .is_ok()
}

fn store(talk: &Talk, token: &str) {
    let device = DeviceToken {
        url: URL.into(),
        role: "operator",
        token: token.to_owned(),
        scopes: Vec::new(),
    };
    talk.identity.store(&device).unwrap();
}

#[test]
fn signed_text_is_that_of_the_worked_example() {
    let signed = Signed {
        device_id: "dbb1ee967951fbd6d1af226f48bbb2789bb9b229aaddb7570c4f8ba8542d5f92",
        client_id: "gateway-client",
        client_mode: "backend",
        role: "operator",
        scopes: &["operator.read", "operator.write"],
        signed_at_ms: 1_795_191_257_554,
        token: "tidegate-probe-token",
        nonce: NONCE,
        platform: "Linux",
        device_family: "",
    };
    let common = "dbb1ee967951fbd6d1af226f48bbb2789bb9b229aaddb7570c4f8ba8542d5f92|\
        gateway-client|backend|operator|operator.read,operator.write|1795191257554|\
        tidegate-probe-token|63506a52-037b-4bfd-b09f-732286bc7a07";
    assert_eq!(signed.text(Signature::V3), format!("v3|{common}|linux|"));
    assert_eq!(signed.text(Signature::V2), format!("v2|{common}"));
}

#[test]
fn our_own_signature_verifies() {
    let mut talk = Talk::new(target());
    let connect = connect(&mut talk);
    assert!(signs(&connect, "tidegate-probe-token", Signature::V3));
    assert!(!signs(&connect, "tidegate-probe-token", Signature::V2));
    assert!(!signs(&connect, "another", Signature::V3));
}

#[test]
fn password_is_shown_and_not_signed() {
    let auth = AgentAuth::Password(Secret::new("pass"));
    let mut talk = Talk::new(Target { auth, ..target() });
    let connect = connect(&mut talk);
    assert_eq!(connect["params"]["auth"], json!({"password": "pass"}));
    assert!(signs(&connect, "", Signature::V3));
}

#[test]
fn without_a_secret_the_device_token_is_shown_if_there_is_one() {
    let auth = AgentAuth::None;
    let mut talk = Talk::new(Target { auth, ..target() });
    let first = connect(&mut talk);
    assert_eq!(first["params"].get("auth"), None);
    assert!(signs(&first, "", Signature::V3));
    talk.lost();
    store(&talk, "kept");
    let second = connect(&mut talk);
    assert_eq!(second["params"]["auth"], json!({"deviceToken": "kept"}));
    assert!(signs(&second, "kept", Signature::V3));
}

#[test]
fn refused_signature_is_tried_once_in_the_older_form() {
    let mut talk = Talk::new(target());
    connect(&mut talk);
    let refusal = failure("INVALID_REQUEST", "DEVICE_AUTH_SIGNATURE_INVALID");
    let said = talk.hears(&refused("1", &refusal));
    assert_eq!(said.hold().unwrap().1, HoldReason::Retry);
    talk.lost();

    let older = connect(&mut talk);
    assert!(signs(&older, "tidegate-probe-token", Signature::V2));
    let said = talk.hears(&refused("1", &refusal));
    let (wait, reason, _) = said.hold().unwrap();
    assert_eq!(
        (wait, reason),
        (Duration::from_secs(60), HoldReason::Credentials)
    );
    talk.lost();

    // And from the start again, in case the gateway was replaced meanwhile.
    let newer = connect(&mut talk);
    assert!(signs(&newer, "tidegate-probe-token", Signature::V3));
}

#[test]
fn accepted_older_signature_is_remembered() {
    let mut talk = Talk::new(target());
    connect(&mut talk);
    let refusal = failure("INVALID_REQUEST", "DEVICE_AUTH_SIGNATURE_INVALID");
    talk.hears(&refused("1", &refusal));
    talk.lost();
    connect(&mut talk);
    talk.hears(&hello("boot"));
    talk.lost();
    let next = connect(&mut talk);
    assert!(signs(&next, "tidegate-probe-token", Signature::V2));
}

#[test]
fn wrong_token_is_followed_by_one_try_with_the_device_token() {
    let mut talk = Talk::new(target());
    store(&talk, "kept");
    connect(&mut talk);
    let refusal = failure("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH");
    let said = talk.hears(&refused("1", &refusal));
    assert_eq!(said.hold().unwrap().1, HoldReason::Retry);
    talk.lost();

    let second = connect(&mut talk);
    assert_eq!(second["params"]["auth"], json!({"deviceToken": "kept"}));
    let said = talk.hears(&refused("1", &refusal));
    assert_eq!(said.hold().unwrap().1, HoldReason::Credentials);
    talk.lost();

    let third = connect(&mut talk);
    let token = json!({"token": "tidegate-probe-token"});
    assert_eq!(third["params"]["auth"], token);
    let said = talk.hears(&refused("1", &refusal));
    assert_eq!(said.hold().unwrap().1, HoldReason::Credentials);
}

#[test]
fn device_token_is_not_shown_over_a_path_that_others_may_read() {
    let elsewhere = |url: &str, tls_fingerprint| Target {
        url: url.into(),
        tls_fingerprint,
        ..target()
    };
    let cases = [
        (elsewhere("ws://gateway:18789", None), false),
        (elsewhere("wss://gateway", None), false),
        (elsewhere("ws://127.0.0.1.example.org/", None), false),
        (elsewhere("wss://gateway/ws", Some([7; 32])), true),
        (elsewhere("ws://gateway", Some([7; 32])), false),
        (elsewhere("ws://[::1]:18789/ws", None), true),
        (elsewhere("ws://localhost:18789", None), true),
        (elsewhere("ws://127.0.0.9:1", None), true),
    ];
    for (target, shown) in cases {
        let url = target.url.clone();
        let mut talk = Talk::new(target);
        let device = DeviceToken {
            url: url.clone(),
            role: "operator",
            token: "kept".to_owned(),
            scopes: Vec::new(),
        };
        talk.identity.store(&device).unwrap();
        connect(&mut talk);
        let refusal = failure("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH");
        let said = talk.hears(&refused("1", &refusal));
        let retried = said.hold().unwrap().1 == HoldReason::Retry;
        assert_eq!(retried, shown, "{url}");
    }
}

#[test]
fn every_refusal_says_how_long_to_stay_away() {
    let later = json!({"code": "UNAVAILABLE", "message": "starting", "retryAfterMs": 700,
        "details": {"reason": "startup-sidecars"}});
    let cases = [
        (later, 700, HoldReason::Busy),
        (json!({"code": "UNAVAILABLE"}), 1_000, HoldReason::Busy),
        (
            failure("INVALID_REQUEST", "AUTH_RATE_LIMITED"),
            300_000,
            HoldReason::RateLimited,
        ),
        (
            failure("INVALID_REQUEST", "AUTH_TOKEN_MISSING"),
            60_000,
            HoldReason::Credentials,
        ),
        (
            failure("INVALID_REQUEST", "DEVICE_AUTH_NONCE_MISMATCH"),
            60_000,
            HoldReason::Credentials,
        ),
        (
            failure("INVALID_REQUEST", "PROTOCOL_MISMATCH"),
            60_000,
            HoldReason::Protocol,
        ),
        (
            failure("NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED"),
            15_000,
            HoldReason::Pairing,
        ),
        (
            json!({"code": "INVALID_REQUEST"}),
            60_000,
            HoldReason::Protocol,
        ),
        (json!({}), 60_000, HoldReason::Protocol),
        (json!("strange"), 60_000, HoldReason::Protocol),
    ];
    for (error, wait, reason) in cases {
        let mut talk = Talk::new(target());
        connect(&mut talk);
        let said = talk.hears(&refused("1", &error));
        let held = said.hold().unwrap();
        assert_eq!((held.0.as_millis(), held.1), (wait, reason), "{error}");
        assert_eq!(said.close(), Some(1000), "{error}");
        let after = talk.input(Input::Closed {
            code: Some(1008),
            reason: "the same".to_owned(),
        });
        assert!(after.hold().is_none(), "held twice: {error}");
    }
}

#[test]
fn gateway_that_is_too_busy_is_left_alone_for_a_while() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    let said = talk.input(Input::Closed {
        code: Some(1013),
        reason: "try again".to_owned(),
    });
    assert_eq!(said.hold().unwrap().1, HoldReason::Busy);
}

#[test]
fn handshake_that_hangs_is_given_up() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    assert_eq!(talk.peer.deadline_ms(), 11_000);
    assert!(talk.waits(9_999).is_silent());
    assert_eq!(talk.waits(1).close(), Some(4000));
    talk.lost();

    connect(&mut talk);
    assert_eq!(talk.waits(10_000).close(), Some(4000));
}

#[test]
fn silence_of_two_ticks_ends_the_connection() {
    let mut talk = Talk::open("boot");
    talk.waits(59_999);
    talk.hears(&json!({"type": "event", "event": "tick", "payload": {}, "seq": 1}));
    assert!(talk.waits(59_999).is_silent());
    assert_eq!(talk.peer.deadline_ms(), talk.now_ms + 1);
    assert_eq!(talk.waits(1).close(), Some(4000));
    assert_eq!(talk.peer.deadline_ms(), u64::MAX);
}

#[test]
fn second_challenge_is_ignored() {
    let mut talk = Talk::open("boot");
    assert!(talk.hears(&challenge()).is_silent());
}

#[test]
fn greeting_of_an_older_gateway_needs_no_optional_field() {
    let mut talk = Talk::new(target());
    connect(&mut talk);
    let bare = json!({"type": "hello-ok", "protocol": 3, "canvasHostUrl": "http://x"});
    let said = talk.hears(&ok("1", &bare));
    assert!(said.0.iter().any(|it| matches!(it, Output::Ready)));
}
