//! Keyed hashes.

use aws_lc_rs::hmac;
use quantum_proto::crypto::Macs;

/// HMAC-SHA256.
#[derive(Debug, Clone)]
pub struct HmacMacs(hmac::Key);

impl HmacMacs {
    /// `key` is secret and has at least 128 bits of entropy.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

impl Macs for HmacMacs {
    fn mac(&self, purpose: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[purpose]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}
