//! What a resting TLS connection costs in memory.
//!
//! The allocator itself is asked, because much of it is allocated by the
//! cryptography's C code, which a counting allocator in Rust would not see.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(
    clippy::unwrap_used,
    reason = "a test that can not be set up has failed"
)]

use std::io::{Read, Write};
use std::sync::Arc;

use edge::tls::{CertificateStore, TlsState, server_config};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// The most that a TLS 1.3 connection may hold, in bytes; TLS 1.2 is allowed no more.
const RESTING_BYTES_MAX: usize = 4_500;
/// Enough for what is shared to disappear in the average.
const CONNECTIONS: usize = 400;

#[test]
fn a_resting_connection_holds_little() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let (cert_path, key_path) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert_path, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let store = Arc::new(CertificateStore::load(&cert_path, &key_path).unwrap());
    let config = server_config(store, false).unwrap();

    let mut roots = RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(&cert_path).unwrap();
    roots.add(certificate).unwrap();
    for version in [&TLS13, &TLS12] {
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = Arc::new(client);
        // What is set up once is not counted.
        drop(rest(&config, &client));
        let before = allocated();
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| rest(&config, &client)).collect();
        let each = (allocated() - before) / CONNECTIONS;
        println!(
            "{:?}: {each} bytes at rest, {} of them in place",
            version.version,
            size_of::<TlsState>(),
        );
        assert!(each <= RESTING_BYTES_MAX, "{each} bytes");
        drop(connections);
    }
}

/// A server's side after handshake, a message each way and a ping or two.
fn rest(config: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Box<TlsState> {
    let mut server = Box::new(TlsState::new(Arc::clone(config)).unwrap());
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let mut wire = Vec::new();
        if round > 2 {
            client.writer().write_all(&[7; 2_000]).unwrap();
        }
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        // In two portions, so that there was something to keep in between.
        let middle = wire.len() / 2;
        let (first, second) = wire.split_at_mut(middle);
        server.read(first, &mut plaintext, &mut out).unwrap();
        server.read(second, &mut plaintext, &mut out).unwrap();
        if round > 2 {
            server.write(&[9; 3_000], &mut out).unwrap();
        }
        let sent = std::mem::take(&mut out);
        let mut sent = sent.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let mut received = Vec::new();
    client.reader().read_to_end(&mut received).ok();
    assert_eq!((plaintext.len(), received.len()), (3 * 2_000, 3 * 3_000));
    server
}

/// Bytes in use in all of the process's heaps.
#[expect(unsafe_code, reason = "mallinfo2 has no safe wrapper")]
fn allocated() -> usize {
    // SAFETY: it takes no argument and returns plain numbers.
    let facts = unsafe { libc::mallinfo2() };
    facts.uordblks + facts.hblkhd
}
