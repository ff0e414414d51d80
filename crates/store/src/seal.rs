//! How a secret lies in the database: base64 of one byte for this format (1), a random
//! nonce of 12 bytes, and AES-256-GCM's text and tag. The name and the environment are
//! authenticated with it, so that rows can't be swapped by whoever can write to the
//! database but has no key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::keys::{Key, Keys};
use crate::secrets::Secret;

const FORMAT: u8 = 1;

/// Seals a value under the current key.
pub(crate) fn seal(
    keys: &Keys,
    name: &str,
    environment: &str,
    value: &str,
) -> Result<String, StoreError> {
    let problem = |_| StoreError::Sealing("it could not be encrypted".to_owned());
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM.tag_len()));
    text.extend_from_slice(value.as_bytes());
    let nonce = cipher(keys.current())?
        .seal_in_place_append_tag(bound(name, environment), &mut *text)
        .map_err(problem)?;
    let mut sealed = vec![FORMAT];
    sealed.extend_from_slice(nonce.as_ref());
    sealed.extend_from_slice(&text);
    Ok(STANDARD.encode(sealed))
}

/// Opens what [`seal`] made, with the key of this id.
pub(crate) fn open(
    keys: &Keys,
    key_id: &str,
    name: &str,
    environment: &str,
    sealed: &str,
) -> Result<Secret, StoreError> {
    let broken = || {
        StoreError::Sealing(
            "what is stored is damaged or was moved from another name; put the secret again"
                .to_owned(),
        )
    };
    let key = keys.of(key_id)?;
    let sealed = STANDARD.decode(sealed).map_err(|_| broken())?;
    let (format, rest) = sealed.split_first().ok_or_else(broken)?;
    let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
    if *format != FORMAT {
        return Err(broken());
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
    let mut text = Zeroizing::new(text.to_vec());
    let opened = cipher(key)?
        .open_in_place(nonce, bound(name, environment), &mut text)
        .map_err(|_| broken())?;
    let value = std::str::from_utf8(opened).map_err(|_| broken())?;
    Ok(Secret::new(value))
}

fn cipher(key: &Key) -> Result<RandomizedNonceKey, StoreError> {
    RandomizedNonceKey::new(&AES_256_GCM, &*key.bytes)
        .map_err(|_| StoreError::Sealing("the key can't be used".to_owned()))
}

/// The name's length parts it from the environment.
fn bound(name: &str, environment: &str) -> Aad<String> {
    Aad::from(format!("secret {}:{name}{environment}", name.len()))
}
