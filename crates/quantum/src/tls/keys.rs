//! Keys of packets, from rustls.

use quantum_proto::Guuid;
use quantum_proto::crypto::{Keys, PacketKey, Rejected};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{self, Version};

/// Keys that follow from the GUUID.
pub(super) fn initial(guuid: Guuid, side: Side) -> Keys {
    let suite = TLS13_AES_128_GCM_SHA256
        .tls13()
        .and_then(rustls::Tls13CipherSuite::quic_suite);
    match suite {
        Some(suite) => both(suite.keys(guuid.as_bytes(), side, Version::V1)),
        // The suite above is one of TLS 1.3 and made for QUIC.
        None => unreachable!("a suite without QUIC"),
    }
}

/// Header protection is QUIC's alone; our headers are readable.
pub(super) fn both(keys: quic::Keys) -> Keys {
    Keys {
        local: Box::new(Key(keys.local.packet)),
        remote: Box::new(Key(keys.remote.packet)),
    }
}

/// Keys after a renewal.
pub(super) fn renewed(keys: quic::PacketKeySet) -> Keys {
    Keys {
        local: Box::new(Key(keys.local)),
        remote: Box::new(Key(keys.remote)),
    }
}

struct Key(Box<dyn quic::PacketKey>);

impl PacketKey for Key {
    fn seal(&self, counter: u64, associated: &[u8], payload: &mut [u8]) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self.0.encrypt_in_place(counter, associated, payload) {
            Ok(tag) => bytes.copy_from_slice(tag.as_ref()),
            // Only payloads of gigabytes fail. Nothing may leave in clear, whatever happened.
            Err(_) => payload.fill(0),
        }
        bytes
    }

    fn open(&self, counter: u64, associated: &[u8], sealed: &mut [u8]) -> Result<(), Rejected> {
        match self.0.decrypt_in_place(counter, associated, sealed) {
            Ok(_) => Ok(()),
            Err(_) => Err(Rejected),
        }
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}
