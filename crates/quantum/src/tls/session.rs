//! The handshake of one connection.

use bytes::Bytes;
use quantum_proto::codes::close;
use quantum_proto::crypto::{Handshake, HandshakeError, Keys, Level, NewKeys, Peer};
use rustls::pki_types::CertificateDer;
use rustls::quic::{self, KeyChange};
use rustls::{AlertDescription, CertificateError, Error};
use webpki::EndEntityCert;

use super::keys;

pub(super) struct Session {
    tls: quic::Connection,
    /// Makes the keys of the next renewal.
    secrets: Option<quic::Secrets>,
    /// Where our bytes go and the peer's must come from by now.
    level: Level,
    failed: Option<HandshakeError>,
}

impl Session {
    pub(super) fn boxed(tls: quic::Connection) -> Box<dyn Handshake> {
        Box::new(Self {
            tls,
            secrets: None,
            level: Level::Initial,
            failed: None,
        })
    }

    fn fail(&mut self, error: HandshakeError) -> Result<(), HandshakeError> {
        self.failed = Some(error.clone());
        Err(error)
    }
}

impl Handshake for Session {
    fn read(&mut self, level: Level, bytes: &[u8]) -> Result<(), HandshakeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if level < self.level {
            // Under initial keys anybody on the path may add bytes after the peer's.
            return Ok(());
        }
        if level > self.level {
            return self.fail(HandshakeError {
                code: close::VIOLATION,
                text: "handshake went on before there were keys for it".to_owned(),
            });
        }
        let Err(error) = self.tls.read_hs(bytes) else {
            return Ok(());
        };
        let alert = self.tls.alert().unwrap_or(AlertDescription::InternalError);
        self.fail(HandshakeError {
            code: close::TLS + u32::from(u8::from(alert)),
            text: explain(&error),
        })
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Option<NewKeys> {
        match self.tls.write_hs(out)? {
            KeyChange::Handshake { keys } => {
                self.level = Level::Handshake;
                Some(NewKeys::Handshake(keys::both(keys)))
            }
            KeyChange::OneRtt { keys, next } => {
                self.secrets = Some(next);
                Some(NewKeys::Application(keys::both(keys)))
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.failed.is_none() && !self.tls.is_handshaking()
    }

    fn peer_options(&self) -> Option<&[u8]> {
        self.tls.quic_transport_parameters()
    }

    fn next_keys(&mut self) -> Option<Keys> {
        let secrets = self.secrets.as_mut()?;
        Some(keys::renewed(secrets.next_packet_keys()))
    }

    fn peer(&self) -> Option<Peer> {
        if !self.is_complete() {
            return None;
        }
        let certificate = self.tls.peer_certificates()?.first()?;
        Some(Peer {
            names: names(certificate),
            certificate: Bytes::copy_from_slice(certificate),
        })
    }
}

/// Names that a peer may claim at most, and the bytes of each.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 512;

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let all = certificate.valid_dns_names();
    let all = all.chain(certificate.valid_uri_names());
    let kept = all.filter(|name| name.len() <= NAME_BYTES_MAX);
    kept.take(NAMES_MAX).map(str::to_owned).collect()
}

/// What rustls found, in words that say what to look at.
fn explain(error: &Error) -> String {
    let known = match error {
        Error::NoCertificatesPresented => "client has shown no certificate",
        Error::NoApplicationProtocol => "peer does not speak `quantum/1`",
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                "peer's certificate does not lead to a trusted authority"
            }
            CertificateError::BadSignature => {
                "signature of the peer or of its certificate's issuer is wrong"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "peer's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "peer's certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "peer's certificate is for another name"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "peer's certificate is not for this side of a connection"
            }
            _ => return format!("peer's certificate is not acceptable: {error}"),
        },
        _ => return format!("handshake failed: {error}"),
    };
    match error {
        // These carry names or times, which say more.
        Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::NotValidForNameContext { .. },
        ) => format!("{known}: {error}"),
        _ => known.to_owned(),
    }
}
