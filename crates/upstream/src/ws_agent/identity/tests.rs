use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::*;

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn token(text: &str) -> DeviceToken {
    DeviceToken {
        url: Arc::from("ws://gateway:18789"),
        role: "operator",
        token: text.to_owned(),
        scopes: vec!["operator.write".to_owned()],
    }
}

#[test]
fn key_and_tokens_are_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay").join("identity.json");
    let first = Identity::open(&path).unwrap();
    first.store(&token("one")).unwrap();
    first.store(&token("two")).unwrap();

    let second = Identity::open(&path).unwrap();
    assert_eq!(second.device_id(), first.device_id());
    assert_eq!(second.public_key(), first.public_key());
    let kept = second.device_token("ws://gateway:18789", "operator");
    assert_eq!(kept.as_deref(), Some("two"));
    assert_eq!(second.device_token("ws://other:18789", "operator"), None);
    assert_eq!(second.device_token("ws://gateway:18789", "node"), None);
}

#[test]
fn files_are_readable_by_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    let identity = Identity::open(&path).unwrap();
    identity.store(&token("one")).unwrap();
    for file in ["identity.json", "device-tokens.json"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn damaged_key_file_is_neither_used_nor_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    let whole = {
        Identity::open(&path).unwrap();
        fs::read_to_string(&path).unwrap()
    };
    let other_id = whole.replace("\"deviceId\": \"", "\"deviceId\": \"0");
    for damaged in ["", "{}", &whole[..whole.len() / 2], &other_id] {
        fs::write(&path, damaged).unwrap();
        let error = Identity::open(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn tokens_of_another_key_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    Identity::open(&path).unwrap().store(&token("old")).unwrap();
    fs::remove_file(&path).unwrap();
    let new = Identity::open(&path).unwrap();
    assert_eq!(new.device_token("ws://gateway:18789", "operator"), None);
}

#[test]
fn signatures_verify_and_the_id_is_the_hash_of_the_key() {
    let identity = Identity::ephemeral().unwrap();
    let key = decoded(identity.public_key());
    let signature = decoded(&identity.sign("v3|text"));
    UnparsedPublicKey::new(&ED25519, &key)
        .verify(b"v3|text", &signature)
        .unwrap();
    let id = hexadecimal(digest(&SHA256, &key).as_ref());
    assert_eq!(identity.device_id(), id);
}

#[test]
fn secrets_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    let identity = Identity::open(&path).unwrap();
    let file: KeyFile = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!format!("{identity:?}").contains(&file.private_key));
    assert!(!format!("{:?}", token("secret-token")).contains("secret-token"));
}
