//! Certificates that change while connections live.

use super::{Pair, Site, TLS13, TlsError, store, write_certificate};

#[test]
fn a_new_certificate_serves_new_handshakes_only() {
    let site = Site::new();
    assert_eq!(site.store.expires_at(), Some(2_524_608_000));
    let mut old = Pair::connected(&site, &TLS13, usize::MAX);
    let mut half = Pair::new(&site, &super::client_config(&TLS13), usize::MAX);
    assert!(!site.store.reload().unwrap(), "nothing has changed");
    write_certificate(site.folder.path(), 2049);
    assert!(site.store.reload().unwrap());
    assert_eq!(site.store.expires_at(), Some(2_493_072_000));
    half.exchange().unwrap();
    let new = Pair::connected(&site, &TLS13, usize::MAX);
    assert_ne!(
        old.client.peer_certificates(),
        new.client.peer_certificates()
    );
    assert_eq!(
        half.client.peer_certificates(),
        new.client.peer_certificates()
    );
    old.client_sends(b"still here");
    assert_eq!(old.plaintext, b"still here");
}

#[test]
fn unusable_files_are_named_and_the_old_certificate_stays() {
    let site = Site::new();
    let folder = site.folder.path();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let before = site.store.expires_at();
    let own_key = std::fs::read(&key).unwrap();
    let own_cert = std::fs::read(&cert).unwrap();

    std::fs::write(&key, "not a key").unwrap();
    let error = site.store.reload().unwrap_err();
    assert!(
        matches!(&error, TlsError::File { path, .. } if *path == key),
        "{error}"
    );

    write_certificate(folder, 2040);
    std::fs::write(&key, &own_key).unwrap();
    let error = site.store.reload().unwrap_err();
    assert!(
        matches!(&error, TlsError::Pair { path, .. } if *path == cert),
        "{error}"
    );

    std::fs::write(&cert, "").unwrap();
    let error = site.store.reload().unwrap_err();
    assert!(
        matches!(&error, TlsError::NoCertificate { path } if *path == cert),
        "{error}"
    );

    std::fs::remove_file(&cert).unwrap();
    let error = site.store.reload().unwrap_err();
    assert!(
        matches!(&error, TlsError::File { path, .. } if *path == cert),
        "{error}"
    );
    assert!(store(folder).is_err());

    assert_eq!(site.store.expires_at(), before);
    Pair::connected(&site, &TLS13, usize::MAX);
    std::fs::write(&cert, own_cert).unwrap();
    assert!(!site.store.reload().unwrap());
}
