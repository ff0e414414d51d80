//! Keys of every kind, and tokens signed with them.

use auth::{KeySets, TokenSettings, Verifier};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The time of the tests, in Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
/// An HMAC secret.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes";

/// A private key, and what a verifier may know of it.
pub(crate) struct TestKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    pub(crate) public_pem: String,
    pub(crate) jwk: Value,
}

impl TestKey {
    pub(crate) fn rsa(algorithm: Algorithm) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        // RSA private keys are given as PKCS#1: PKCS#8 with its 26 bytes of wrapping removed.
        let private = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
        let parts = (
            pair.public_key()
                .modulus()
                .big_endian_without_leading_zero()
                .to_vec(),
            pair.public_key()
                .exponent()
                .big_endian_without_leading_zero()
                .to_vec(),
        );
        Self {
            algorithm,
            private,
            public_pem: pem(public.as_ref()),
            jwk: json!({"kty": "RSA", "n": url(&parts.0), "e": url(&parts.1)}),
        }
    }

    pub(crate) fn es256() -> Self {
        Self::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256, "P-256")
    }

    pub(crate) fn es384() -> Self {
        Self::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384, "P-384")
    }

    fn ec(kind: &'static EcdsaSigningAlgorithm, algorithm: Algorithm, curve: &str) -> Self {
        let pair = EcdsaKeyPair::generate(kind).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        Self {
            algorithm,
            private: EncodingKey::from_ec_der(der.as_ref()),
            public_pem: pem(public.as_ref()),
            jwk: json!({"kty": "EC", "crv": curve, "x": url(x), "y": url(y)}),
        }
    }

    pub(crate) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            private: EncodingKey::from_ed_der(der.as_ref()),
            public_pem: pem(public.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": url(pair.public_key().as_ref())}),
        }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }

    /// The public key for a key set.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        jwk
    }
}

/// A P-521 key and a signature with it: the other implementation does not have ES512.
pub(crate) fn es512(claims: &Value) -> (String, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let message = format!(
        "{}.{}",
        url(br#"{"alg":"ES512"}"#),
        url(claims.to_string().as_bytes())
    );
    let random = aws_lc_rs::rand::SystemRandom::new();
    let signature = pair.sign(&random, message.as_bytes()).unwrap();
    (
        pem(public.as_ref()),
        format!("{message}.{}", url(signature.as_ref())),
    )
}

/// A token signed with an HMAC secret.
pub(crate) fn hmac(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

/// A token with any header and signature.
pub(crate) fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| url(value.to_string().as_bytes());
    format!("{}.{}.{}", part(header), part(claims), url(signature))
}

/// A verifier for the settings, given as JSON.
#[track_caller]
pub(crate) fn verifier(settings: Value) -> Verifier {
    Verifier::new(&settings_of(settings), None, &KeySets::new()).unwrap()
}

#[track_caller]
pub(crate) fn settings_of(settings: Value) -> TokenSettings {
    serde_json::from_value(settings).unwrap()
}

/// A verifier for [`SECRET`].
pub(crate) fn hmac_verifier() -> Verifier {
    verifier(json!({"hmac_secret_key": SECRET}))
}

pub(crate) fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der)
    )
}

fn url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
