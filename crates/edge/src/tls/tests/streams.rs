//! The asynchronous stream, against another implementation of one.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::{Site, VERSIONS, client_config, pattern};
use crate::tls::{AcceptError, Reading, TlsStream};

async fn connect(
    site: &Site,
    version: &'static rustls::SupportedProtocolVersion,
    capacity: usize,
) -> (ClientStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (near, far) = duplex(capacity);
    let connector = TlsConnector::from(client_config(version));
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = async {
        tokio::join!(
            connector.connect(name, near),
            TlsStream::accept(site.config.clone(), far)
        )
    };
    let (client, server) = tokio::time::timeout(DEADLINE, handshake).await.unwrap();
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn much_goes_both_ways_at_once_through_a_narrow_pipe() {
    let site = Site::new();
    let data = pattern(1_000_000);
    for version in VERSIONS {
        for capacity in [64, 100_000] {
            let (client, server) = connect(&site, version, capacity).await;
            let (mut client_reads, mut client_writes) = tokio::io::split(client);
            let (mut server_reads, mut server_writes) = tokio::io::split(server);
            let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
            let exchange = async {
                tokio::join!(
                    async {
                        client_writes.write_all(&data).await?;
                        client_writes.shutdown().await
                    },
                    async {
                        server_writes.write_all(&data).await?;
                        server_writes.flush().await?;
                        server_writes.shutdown().await
                    },
                    client_reads.read_to_end(&mut to_client),
                    server_reads.read_to_end(&mut to_server),
                )
            };
            let outcome = tokio::time::timeout(DEADLINE, exchange).await.unwrap();
            outcome.0.unwrap();
            outcome.1.unwrap();
            outcome.2.unwrap();
            outcome.3.unwrap();
            assert!(to_client == data && to_server == data);
        }
    }
}

#[tokio::test]
async fn an_end_without_farewell_is_an_error() {
    let site = Site::new();
    for version in VERSIONS {
        let (mut client, mut server) = connect(&site, version, 10_000).await;
        client.write_all(b"half").await.unwrap();
        client.flush().await.unwrap();
        drop(client);
        let mut received = Vec::new();
        let error = server.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(
            (received.as_slice(), error.kind()),
            (&b"half"[..], io::ErrorKind::UnexpectedEof)
        );
    }
}

#[tokio::test]
async fn a_stream_can_be_taken_apart_and_driven_by_hand() {
    let site = Site::new();
    for version in VERSIONS {
        let (mut client, mut server) = connect(&site, version, 10_000).await;
        client.write_all(b"GET / and what follows").await.unwrap();
        client.flush().await.unwrap();
        let mut request = [0; 6];
        server.read_exact(&mut request).await.unwrap();
        server.write_all(b"101").await.unwrap();
        let mut parts = server.into_parts();
        assert_eq!(parts.plaintext, b"and what follows");
        let mut out = parts.unsent;
        parts.state.write(b" and more", &mut out).unwrap();
        parts.socket.write_all(&out).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"101 and more");

        client.write_all(b"later").await.unwrap();
        client.flush().await.unwrap();
        let (mut scratch, mut plaintext, mut out) = (vec![0; 65_536], Vec::new(), Vec::new());
        let count = parts.socket.read(&mut scratch).await.unwrap();
        let reading = parts
            .state
            .read(&mut scratch[..count], &mut plaintext, &mut out)
            .unwrap();
        assert_eq!(
            (plaintext.as_slice(), reading),
            (&b"later"[..], Reading::Open)
        );
    }
}

#[tokio::test]
async fn a_plain_request_gets_an_alert_and_no_connection() {
    let site = Site::new();
    let (mut near, far) = duplex(10_000);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let outcome = TlsStream::accept(site.config.clone(), far).await;
    assert!(matches!(outcome.err(), Some(AcceptError::Tls(_))));
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert record");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_handshake() {
    let site = Site::new();
    let (near, far) = duplex(10_000);
    drop(near);
    let outcome = TlsStream::accept(site.config.clone(), far).await;
    assert!(matches!(outcome.err(), Some(AcceptError::Socket(_))));
}

/// Far more than any of it takes.
const DEADLINE: Duration = Duration::from_secs(20);
