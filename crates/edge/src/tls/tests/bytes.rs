//! The connection without I/O.

use super::{
    HandshakeKind, Pair, Read, Reading, Site, TLS12, TLS13, TlsError, TlsState, VERSIONS, Write,
    client_config, pattern,
};

#[test]
fn both_versions_are_spoken_in_portions_of_any_size() {
    let site = Site::new();
    for version in VERSIONS {
        for portion in [usize::MAX, 1_000, 7, 1] {
            let mut pair = Pair::connected(&site, version, portion);
            assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
            pair.client_sends(b"question");
            assert_eq!(pair.plaintext, b"question");
            pair.server.write(b"answer", &mut pair.out).unwrap();
            pair.exchange().unwrap();
            assert_eq!(pair.client_received(), b"answer");
            assert_eq!(pair.server.kept_bytes(), 0, "nothing is kept at rest");
        }
    }
    assert_eq!(
        Pair::connected(&site, &TLS13, 9).server.version(),
        Some("TLSv1_3")
    );
    assert_eq!(
        Pair::connected(&site, &TLS12, 9).server.version(),
        Some("TLSv1_2")
    );
}

#[test]
fn much_can_be_carried_both_ways() {
    let site = Site::new();
    let data = pattern(3_000_000);
    for version in VERSIONS {
        for portion in [65_536, 10_007] {
            let mut pair = Pair::connected(&site, version, portion);
            pair.client_sends(&data);
            assert!(pair.plaintext == data);
            let mut received = Vec::new();
            for portion in data.chunks(100_000) {
                pair.server.write(portion, &mut pair.out).unwrap();
                pair.deliver();
                received.extend(pair.client_received());
            }
            assert!(received == data);
        }
    }
}

#[test]
fn writing_goes_on_while_a_record_is_incomplete() {
    let site = Site::new();
    for version in VERSIONS {
        let mut pair = Pair::connected(&site, version, usize::MAX);
        pair.client.writer().write_all(b"question").unwrap();
        let mut wire = Vec::new();
        pair.client.write_tls(&mut wire).unwrap();
        let (first, second) = wire.split_at_mut(10);
        pair.server
            .read(first, &mut pair.plaintext, &mut pair.out)
            .unwrap();
        assert_eq!(pair.server.kept_bytes(), 10);
        pair.server.write(b"meanwhile", &mut pair.out).unwrap();
        pair.deliver();
        assert_eq!(pair.client_received(), b"meanwhile");
        pair.server
            .read(second, &mut pair.plaintext, &mut pair.out)
            .unwrap();
        assert_eq!(pair.plaintext, b"question");
    }
}

#[test]
fn both_sides_can_close() {
    let site = Site::new();
    for version in VERSIONS {
        let mut pair = Pair::connected(&site, version, usize::MAX);
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.exchange().unwrap();
        assert_eq!(
            (pair.plaintext.as_slice(), pair.reading),
            (&b"last"[..], Reading::PeerClosed)
        );
        // The other direction is still open.
        pair.server.write(b"farewell", &mut pair.out).unwrap();
        pair.server.close_notify(&mut pair.out);
        pair.server.close_notify(&mut pair.out);
        pair.deliver();
        assert_eq!(pair.client_received(), b"farewell");
        // An orderly end is not an error.
        assert_eq!(pair.client.reader().read(&mut [0; 9]).unwrap(), 0);
        assert!(matches!(
            pair.server.write(b"x", &mut pair.out),
            Err(TlsError::NotOpen)
        ));
    }
}

#[test]
fn a_tampered_record_ends_the_connection_with_an_alert() {
    let site = Site::new();
    for version in VERSIONS {
        let mut pair = Pair::connected(&site, version, usize::MAX);
        pair.client.writer().write_all(b"question").unwrap();
        let mut wire = Vec::new();
        pair.client.write_tls(&mut wire).unwrap();
        *wire.last_mut().unwrap() ^= 1;
        let outcome = pair
            .server
            .read(&mut wire, &mut pair.plaintext, &mut pair.out);
        assert!(matches!(outcome, Err(TlsError::Peer(_))), "{outcome:?}");
        assert!(pair.plaintext.is_empty());
        let mut alert = pair.out.as_slice();
        pair.client.read_tls(&mut alert).unwrap();
        assert!(matches!(
            pair.client.process_new_packets(),
            Err(rustls::Error::AlertReceived(
                rustls::AlertDescription::BadRecordMac
            ))
        ));
        assert!(
            pair.server
                .read(&mut [0], &mut pair.plaintext, &mut pair.out)
                .is_err()
        );
        assert!(pair.server.write(b"x", &mut pair.out).is_err());
    }
}

#[test]
fn what_is_not_tls_is_refused() {
    let site = Site::new();
    let mut oversized = vec![22, 3, 1, 0xff, 0xff];
    oversized.resize(200_000, 0);
    let mut endless = Vec::new();
    // A handshake message in tiny records, which would cost much to keep.
    for _ in 0..60_000 {
        endless.extend_from_slice(&[22, 3, 1, 0, 1, 1]);
    }
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0; 100],
        &[22, 3, 1, 0, 4, 99, 0, 0, 0],
        &oversized,
        &endless,
    ];
    for case in cases {
        let mut server = TlsState::new(site.config.clone()).unwrap();
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        let outcome = case
            .to_vec()
            .chunks_mut(16 * 1024)
            .try_for_each(|portion| server.read(portion, &mut plaintext, &mut out).map(|_| ()));
        assert!(outcome.is_err(), "{:?}", &case[..9]);
        assert!(plaintext.is_empty() && server.write(b"x", &mut out).is_err());
    }
}

#[test]
fn nothing_is_written_before_the_handshake() {
    let site = Site::new();
    let mut server = TlsState::new(site.config.clone()).unwrap();
    let mut out = Vec::new();
    assert!(matches!(
        server.write(b"x", &mut out),
        Err(TlsError::NotOpen)
    ));
    server.close_notify(&mut out);
    assert!(out.is_empty() && server.is_handshaking());
}

#[test]
fn those_who_come_back_resume() {
    let site = Site::new();
    for version in VERSIONS {
        let client = client_config(version);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut pair = Pair::new(&site, &client, usize::MAX);
            pair.exchange().unwrap();
            pair.server.write(b"x", &mut pair.out).unwrap();
            pair.deliver();
            assert_eq!(pair.client.handshake_kind(), Some(expected));
        }
    }
}

#[test]
fn keys_can_be_updated() {
    let site = Site::new();
    let mut pair = Pair::connected(&site, &TLS13, 3);
    pair.client.refresh_traffic_keys().unwrap();
    pair.client_sends(b"with new keys");
    assert_eq!(pair.plaintext, b"with new keys");
    pair.server
        .write(b"also with new keys", &mut pair.out)
        .unwrap();
    pair.deliver();
    assert_eq!(pair.client_received(), b"also with new keys");
}
