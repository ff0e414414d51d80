//! Key sets that change, disappear and come back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use auth::{KeySets, Verifier};
use jsonwebtoken::Algorithm;
use protocol::claims::TokenError;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{NOW, SECRET, TestKey, hmac, settings_of};

/// A server of one document.
struct Origin {
    url: String,
    requests: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new(String::new()));
        let (counted, given) = (Arc::clone(&requests), Arc::clone(&answer));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let text = given.lock().unwrap().clone();
                socket.write_all(text.as_bytes()).await.ok();
            }
        });
        Self {
            url,
            requests,
            answer,
        }
    }

    fn serve(&self, keys: Vec<Value>) {
        let body = json!({"keys": keys}).to_string();
        self.answer_with(&format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    fn fail(&self) {
        self.answer_with("HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    }

    fn answer_with(&self, text: &str) {
        text.clone_into(&mut self.answer.lock().unwrap());
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn verifier(&self, sets: &KeySets) -> Verifier {
        Verifier::new(
            &settings_of(json!({"jwks_public_endpoint": self.url})),
            None,
            sets,
        )
        .unwrap()
    }
}

fn claims() -> Value {
    json!({"sub": "42"})
}

#[tokio::test]
async fn keys_of_every_kind_come_from_a_set() {
    let origin = Origin::start().await;
    let keys = [
        TestKey::rsa(Algorithm::RS256),
        TestKey::es256(),
        TestKey::es384(),
        TestKey::ed25519(),
    ];
    let ids = ["a", "b", "c", "d"];
    origin.serve(keys.iter().zip(ids).map(|(key, id)| key.jwk(id)).collect());
    let checks = origin.verifier(&KeySets::new());
    for (key, id) in keys.iter().zip(ids) {
        assert!(
            checks
                .connection(&key.sign(Some(id), &claims()), NOW)
                .await
                .is_ok(),
            "{id}"
        );
        let wrong = checks
            .connection(&key.sign(Some("a"), &claims()), NOW)
            .await;
        assert_eq!(wrong.is_ok(), id == "a");
        let without = checks.connection(&key.sign(None, &claims()), NOW).await;
        assert!(matches!(without, Err(TokenError::Invalid(_))));
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn an_algorithm_named_in_the_set_pins_the_key() {
    let origin = Origin::start().await;
    let key = TestKey::rsa(Algorithm::RS256);
    let mut jwk = key.jwk("a");
    jwk["alg"] = json!("RS512");
    origin.serve(vec![jwk]);
    let checks = origin.verifier(&KeySets::new());
    assert!(
        checks
            .connection(&key.sign(Some("a"), &claims()), NOW)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_set_brings_no_shared_secret() {
    let origin = Origin::start().await;
    let key = TestKey::rsa(Algorithm::RS256);
    let oct = json!({"kty": "oct", "kid": "a", "k": "YSBzZWNyZXQgb2YgbW9yZSB0aGFuIHRoaXJ0eS10d28gYnl0ZXM"});
    origin.serve(vec![oct, key.jwk("b")]);
    let checks = origin.verifier(&KeySets::new());
    let forged = hmac(Algorithm::HS256, SECRET.as_bytes(), &claims());
    assert!(checks.connection(&forged, NOW).await.is_err());
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn keys_rotate_and_removed_keys_stop_working() {
    let origin = Origin::start().await;
    let (old, new) = (TestKey::es256(), TestKey::es256());
    origin.serve(vec![old.jwk("old")]);
    let checks = origin.verifier(&KeySets::new());
    let (by_old, by_new) = (
        old.sign(Some("old"), &claims()),
        new.sign(Some("new"), &claims()),
    );
    assert!(checks.connection(&by_old, NOW).await.is_ok());
    origin.serve(vec![new.jwk("new")]);
    // Unknown keys are asked for, but not at once again.
    assert!(checks.connection(&by_new, NOW + 9).await.is_err());
    assert_eq!(origin.requests(), 1);
    assert!(checks.connection(&by_new, NOW + 10).await.is_ok());
    assert!(checks.connection(&by_old, NOW + 11).await.is_err());
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn sets_are_read_again_after_five_minutes() {
    let origin = Origin::start().await;
    let (old, new) = (TestKey::es256(), TestKey::es256());
    origin.serve(vec![old.jwk("old")]);
    let checks = origin.verifier(&KeySets::new());
    let token = old.sign(Some("old"), &claims());
    assert!(checks.connection(&token, NOW).await.is_ok());
    origin.serve(vec![new.jwk("new")]);
    assert!(checks.connection(&token, NOW + 299).await.is_ok());
    assert!(checks.connection(&token, NOW + 300).await.is_err());
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_failing_server_is_bridged_for_an_hour() {
    let origin = Origin::start().await;
    let key = TestKey::es256();
    origin.serve(vec![key.jwk("a")]);
    let sets = KeySets::new();
    let checks = origin.verifier(&sets);
    let token = key.sign(Some("a"), &claims());
    assert!(checks.connection(&token, NOW).await.is_ok());
    origin.fail();
    assert!(checks.connection(&token, NOW + 3_599).await.is_ok());
    assert_eq!((sets.figures().failed, sets.figures().served_stale), (1, 1));
    assert_eq!(origin.requests(), 3, "two attempts");
    let outcome = checks.connection(&token, NOW + 3_600).await;
    assert!(
        matches!(outcome, Err(TokenError::Unavailable(_))),
        "{outcome:?}"
    );
    origin.serve(vec![key.jwk("a")]);
    assert!(checks.connection(&token, NOW + 3_700).await.is_ok());
}

#[tokio::test]
async fn many_tokens_ask_once() {
    let origin = Origin::start().await;
    let key = TestKey::es256();
    origin.serve(vec![key.jwk("a")]);
    let checks = Arc::new(origin.verifier(&KeySets::new()));
    let token = key.sign(Some("a"), &claims());
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (checks, token) = (Arc::clone(&checks), token.clone());
            tokio::spawn(async move { checks.connection(&token, NOW).await.is_ok() })
        })
        .collect();
    for one in asking {
        assert!(one.await.unwrap());
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_unchanged_url() {
    let origin = Origin::start().await;
    let key = TestKey::es256();
    origin.serve(vec![key.jwk("a")]);
    let sets = KeySets::new();
    let before = origin.verifier(&sets);
    let token = key.sign(Some("a"), &claims());
    assert!(before.connection(&token, NOW).await.is_ok());
    let after = origin.verifier(&sets);
    drop(before);
    assert!(after.connection(&token, NOW).await.is_ok());
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn answers_that_are_not_key_sets_are_refused() {
    let origin = Origin::start().await;
    let token = TestKey::es256().sign(Some("a"), &claims());
    let large = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        " ".repeat(300_000)
    );
    let elsewhere = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        origin.url
    );
    for answer in [
        large.as_str(),
        &elsewhere,
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        "",
        "x",
    ] {
        origin.answer_with(answer);
        let outcome = origin
            .verifier(&KeySets::new())
            .connection(&token, NOW)
            .await;
        assert!(
            matches!(outcome, Err(TokenError::Unavailable(_))),
            "{outcome:?}"
        );
    }
    // All are asked for twice, but for the one that was well answered, with no keys.
    assert_eq!(origin.requests(), 2 * 4 + 1);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let write = |keys: &[Value]| std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    let (old, new) = (TestKey::es256(), TestKey::ed25519());
    write(&[old.jwk("old")]);
    let settings = settings_of(json!({"jwks_file": path}));
    let checks = Verifier::new(&settings, None, &KeySets::new()).unwrap();
    assert!(
        checks
            .connection(&old.sign(Some("old"), &claims()), NOW)
            .await
            .is_ok()
    );
    write(&[old.jwk("old"), new.jwk("new")]);
    assert!(
        checks
            .connection(&new.sign(Some("new"), &claims()), NOW + 1)
            .await
            .is_ok()
    );
    write(&[new.jwk("new")]);
    assert!(
        checks
            .connection(&old.sign(Some("old"), &claims()), NOW + 2)
            .await
            .is_err()
    );
    std::fs::write(&path, "broken").unwrap();
    assert!(
        checks
            .connection(&new.sign(Some("new"), &claims()), NOW + 3)
            .await
            .is_ok()
    );
}
