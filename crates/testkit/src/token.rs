//! Tokens as an application would sign them, and some that nobody should accept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// A secret for HS256 that configurations of tests use.
pub const SECRET: &str = "a secret for tests, 32 characters";

/// A key pair: the private half signs, the public half goes into a configuration.
#[derive(Debug)]
pub struct Pair {
    algorithm: Algorithm,
    keys: KeyPair,
}

impl Pair {
    /// A new pair for RS256.
    pub fn rs256() -> anyhow::Result<Self> {
        Ok(Self {
            algorithm: Algorithm::RS256,
            keys: KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
        })
    }

    /// A new pair for ES256.
    pub fn es256() -> anyhow::Result<Self> {
        Ok(Self {
            algorithm: Algorithm::ES256,
            keys: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        })
    }

    /// A new pair for EdDSA.
    pub fn eddsa() -> anyhow::Result<Self> {
        Ok(Self {
            algorithm: Algorithm::EdDSA,
            keys: KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        })
    }

    /// The public key in PEM (SubjectPublicKeyInfo).
    pub fn public_pem(&self) -> String {
        self.keys.public_key_pem()
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let pem = self.keys.serialize_pem();
        let key = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes())?,
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes())?,
            _ => EncodingKey::from_ed_pem(pem.as_bytes())?,
        };
        Ok(jsonwebtoken::encode(
            &Header::new(self.algorithm),
            claims,
            &key,
        )?)
    }
}

/// Claims for a user, valid for an hour.
pub fn claims(user: &str) -> Value {
    json!({ "sub": user, "exp": unix_s() + 3_600, "iat": unix_s() })
}

/// A token for a user, signed with [`SECRET`], valid for an hour.
pub fn user(name: &str) -> anyhow::Result<String> {
    hs256(SECRET.as_bytes(), &claims(name))
}

/// Signs claims with HS256.
pub fn hs256(secret: &[u8], claims: &Value) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret);
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        claims,
        &key,
    )?)
}

/// A token that claims to need no signature (`alg` as given: `none`, `None`, …).
pub fn unsigned(alg: &str, claims: &Value) -> String {
    let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(&header), part(&claims.to_string()))
}

/// Seconds since 1970 UTC.
pub fn unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use serde_json::Value;

    use super::{Pair, SECRET, claims, unsigned, user};

    #[test]
    fn pairs_sign_what_their_public_half_verifies() -> anyhow::Result<()> {
        for pair in [Pair::rs256()?, Pair::es256()?, Pair::eddsa()?] {
            let token = pair.sign(&claims("anna"))?;
            let pem = pair.public_pem();
            let key = match pair.algorithm {
                Algorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes())?,
                Algorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes())?,
                _ => DecodingKey::from_ed_pem(pem.as_bytes())?,
            };
            let read = decode::<Value>(&token, &key, &Validation::new(pair.algorithm))?;
            assert_eq!(read.claims["sub"], "anna");
        }
        Ok(())
    }

    #[test]
    fn user_tokens_are_signed_and_unsigned_ones_are_not() -> anyhow::Result<()> {
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let check = |token: &str| decode::<Value>(token, &key, &Validation::new(Algorithm::HS256));
        assert_eq!(check(&user("anna")?)?.claims["sub"], "anna");
        let forged = unsigned("none", &claims("anna"));
        assert!(forged.ends_with('.') && check(&forged).is_err());
        Ok(())
    }
}
