//! From the text of a key set to keys. What is not usable is passed over, as
//! RFC 7517, 5 asks; a set without any usable key is an error.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::SET_KEYS_MAX;
use super::fetch::FetchError;
use crate::key::{Key, RSA};
use crate::settings::Algorithm;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys by their ids; several may share one.
pub(super) fn key_set(text: &[u8]) -> Result<HashMap<String, Arc<[Key]>>, FetchError> {
    let set: Set = serde_json::from_slice(text)?;
    let mut by_id: HashMap<String, Vec<Key>> = HashMap::new();
    for value in set.keys.into_iter().take(SET_KEYS_MAX) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
            continue;
        };
        if let Some(key) = usable(&jwk) {
            by_id.entry(jwk.kid).or_default().push(key);
        }
    }
    if by_id.is_empty() {
        return Err(FetchError::NoKeys);
    }
    Ok(by_id
        .into_iter()
        .map(|(id, keys)| (id, keys.into()))
        .collect())
}

fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.r#use.as_deref().is_some_and(|r#use| r#use != "sig") {
        return None;
    }
    if jwk
        .key_ops
        .as_ref()
        .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return None;
    }
    let of_type: &[Algorithm] = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => &RSA,
        ("EC", Some("P-256")) => &[Algorithm::Es256],
        ("EC", Some("P-384")) => &[Algorithm::Es384],
        ("EC", Some("P-521")) => &[Algorithm::Es512],
        ("OKP", Some("Ed25519")) => &[Algorithm::EdDsa],
        _ => return None,
    };
    let algorithms: Vec<_> = of_type
        .iter()
        .copied()
        .filter(|algorithm| {
            jwk.alg
                .as_deref()
                .is_none_or(|pinned| pins(pinned, *algorithm))
        })
        .collect();
    let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
    match jwk.kty.as_str() {
        "RSA" => Key::from_rsa_parts(&part(&jwk.n)?, &part(&jwk.e)?, &algorithms),
        "EC" => {
            // An uncompressed point (SEC 1, 2.3.3); RFC 7518, 6.2.1.2 fixes the lengths.
            let point = [&[4][..], &part(&jwk.x)?, &part(&jwk.y)?].concat();
            Key::from_public(&point, &algorithms)
        }
        _ => Key::from_public(&part(&jwk.x)?, &algorithms),
    }
}

/// `Ed25519` is the newer name of what tokens call EdDSA (RFC 9864).
fn pins(name: &str, algorithm: Algorithm) -> bool {
    name == algorithm.name() || (name == "Ed25519" && algorithm == Algorithm::EdDsa)
}

#[cfg(test)]
mod tests {
    use super::key_set;

    #[test]
    fn unusable_keys_are_passed_over() {
        // The Ed25519 key is that of RFC 8037, A.2.
        let text = br#"{"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "oct", "kid": "secret", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
            {"kty": "EC", "crv": "P-256", "kid": "off", "x": "AAAA", "y": "AAAA"},
            {"kty": "RSA", "kid": "tiny", "n": "AQAB", "e": "AQAB"},
            {"kty": "new", "kid": "b"}, 7
        ]}"#;
        let keys = key_set(text).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_set_without_usable_keys_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys": []}"#,
            r#"{"keys": [{"kty": "oct", "kid": "a"}]}"#,
        ] {
            assert!(key_set(text.as_bytes()).is_err(), "{text}");
        }
    }
}
