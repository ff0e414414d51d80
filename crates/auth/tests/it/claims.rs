//! What claims mean.

use auth::Verifier;
use jsonwebtoken::Algorithm;
use protocol::claims::{ConnectionClaims, Overrides, SubscriptionClaims, TokenError};
use serde_json::{Value, json};

use crate::support::{NOW, SECRET, hmac, hmac_verifier, settings_of, verifier};

async fn connection(checks: &Verifier, claims: Value) -> Result<ConnectionClaims, TokenError> {
    checks
        .connection(&hmac(Algorithm::HS256, SECRET.as_bytes(), &claims), NOW)
        .await
}

async fn subscription(checks: &Verifier, claims: Value) -> Result<SubscriptionClaims, TokenError> {
    checks
        .subscription(&hmac(Algorithm::HS256, SECRET.as_bytes(), &claims), NOW)
        .await
}

#[tokio::test]
async fn time_is_checked_to_the_second() {
    let strict = hmac_verifier();
    let lenient = verifier(json!({"hmac_secret_key": SECRET, "leeway": "5s"}));
    for (claims, strictly, leniently) in [
        (json!({"exp": NOW + 1}), true, true),
        (json!({"exp": NOW}), false, true),
        (json!({"exp": NOW - 4}), false, true),
        (json!({"exp": NOW - 5}), false, false),
        (json!({"exp": NOW as f64 + 1.5}), true, true),
        (json!({"exp": -1}), false, false),
        (json!({"nbf": NOW}), true, true),
        (json!({"nbf": NOW + 5}), false, true),
        (json!({"nbf": NOW + 6}), false, false),
        (json!({}), true, true),
    ] {
        for (checks, expected) in [(&strict, strictly), (&lenient, leniently)] {
            let outcome = connection(checks, claims.clone()).await;
            match expected {
                true => assert!(outcome.is_ok(), "{claims}: {outcome:?}"),
                false => assert_eq!(outcome, Err(TokenError::Expired), "{claims}"),
            }
        }
    }
}

#[tokio::test]
async fn the_connection_expires_with_the_token_unless_it_says_otherwise() {
    for (claims, expires_at) in [
        (json!({"exp": NOW + 1}), Some(NOW + 1)),
        (json!({"exp": NOW + 1, "expire_at": NOW + 9}), Some(NOW + 9)),
        (json!({"exp": NOW + 1, "expire_at": 0}), None),
        (json!({}), None),
    ] {
        let outcome = connection(&hmac_verifier(), claims.clone()).await.unwrap();
        assert_eq!(outcome.expires_at, expires_at, "{claims}");
    }
    let outcome = connection(&hmac_verifier(), json!({"exp": NOW - 1, "expire_at": 0})).await;
    assert_eq!(outcome, Err(TokenError::Expired));
    // What is accepted within the leeway has not expired as a connection.
    let lenient = verifier(json!({"hmac_secret_key": SECRET, "leeway": "5s"}));
    let outcome = connection(&lenient, json!({"exp": NOW - 1})).await.unwrap();
    assert_eq!(outcome.expires_at, Some(NOW + 4));
}

#[tokio::test]
async fn audience_and_issuer_are_checked_if_configured() {
    let checks = verifier(json!({"hmac_secret_key": SECRET, "audience": "chat", "issuer": "idp"}));
    for (claims, accepted) in [
        (json!({"aud": "chat", "iss": "idp"}), true),
        (json!({"aud": ["mail", "chat"], "iss": "idp"}), true),
        (json!({"aud": "cha", "iss": "idp"}), false),
        (json!({"aud": [], "iss": "idp"}), false),
        (json!({"iss": "idp"}), false),
        (json!({"aud": "chat", "iss": "other"}), false),
        (json!({"aud": "chat"}), false),
    ] {
        let outcome = connection(&checks, claims.clone()).await;
        assert_eq!(outcome.is_ok(), accepted, "{claims}: {outcome:?}");
    }
    assert!(
        connection(&hmac_verifier(), json!({"aud": "any", "iss": "any"}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn info_is_json_as_written_or_bytes() {
    let checks = hmac_verifier();
    let info = |claims| async { connection(&hmac_verifier(), claims).await.unwrap().info };
    assert_eq!(
        info(json!({"info": {"a": [1, "b"]}})).await,
        r#"{"a":[1,"b"]}"#
    );
    assert_eq!(info(json!({"info": null})).await, "");
    assert_eq!(
        info(json!({"info": {}, "b64info": "AP8="})).await,
        &[0_u8, 255][..]
    );
    assert!(connection(&checks, json!({"b64info": "*"})).await.is_err());
    // Not even a pretty token brings line feeds, which separate replies.
    let text = "{\"info\": {\n \"a\": \"b\\n\"}}";
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &raw, &key).unwrap();
    assert_eq!(
        checks.connection(&token, NOW).await.unwrap().info,
        r#"{ "a": "b\n"}"#
    );
}

#[tokio::test]
async fn subscriptions_come_in_the_order_of_the_token() {
    let text = r#"{"channels": ["c"], "subs": {
        "b": {"info": {"x": 1}, "data": [2], "override": {"presence": {"value": true}}},
        "a": {"b64info": "AQ==", "b64data": "Ag=="}}}"#;
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &raw, &key).unwrap();
    let subs = hmac_verifier().connection(&token, NOW).await.unwrap().subs;
    assert_eq!(subs.len(), 2);
    assert_eq!(
        (subs[0].channel.as_str(), subs[1].channel.as_str()),
        ("b", "a")
    );
    assert_eq!(
        (&subs[0].info[..], &subs[0].data[..]),
        (&br#"{"x": 1}"#[..], &b"[2]"[..])
    );
    assert_eq!(
        subs[0].overrides,
        Overrides {
            presence: Some(true),
            ..Overrides::default()
        }
    );
    assert_eq!((&subs[1].info[..], &subs[1].data[..]), (&[1][..], &[2][..]));
    let claims = connection(&hmac_verifier(), json!({"channels": ["x", "y", "x"]}))
        .await
        .unwrap();
    let channels: Vec<_> = claims.subs.iter().map(|sub| sub.channel.as_str()).collect();
    assert_eq!(channels, ["x", "y"]);
}

#[tokio::test]
async fn a_subscription_token_does_not_connect() {
    let claims = json!({"sub": "42", "channel": "news"});
    let outcome = connection(&hmac_verifier(), claims.clone()).await;
    assert!(matches!(outcome, Err(TokenError::Invalid(_))));
    assert!(subscription(&hmac_verifier(), claims).await.is_ok());
}

#[tokio::test]
async fn subscription_claims_are_read() {
    let claims = subscription(
        &hmac_verifier(),
        json!({
            "sub": "42", "channel": "$news", "client": "c1", "exp": NOW + 5, "iat": NOW, "jti": "id",
            "info": {"a": 1}, "data": "d", "override": {
                "join_leave": {"value": true}, "force_push_join_leave": {"value": false},
                "force_positioning": {"value": true}, "force_recovery": {"value": true}},
        }),
    )
    .await
    .unwrap();
    assert_eq!(
        claims,
        SubscriptionClaims {
            user: "42".to_owned(),
            channel: "$news".to_owned(),
            client: Some("c1".to_owned()),
            expires_at: Some(NOW + 5),
            issued_at: Some(NOW),
            token_id: Some("id".to_owned()),
            info: r#"{"a":1}"#.into(),
            data: r#""d""#.into(),
            overrides: Overrides {
                presence: None,
                join_leave: Some(true),
                force_push_join_leave: Some(false),
                force_positioning: Some(true),
                force_recovery: Some(true),
            },
        }
    );
    assert_eq!(
        subscription(&hmac_verifier(), json!({"sub": "42"}))
            .await
            .unwrap()
            .channel,
        ""
    );
}

#[tokio::test]
async fn the_user_may_stand_in_another_claim() {
    let checks = verifier(json!({"hmac_secret_key": SECRET, "user_id_claim": "uid"}));
    let claims = connection(&checks, json!({"sub": "ignored", "uid": "7"}))
        .await
        .unwrap();
    assert_eq!(claims.user, "7");
    assert_eq!(
        connection(&checks, json!({"sub": "ignored"}))
            .await
            .unwrap()
            .user,
        ""
    );
    assert!(connection(&checks, json!({"uid": 7})).await.is_err());
    assert!(
        connection(&hmac_verifier(), json!({"sub": 7}))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn ill_typed_claims_are_refused() {
    for claims in [
        json!([]),
        json!("text"),
        json!({"exp": "soon"}),
        json!({"channels": "a"}),
        json!({"subs": []}),
        json!({"subs": {"a": {"override": {"presence": true}}}}),
        json!({"jti": 5}),
    ] {
        let outcome = connection(&hmac_verifier(), claims.clone()).await;
        assert!(
            matches!(outcome, Err(TokenError::Invalid(_))),
            "{claims}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn subscription_tokens_may_have_keys_of_their_own() {
    let own = "another secret of more than 32 bytes";
    let checks = Verifier::new(
        &settings_of(json!({"hmac_secret_key": SECRET})),
        Some(&settings_of(json!({"hmac_secret_key": own}))),
        &auth::KeySets::new(),
    )
    .unwrap();
    let claims = json!({"sub": "42", "channel": "news"});
    assert!(subscription(&checks, claims.clone()).await.is_err());
    let token = hmac(Algorithm::HS256, own.as_bytes(), &claims);
    assert!(checks.subscription(&token, NOW).await.is_ok());
}

#[tokio::test]
async fn subjects_are_patterns_and_nothing_else() {
    let checks = hmac_verifier();
    let found = connection(&checks, json!({"subjects": ["xy.md.tick.a", "xy.ref.>"]})).await;
    let subjects = found.unwrap().subjects.unwrap();
    assert!(subjects.allow("xy.ref.a") && !subjects.allow("xy.md.tick.b"));
    let found = connection(&checks, json!({"subjects": []})).await.unwrap();
    assert!(!found.subjects.unwrap().allow("a"));
    assert_eq!(connection(&checks, json!({})).await.unwrap().subjects, None);
    for malformed in [
        json!(null),
        json!("xy.>"),
        json!([1]),
        json!([""]),
        json!(["xy..a"]),
        json!(["xy.>.a"]),
        json!(["x".repeat(257)]),
        json!(vec!["a"; 65]),
    ] {
        let outcome = connection(&checks, json!({"subjects": malformed})).await;
        assert!(
            matches!(outcome, Err(TokenError::Invalid(_))),
            "{malformed}: {outcome:?}"
        );
    }
}
