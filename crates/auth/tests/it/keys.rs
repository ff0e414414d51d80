//! Which key may be used how.

use auth::{KeySets, Verifier};
use jsonwebtoken::Algorithm;
use protocol::claims::TokenError;
use serde_json::{Value, json};

use crate::support::{
    NOW, SECRET, TestKey, es512, hmac, hmac_verifier, raw, settings_of, verifier,
};

#[tokio::test]
async fn every_algorithm_is_accepted_with_its_key() {
    let claims = json!({"sub": "42", "exp": NOW + 60});
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = hmac(algorithm, SECRET.as_bytes(), &claims);
        assert_eq!(
            hmac_verifier().connection(&token, NOW).await.unwrap().user,
            "42"
        );
        let pinned =
            verifier(json!({"keys": [{"algorithm": format!("{algorithm:?}"), "secret": SECRET}]}));
        assert_eq!(pinned.connection(&token, NOW).await.unwrap().user, "42");
    }
    let keys = [
        (TestKey::rsa(Algorithm::RS256), "rsa_public_key"),
        (TestKey::rsa(Algorithm::RS384), "rsa_public_key"),
        (TestKey::rsa(Algorithm::RS512), "rsa_public_key"),
        (TestKey::es256(), "ecdsa_public_key"),
        (TestKey::es384(), "ecdsa_public_key"),
        (TestKey::ed25519(), "ed25519_public_key"),
    ];
    for (key, shorthand) in keys {
        let token = key.sign(None, &claims);
        let short = verifier(json!({shorthand: key.public_pem}));
        assert_eq!(
            short.connection(&token, NOW).await.unwrap().user,
            "42",
            "{shorthand}"
        );
        let name = format!("{:?}", key.algorithm);
        let pinned = verifier(json!({"keys": [{"algorithm": name, "public_key": key.public_pem}]}));
        assert_eq!(
            pinned.connection(&token, NOW).await.unwrap().user,
            "42",
            "{name}"
        );
    }
    let (public, token) = es512(&claims);
    let short = verifier(json!({"ecdsa_public_key": public}));
    assert_eq!(short.connection(&token, NOW).await.unwrap().user, "42");
}

#[tokio::test]
async fn a_signature_by_another_key_is_refused() {
    let claims = json!({"sub": "42"});
    let known = TestKey::es256();
    let checks = verifier(json!({"ecdsa_public_key": known.public_pem, "hmac_secret_key": SECRET}));
    refused(&checks, &TestKey::es256().sign(None, &claims)).await;
    refused(
        &checks,
        &hmac(
            Algorithm::HS256,
            b"another secret, also long enough",
            &claims,
        ),
    )
    .await;
    let token = known.sign(None, &claims);
    for (index, _) in token.char_indices().filter(|(_, letter)| *letter != '.') {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'Q' } else { b'A' };
        refused(&checks, &String::from_utf8(bytes).unwrap()).await;
    }
}

#[tokio::test]
async fn no_algorithm_is_no_token() {
    let claims = json!({"sub": "42"});
    for name in ["none", "None", "NONE", ""] {
        refused(&hmac_verifier(), &raw(&json!({"alg": name}), &claims, b"")).await;
    }
    refused(&hmac_verifier(), &raw(&json!({}), &claims, b"")).await;
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let key = TestKey::rsa(Algorithm::RS256);
    let checks = verifier(json!({
        "rsa_public_key": key.public_pem,
        "keys": [{"algorithm": "RS256", "id": "k", "public_key": key.public_pem}],
    }));
    let forged = hmac(
        Algorithm::HS256,
        key.public_pem.as_bytes(),
        &json!({"sub": "42"}),
    );
    refused(&checks, &forged).await;
}

#[tokio::test]
async fn a_pinned_key_serves_its_algorithm_only() {
    let checks = verifier(json!({"keys": [{"algorithm": "HS512", "secret": SECRET}]}));
    let claims = json!({"sub": "42"});
    assert!(
        checks
            .connection(&hmac(Algorithm::HS512, SECRET.as_bytes(), &claims), NOW)
            .await
            .is_ok()
    );
    refused(&checks, &hmac(Algorithm::HS256, SECRET.as_bytes(), &claims)).await;
}

#[tokio::test]
async fn keys_inside_of_tokens_are_ignored() {
    let own = TestKey::ed25519();
    let foreign = TestKey::ed25519();
    let checks = verifier(json!({"ed25519_public_key": own.public_pem}));
    let genuine = own.sign(None, &json!({"sub": "42"}));
    assert!(checks.connection(&genuine, NOW).await.is_ok());
    let signed = foreign.sign(None, &json!({"sub": "42"}));
    let (_, rest) = signed.split_once('.').unwrap();
    let header = json!({"alg": "EdDSA", "jwk": foreign.jwk("k"), "jku": "http://127.0.0.1/", "x5u": "x", "x5c": []});
    let (header, _) = raw(&header, &json!({}), b"")
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    refused(&checks, &format!("{header}.{rest}")).await;
}

#[tokio::test]
async fn a_key_id_chooses_among_keys() {
    let (first, second) = (TestKey::es256(), TestKey::es256());
    let checks = verifier(json!({"keys": [
        {"id": "a", "algorithm": "ES256", "public_key": first.public_pem},
        {"id": "b", "algorithm": "ES256", "public_key": second.public_pem},
    ]}));
    let claims = json!({"sub": "42"});
    assert!(
        checks
            .connection(&second.sign(Some("b"), &claims), NOW)
            .await
            .is_ok()
    );
    assert!(
        checks
            .connection(&second.sign(None, &claims), NOW)
            .await
            .is_ok()
    );
    refused(&checks, &second.sign(Some("a"), &claims)).await;
    refused(&checks, &second.sign(Some("c"), &claims)).await;
}

#[tokio::test]
async fn the_previous_secret_is_accepted_until_its_time() {
    let checks = verifier(json!({
        "hmac_secret_key": SECRET,
        "hmac_previous_secret_key": "the secret of the year before, 32 b.",
        "hmac_previous_secret_key_valid_until": NOW + 10,
    }));
    let old = hmac(
        Algorithm::HS256,
        b"the secret of the year before, 32 b.",
        &json!({"sub": "42"}),
    );
    assert!(checks.connection(&old, NOW + 9).await.is_ok());
    assert!(checks.connection(&old, NOW + 10).await.is_err());
}

#[tokio::test]
async fn what_is_not_a_token_is_refused() {
    let long = hmac(
        Algorithm::HS256,
        SECRET.as_bytes(),
        &json!({"info": "x".repeat(9_000)}),
    );
    let crit = raw(&json!({"alg": "HS256", "crit": ["b64"]}), &json!({}), b"");
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "\u{e9}.\u{e9}.\u{e9}",
        "e30.e30.e30",
        &long,
        &crit,
    ] {
        refused(&hmac_verifier(), text).await;
    }
    refused(
        &verifier(json!({})),
        &hmac(Algorithm::HS256, b"", &json!({})),
    )
    .await;
}

#[test]
fn unusable_keys_are_refused_at_the_start() {
    let ec = TestKey::es256();
    let cases: [(Value, &str); 10] = [
        (json!({"hmac_secret_key": "short"}), "hmac_secret_key"),
        (
            json!({"hmac_secret_key": "env:NOT_RESOLVED"}),
            "hmac_secret_key",
        ),
        (json!({"rsa_public_key": ec.public_pem}), "rsa_public_key"),
        (json!({"ecdsa_public_key": "not a key"}), "ecdsa_public_key"),
        (json!({"keys": [{"algorithm": "HS256"}]}), "keys[0].secret"),
        (
            json!({"keys": [{"algorithm": "ES256", "secret": SECRET}]}),
            "keys[0].public_key",
        ),
        (
            json!({"keys": [{"algorithm": "ES384", "public_key": ec.public_pem}]}),
            "keys[0].public_key",
        ),
        (
            json!({"keys": [{"algorithm": "HS256", "secret": SECRET, "public_key": ec.public_pem}]}),
            "keys[0].public_key",
        ),
        (
            json!({"jwks_public_endpoint": "ftp://example.org/keys"}),
            "jwks_public_endpoint",
        ),
        (json!({"leeway": "61s"}), "leeway"),
    ];
    for (settings, key) in cases {
        let text = settings.to_string();
        let error = Verifier::new(&settings_of(settings), None, &KeySets::new()).err();
        assert_eq!(error.map(|error| error.key).as_deref(), Some(key), "{text}");
    }
}

#[tokio::test]
async fn what_is_minted_is_accepted() {
    let mint = auth::mint::Mint {
        sub: "42".to_owned(),
        exp: Some(NOW + 60),
        iat: Some(NOW),
        jti: Some("id".to_owned()),
        info: Some(json!({"name": "Alice"})),
        channels: vec!["news".to_owned()],
        ..auth::mint::Mint::default()
    };
    let token = auth::mint::hs256(SECRET.as_bytes(), &mint);
    let claims = hmac_verifier().connection(&token, NOW).await.unwrap();
    assert_eq!(claims.user, "42");
    assert_eq!(claims.info, r#"{"name":"Alice"}"#);
    assert_eq!(
        (claims.issued_at, claims.token_id.as_deref()),
        (Some(NOW), Some("id"))
    );
    assert_eq!(claims.subs[0].channel, "news");
    let mint = auth::mint::Mint {
        channel: Some("news".to_owned()),
        ..mint
    };
    let token = auth::mint::hs256(SECRET.as_bytes(), &mint);
    assert_eq!(
        hmac_verifier()
            .subscription(&token, NOW)
            .await
            .unwrap()
            .channel,
        "news"
    );
}

#[track_caller]
fn assert_invalid(outcome: Result<impl std::fmt::Debug, TokenError>, token: &str) {
    assert!(
        matches!(outcome, Err(TokenError::Invalid(_))),
        "{outcome:?} for {token}"
    );
}

async fn refused(checks: &Verifier, token: &str) {
    assert_invalid(checks.connection(token, NOW).await, token);
    assert_invalid(checks.subscription(token, NOW).await, token);
}
