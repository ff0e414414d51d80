//! A key that knows which algorithms it may be used with.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};

use crate::pem;
use crate::settings::Algorithm;

/// A key, prepared once for each algorithm it may be used with. What is not in
/// the list can't happen: this is the whole defence against confused algorithms.
pub(crate) struct Key {
    /// The key's id; `None` matches tokens whatever `kid` they name.
    pub(crate) id: Option<String>,
    /// Not accepted from then on, in Unix seconds.
    pub(crate) valid_until: Option<u64>,
    uses: Vec<(Algorithm, Material)>,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// A shared secret, for the given HMAC algorithms; others are left out.
    pub(crate) fn from_secret(secret: &[u8], algorithms: &[Algorithm]) -> Self {
        let uses = algorithms.iter().filter_map(|algorithm| {
            let digest = match algorithm {
                Algorithm::Hs256 => hmac::HMAC_SHA256,
                Algorithm::Hs384 => hmac::HMAC_SHA384,
                Algorithm::Hs512 => hmac::HMAC_SHA512,
                _ => return None,
            };
            Some((
                *algorithm,
                Material::Secret(Box::new(hmac::Key::new(digest, secret))),
            ))
        });
        Self {
            id: None,
            valid_until: None,
            uses: uses.collect(),
        }
    }

    /// A public key in PEM (`PUBLIC KEY`, or `RSA PUBLIC KEY`), for those of the given
    /// algorithms that it fits. The error says what is wrong with the text.
    pub(crate) fn from_pem(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let block = pem::decode(text).ok_or("is not a PEM text with a public key")?;
        let accepted = match block.label.as_str() {
            "PUBLIC KEY" => true,
            "RSA PUBLIC KEY" => algorithms.iter().all(|algorithm| rsa(*algorithm).is_some()),
            _ => false,
        };
        if !accepted {
            return Err(format!(
                "holds a {:?}; a \"PUBLIC KEY\" is accepted",
                block.label
            ));
        }
        // The encoding is longer than the modulus in it.
        let is_rsa = algorithms.iter().any(|algorithm| rsa(*algorithm).is_some());
        if is_rsa && block.der.len() < RSA_MODULUS_BYTES_MIN {
            return Err("is an RSA key of less than 2048 bits".to_owned());
        }
        Self::from_public(&block.der, algorithms)
            .ok_or_else(|| format!("is not a public key for {}", names(algorithms)))
    }

    /// A public key, encoded as SubjectPublicKeyInfo or in the raw form of its kind;
    /// `None` if it fits none of the algorithms.
    pub(crate) fn from_public(bytes: &[u8], algorithms: &[Algorithm]) -> Option<Self> {
        let uses: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let key = ParsedPublicKey::new(verification(*algorithm)?, bytes).ok()?;
                Some((*algorithm, Material::Public(key)))
            })
            .collect();
        (!uses.is_empty()).then_some(Self {
            id: None,
            valid_until: None,
            uses,
        })
    }

    /// An RSA key from modulus and exponent, big-endian; `None` if it is too small
    /// (under 2048 bits), too large or not a key.
    pub(crate) fn from_rsa_parts(
        modulus: &[u8],
        exponent: &[u8],
        algorithms: &[Algorithm],
    ) -> Option<Self> {
        if modulus.len() < RSA_MODULUS_BYTES_MIN {
            return None;
        }
        let parts = RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        };
        let uses: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let key = parts.to_parsed_public_key(rsa(*algorithm)?).ok()?;
                Some((*algorithm, Material::Public(key)))
            })
            .collect();
        (!uses.is_empty()).then_some(Self {
            id: None,
            valid_until: None,
            uses,
        })
    }

    /// Whether a token with this header may be checked with this key at that time.
    pub(crate) fn fits(&self, algorithm: Algorithm, id: Option<&str>, now_unix: u64) -> bool {
        let id_fits = match (&self.id, id) {
            (Some(own), Some(named)) => own == named,
            (None, _) | (Some(_), None) => true,
        };
        id_fits
            && self.valid_until.is_none_or(|until| now_unix < until)
            && self.uses.iter().any(|(own, _)| *own == algorithm)
    }

    /// Checks a signature; false also if the key may not be used with that algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let material = self.uses.iter().find(|(own, _)| *own == algorithm);
        match material {
            Some((_, Material::Secret(key))) => hmac::verify(key, message, signature).is_ok(),
            Some((_, Material::Public(key))) => key.verify_sig(message, signature).is_ok(),
            None => false,
        }
    }
}

fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
            rsa(algorithm).map(|parameters| parameters as &'static dyn VerificationAlgorithm)
        }
        Algorithm::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Some(&ECDSA_P384_SHA384_FIXED),
        Algorithm::Es512 => Some(&ECDSA_P521_SHA512_FIXED),
        Algorithm::EdDsa => Some(&ED25519),
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Hs256
        | Algorithm::Hs384
        | Algorithm::Hs512
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::Es512
        | Algorithm::EdDsa => None,
    }
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    names.join(", ")
}

/// 2048 bits.
const RSA_MODULUS_BYTES_MIN: usize = 256;
/// HMAC with any of its digests.
pub(crate) const HMAC: [Algorithm; 3] = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
/// RSA PKCS#1 v1.5 with any of its digests.
pub(crate) const RSA: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512];
/// ECDSA; the curve of a key decides which of them fits.
pub(crate) const ECDSA: [Algorithm; 3] = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
