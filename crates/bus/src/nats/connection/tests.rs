use super::*;

#[test]
fn delays_grow_to_their_limit_and_vary() {
    for attempt in 0..80 {
        let delay = backoff(attempt);
        assert!(
            delay >= BACKOFF_MIN / 2 && delay <= BACKOFF_MAX,
            "{delay:?}"
        );
    }
    assert!(backoff(50) >= BACKOFF_MAX / 2);
}

#[test]
fn secrets_are_not_printed() {
    let printed = [
        NatsCredentials::Password {
            user: "ada".to_owned(),
            password: "canary".to_owned(),
        },
        NatsCredentials::Token("canary".to_owned()),
        NatsCredentials::Seed("canary".to_owned()),
    ]
    .map(|credentials| format!("{credentials:?}"));
    assert!(!printed.concat().contains("canary"), "{printed:?}");
}

#[test]
fn addresses_are_checked() {
    let refused = |urls: &[&str]| {
        let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
        addresses(&urls).unwrap_err().to_string()
    };
    assert!(refused(&[]).contains("no address"));
    assert!(refused(&["nats://u:p@host:4222"]).contains("credentials"));
    assert!(refused(&["nats://a:4222", "http://:x"]).contains("http://:x"));
}
