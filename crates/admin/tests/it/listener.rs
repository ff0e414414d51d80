//! The socket's own bounds, and its end.

use std::time::Duration;

use admin::{ApiKeys, ListenerLimits, Settings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{DEADLINE, KEY, Server, read_answer};

fn settings() -> Settings {
    Settings {
        api_keys: ApiKeys::new([KEY]),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let limits = ListenerLimits {
        header_timeout: Duration::from_millis(50),
        ..ListenerLimits::default()
    };
    let server = Server::with_limits(settings(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert!([0, 408].contains(&answer.status), "{}", answer.status);
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let server = Server::start().await;
    let long = format!("x-long: {}", "a".repeat(17 * 1024));
    assert_eq!(
        server.send("GET", "/healthz", &[&long], "").await.status,
        431
    );
    let many = vec!["x-many: 1"; 65];
    assert_eq!(server.send("GET", "/healthz", &many, "").await.status, 431);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let limits = ListenerLimits {
        connections_max: 1,
        ..ListenerLimits::default()
    };
    let server = Server::with_limits(settings(), limits).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let second = server.get("/healthz");
    let mut second = std::pin::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end() {
    let mut server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        format!("POST /api/info HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 2\r\n");
    // The answer to an Expect says that the request is under way.
    stream
        .write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut interim)
        .await
        .unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    drop(server.stop.take());
    stream.write_all(b"{}").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 200);
    tokio::time::timeout(DEADLINE, server.served)
        .await
        .expect("end within the deadline")
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_is_cut_off_at_the_end_of_the_grace() {
    let limits = ListenerLimits {
        grace: Duration::from_millis(50),
        header_timeout: Duration::from_secs(5),
        ..ListenerLimits::default()
    };
    let mut server = Server::with_limits(settings(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        format!("POST /api/info HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 2\r\n");
    stream
        .write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut interim)
        .await
        .unwrap();
    drop(server.stop.take());
    tokio::time::timeout(DEADLINE, server.served)
        .await
        .expect("end within the deadline")
        .unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 0);
}
