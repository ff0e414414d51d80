//! Tokens, whole and by their claims; signatures of messages.

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use ::auth::signature::{
    Content, SignatureError, SignatureKey, SignatureMode, SignatureSettings, Signatures, Signed,
    sign,
};
use ::auth::{KeySets, Secret, TokenSettings, Verifier, mint};

/// As a token, no bytes are accepted, for nobody knows the secret. As claims that were signed,
/// any bytes are read or refused, the same way twice, and no channel is granted twice.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let refused = at_once(VERIFIER.connection(text, NOW)).is_err();
    assert!(refused && at_once(VERIFIER.subscription(text, NOW)).is_err());

    let signed = mint::hs256_text(SECRET.as_bytes(), data);
    let connection = at_once(VERIFIER.connection(&signed, NOW));
    assert_eq!(connection, at_once(VERIFIER.connection(&signed, NOW)));
    let subscription = at_once(VERIFIER.subscription(&signed, NOW));
    assert_eq!(subscription, at_once(VERIFIER.subscription(&signed, NOW)));
    if let Ok(claims) = connection {
        let mut channels: Vec<_> = claims.subs.iter().map(|sub| &sub.channel).collect();
        channels.sort_unstable();
        assert!(
            channels.windows(2).all(|two| two[0] != two[1]),
            "{channels:?}"
        );
    }

    let key = TokenSettings {
        ecdsa_public_key: Secret::new(text),
        ..TokenSettings::default()
    };
    // Only that it ends matters.
    let _ = Verifier::new(&key, None, &KeySets::new());
}

/// A message with its signature: a key's id, the digits, a time, a nonce, a client, an id and a
/// payload, each in a line. Nobody knows the secret; once it is signed properly, it passes once
/// or never, and its text can't be that of another message.
pub fn message_signatures(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(7, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (key_id, signature, timestamp) = (part(), part(), part());
    let content = Content {
        timestamp_ms: timestamp.parse().unwrap_or(NOW * 1000),
        nonce: part(),
        client_id: part(),
        message_id: part(),
        payload: part().as_bytes(),
    };
    let signatures = Signatures::new(&SIGNATURES).expect("the secret is long enough");
    let now_ms = NOW * 1000;
    let guessed = Signed {
        key_id,
        signature,
        content,
    };
    assert!(signatures.verify(now_ms, &guessed).is_err());
    assert_eq!(signatures.nonces(), 0);

    let signature = sign(SECRET.as_bytes(), &content);
    let signed = Signed {
        key_id: "key",
        signature: &signature,
        content,
    };
    match signatures.verify(now_ms, &signed) {
        Ok(()) => {
            assert_eq!(content.text().lines().count(), 6);
            let again = signatures.verify(now_ms, &signed);
            assert_eq!(again, Err(SignatureError::Replayed));
        }
        Err(SignatureError::Malformed(_) | SignatureError::Outside { .. }) => {
            assert_eq!(signatures.nonces(), 0);
        }
        Err(error) => panic!("{error}"),
    }
}

/// Without key sets, there is nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a check without key sets has waited"),
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let settings = TokenSettings {
        hmac_secret_key: Secret::new(SECRET),
        ..TokenSettings::default()
    };
    Verifier::new(&settings, None, &KeySets::new()).expect("the secret is long enough")
});

static SIGNATURES: LazyLock<SignatureSettings> = LazyLock::new(|| SignatureSettings {
    mode: SignatureMode::Required,
    keys: vec![SignatureKey {
        id: "key".to_owned(),
        secret: Secret::new(SECRET),
    }],
    ..SignatureSettings::default()
});

const SECRET: &str = "a secret of more than thirty-two bytes";
/// Unix seconds.
const NOW: u64 = 1_800_000_000;
