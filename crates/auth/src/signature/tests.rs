use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Content, SignatureError, SignatureKey, SignatureMode, SignatureSettings, Signatures};
use super::{Signed, sign};
use crate::settings::Secret;

const NOW: u64 = 1_800_000_000_000;
const WINDOW: u64 = 300_000;
const SECRET: &str = "a secret of more than thirty-two bytes";

fn settings() -> SignatureSettings {
    let key = |id: &str, secret: &str| SignatureKey {
        id: id.to_owned(),
        secret: Secret::new(secret),
    };
    SignatureSettings {
        mode: SignatureMode::Required,
        keys: vec![
            key("one", SECRET),
            key("two", "another secret of that length or so"),
        ],
        nonces_max: 100,
        ..SignatureSettings::default()
    }
}

fn signatures() -> Signatures {
    Signatures::new(&settings()).unwrap()
}

fn content(nonce: &str, timestamp_ms: u64) -> Content<'_> {
    Content {
        timestamp_ms,
        nonce,
        client_id: "client-123",
        message_id: "m1",
        payload: b"Hello",
    }
}

/// Signs with the first key and has it checked.
fn checked(
    signatures: &Signatures,
    now_ms: u64,
    content: Content<'_>,
) -> Result<(), SignatureError> {
    let signature = sign(SECRET.as_bytes(), &content);
    let signed = Signed {
        key_id: "one",
        signature: &signature,
        content,
    };
    signatures.verify(now_ms, &signed)
}

#[test]
fn text_and_signature_are_as_documented() {
    let content = content("n-1", 1_709_078_400_123);
    assert_eq!(
        content.text(),
        "v1\n1709078400123\nn-1\nclient-123\nm1\n\
         185f8db32271fe25f561a6fc938b2e264306ec304eda518007d1764826381969"
    );
    assert_eq!(sign(SECRET.as_bytes(), &content), GOLDEN);
}

#[test]
fn signed_message_passes_once() {
    let signatures = signatures();
    assert_eq!(checked(&signatures, NOW, content("a", NOW)), Ok(()));
    let again = checked(&signatures, NOW + 1, content("a", NOW));
    assert_eq!(again, Err(SignatureError::Replayed));
    let other = checked(&signatures, NOW, content("a", NOW + 5));
    assert_eq!(other, Err(SignatureError::Replayed));
    assert_eq!(checked(&signatures, NOW, content("b", NOW)), Ok(()));
}

#[test]
fn every_part_is_covered() {
    let signatures = signatures();
    let original = content("a", NOW);
    let signature = sign(SECRET.as_bytes(), &original);
    let changed = [
        Content {
            timestamp_ms: NOW + 1,
            ..original
        },
        Content {
            nonce: "b",
            ..original
        },
        Content {
            client_id: "client-124",
            ..original
        },
        Content {
            message_id: "m2",
            ..original
        },
        Content {
            payload: b"hello",
            ..original
        },
    ];
    for content in changed {
        let signed = Signed {
            key_id: "one",
            signature: &signature,
            content,
        };
        let refused = signatures.verify(NOW, &signed);
        assert_eq!(refused, Err(SignatureError::Mismatch), "{content:?}");
    }
    assert_eq!(signatures.nonces(), 0, "a wrong signature uses up no nonce");
    let upper = signature.to_uppercase();
    let signed = Signed {
        key_id: "one",
        signature: &upper,
        content: original,
    };
    assert_eq!(signatures.verify(NOW, &signed), Ok(()));
}

#[test]
fn another_key_does_not_match() {
    let signatures = signatures();
    let content = content("a", NOW);
    let signature = sign(SECRET.as_bytes(), &content);
    for (key_id, expected) in [
        ("two", SignatureError::Mismatch),
        ("three", SignatureError::UnknownKey),
        ("", SignatureError::UnknownKey),
    ] {
        let signed = Signed {
            key_id,
            signature: &signature,
            content,
        };
        assert_eq!(signatures.verify(NOW, &signed), Err(expected));
    }
}

#[test]
fn line_feeds_and_strange_digits_are_refused() {
    let signatures = signatures();
    let fine = content("a", NOW);
    let long = "x".repeat(129);
    let wrong = [
        Content { nonce: "", ..fine },
        Content {
            nonce: &long,
            ..fine
        },
        Content {
            nonce: "a\nb",
            ..fine
        },
        Content {
            client_id: "a\nb",
            ..fine
        },
        Content {
            message_id: "\r",
            ..fine
        },
    ];
    for content in wrong {
        let refused = checked(&signatures, NOW, content);
        assert!(matches!(refused, Err(SignatureError::Malformed(_))));
    }
    let signature = sign(SECRET.as_bytes(), &fine);
    for signature in ["", "00", &signature[1..], &"é".repeat(32), &"-".repeat(64)] {
        let signed = Signed {
            key_id: "one",
            signature,
            content: fine,
        };
        let refused = signatures.verify(NOW, &signed);
        assert_eq!(refused, Err(SignatureError::Malformed("digits")));
    }
}

#[test]
fn window_is_closed_on_both_sides() {
    let signatures = signatures();
    for (nonce, at) in [("a", NOW - WINDOW), ("b", NOW + WINDOW)] {
        assert_eq!(checked(&signatures, NOW, content(nonce, at)), Ok(()));
    }
    for at in [NOW - WINDOW - 1, NOW + WINDOW + 1, 0, u64::MAX] {
        let refused = checked(&signatures, NOW, content("c", at));
        assert!(matches!(refused, Err(SignatureError::Outside { .. })));
    }
    assert_eq!(signatures.nonces(), 2);
}

#[test]
fn a_nonce_is_kept_as_long_as_its_message_would_pass() {
    let signatures = signatures();
    let ahead = content("a", NOW + WINDOW);
    assert_eq!(checked(&signatures, NOW, ahead), Ok(()));
    let last = NOW + 2 * WINDOW;
    let replayed = checked(&signatures, last, ahead);
    assert_eq!(replayed, Err(SignatureError::Replayed));
    assert_eq!(checked(&signatures, last + 1, content("b", last)), Ok(()));
    assert_eq!(signatures.nonces(), 1, "the first is forgotten");
    let late = checked(&signatures, last + 1, ahead);
    assert!(matches!(late, Err(SignatureError::Outside { .. })));
}

#[test]
fn a_clock_that_steps_back_brings_no_nonce_back() {
    let signatures = signatures();
    assert_eq!(checked(&signatures, NOW, content("a", NOW)), Ok(()));
    let hour = 3_600_000;
    let later = content("b", NOW + hour);
    assert_eq!(checked(&signatures, NOW + hour, later), Ok(()));
    let again = checked(&signatures, NOW + 1, content("a", NOW));
    assert_eq!(again, Err(SignatureError::Forgotten));
    assert_eq!(checked(&signatures, NOW + 1, content("a", NOW + 1)), Ok(()));
    let replayed = checked(&signatures, NOW + hour, later);
    assert_eq!(replayed, Err(SignatureError::Replayed));
}

#[test]
fn full_store_refuses_and_forgets_nothing() {
    let signatures = signatures();
    let nonces: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for nonce in &nonces {
        assert_eq!(checked(&signatures, NOW, content(nonce, NOW)), Ok(()));
    }
    let refused = checked(&signatures, NOW + WINDOW, content("x", NOW + WINDOW));
    assert_eq!(refused, Err(SignatureError::Busy));
    for nonce in &nonces {
        let replayed = checked(&signatures, NOW + WINDOW, content(nonce, NOW));
        assert_eq!(replayed, Err(SignatureError::Replayed));
    }
    let later = NOW + WINDOW + 1;
    assert_eq!(checked(&signatures, later, content("x", later)), Ok(()));
    assert_eq!(signatures.nonces(), 1);
}

#[test]
fn of_many_at_once_one_passes() {
    let signatures = Arc::new(signatures());
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for nonce in 0..50_u8 {
                    let nonce = nonce.to_string();
                    let one = checked(&signatures, NOW, content(&nonce, NOW));
                    passed.fetch_add(usize::from(one.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 50);
}

#[test]
fn other_settings_keep_the_nonces() {
    let before = signatures();
    assert_eq!(checked(&before, NOW, content("a", NOW)), Ok(()));
    let longer = SignatureSettings {
        window: Duration::from_secs(3600),
        ..settings()
    };
    let after = before.renewed(&longer).unwrap();
    let replayed = checked(&after, NOW, content("a", NOW));
    assert_eq!(replayed, Err(SignatureError::Replayed));
    // Kept by the former window, and forgotten, but not to be used again.
    let late = checked(&after, NOW + WINDOW + 1, content("b", NOW + WINDOW));
    assert_eq!(late, Ok(()));
    let forgotten = checked(&after, NOW + WINDOW + 1, content("a", NOW));
    assert_eq!(forgotten, Err(SignatureError::Forgotten));
}

#[test]
fn settings_are_checked() {
    let refused = |change: &dyn Fn(&mut SignatureSettings)| {
        let mut settings = settings();
        change(&mut settings);
        Signatures::new(&settings).unwrap_err().key
    };
    assert_eq!(refused(&|all| all.keys.clear()), "keys");
    assert_eq!(refused(&|all| all.window = Duration::ZERO), "window");
    assert_eq!(
        refused(&|all| all.window = Duration::from_secs(3601)),
        "window"
    );
    assert_eq!(refused(&|all| all.nonces_max = 0), "nonces_max");
    assert_eq!(refused(&|all| all.keys[1].id = "one".into()), "keys[1].id");
    assert_eq!(refused(&|all| all.keys[0].id.clear()), "keys[0].id");
    let short = refused(&|all| all.keys[1].secret = Secret::new("short"));
    assert_eq!(short, "keys[1].secret");
    let reference = refused(&|all| all.keys[0].secret = Secret::new("env:KEY"));
    assert_eq!(reference, "keys[0].secret");
    assert!(Signatures::new(&SignatureSettings::default()).is_ok());
}

#[test]
fn settings_are_read_as_documented() {
    let text = r#"{"mode":"optional","window":"90s","nonces_max":7,
        "keys":[{"id":"k","secret":"env:KEY"}]}"#;
    let mut settings: SignatureSettings = serde_json::from_str(text).unwrap();
    settings
        .resolve(&|_| Ok("sixteen bytes are".to_owned()))
        .unwrap();
    assert_eq!(settings.mode, SignatureMode::Optional);
    assert_eq!(settings.window, Duration::from_secs(90));
    assert_eq!(settings.short_secrets(), ["keys[0].secret"]);
    assert!(Signatures::new(&settings).is_ok());
    assert!(!format!("{settings:?}").contains("sixteen"));
    let wrong = serde_json::from_str::<SignatureSettings>(r#"{"mode":"on"}"#);
    assert!(wrong.is_err());
}

/// Made with another implementation of HMAC.
const GOLDEN: &str = "614352e403896f82bbac88aa81e5d0b03d81137763b24f0bdffc199fe64973a1";
