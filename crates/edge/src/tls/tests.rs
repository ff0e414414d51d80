use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

use super::{CertificateStore, Reading, TlsError, TlsState, server_config};

mod bytes;
mod certificates;
mod streams;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A server's certificate in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    store: Arc<CertificateStore>,
    config: Arc<ServerConfig>,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path(), 2050);
        let store = Arc::new(store(folder.path()).unwrap());
        let config = server_config(Arc::clone(&store), false).unwrap();
        Self {
            folder,
            store,
            config,
        }
    }
}

fn store(folder: &Path) -> Result<CertificateStore, TlsError> {
    CertificateStore::load(&folder.join("cert.pem"), &folder.join("key.pem"))
}

/// Writes a fresh certificate that expires with that year's first day.
fn write_certificate(folder: &Path, year: i32) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A client and a server, connected by nothing but vectors.
struct Pair {
    client: ClientConnection,
    server: TlsState,
    /// What the server received.
    plaintext: Vec<u8>,
    /// What the client received and was not asked for yet.
    client_plaintext: Vec<u8>,
    out: Vec<u8>,
    reading: Reading,
    /// How many bytes reach the server at once.
    portion: usize,
}

impl Pair {
    fn new(site: &Site, client: &Arc<ClientConfig>, portion: usize) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            server: TlsState::new(Arc::clone(&site.config)).unwrap(),
            plaintext: Vec::new(),
            client_plaintext: Vec::new(),
            out: Vec::new(),
            reading: Reading::Open,
            portion,
        }
    }

    fn connected(site: &Site, version: &'static SupportedProtocolVersion, portion: usize) -> Self {
        let mut pair = Self::new(site, &client_config(version), portion);
        pair.exchange().unwrap();
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    /// Carries bytes both ways until nobody has any.
    fn exchange(&mut self) -> Result<(), TlsError> {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            if wire.is_empty() && self.out.is_empty() {
                return Ok(());
            }
            for portion in wire.chunks_mut(self.portion) {
                self.reading = self
                    .server
                    .read(portion, &mut self.plaintext, &mut self.out)?;
            }
            self.deliver();
        }
    }

    /// Carries what the server has to say to the client.
    fn deliver(&mut self) {
        let out = std::mem::take(&mut self.out);
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
            // Ends with an error when there is no more for now.
            self.client
                .reader()
                .read_to_end(&mut self.client_plaintext)
                .ok();
        }
    }

    /// What the client has received.
    fn client_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.client_plaintext)
    }

    fn client_sends(&mut self, data: &[u8]) {
        // The client's own buffer is limited.
        for portion in data.chunks(16 * 1024) {
            self.client.writer().write_all(portion).unwrap();
            self.exchange().unwrap();
        }
    }
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 31 + index / 251) as u8)
        .collect()
}

/// Takes every certificate, for signatures are all that matters here.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
