//! Connections of HTTP/2, shared by many requests.

use std::sync::Arc;
use std::time::Duration;

use testkit::PATIENCE;
use testkit::certificate::Certificate;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use upstream::http_service::{DialError, Http2Link, Link, Origin, Versions};

use crate::http_server::{Bench, Server, Server2, acceptor, ask, http1, origin, sealed};

#[tokio::test]
async fn requests_share_a_connection_of_http2() {
    let server = Server2::start(100, None).await;
    let origin = prior(server.address);
    let bench = Bench::new();
    let takes = (0..50).map(|_| bench.pool.take(&origin, false));
    let links = futures_util::future::join_all(takes).await;
    for link in links {
        let mut link = http2(link.unwrap());
        quick(&mut link).await;
    }
    assert_eq!(server.accepted(), 1);
    let figures = bench.pool.figures();
    assert_eq!((figures.connects, figures.http2, figures.open), (1, 1, 1));
    assert!(http2(bench.pool.take(&origin, false).await.unwrap()).is_reused);
}

#[tokio::test]
async fn another_connection_is_made_when_the_streams_of_one_are_used_up() {
    let server = Server2::start(1, None).await;
    let origin = prior(server.address);
    let bench = Bench::with(|settings| settings.http2_per_origin_max = 2);
    let mut first = http2(bench.pool.take(&origin, false).await.unwrap());
    // With the answer the server's limit is known.
    quick(&mut first).await;
    let second = http2(bench.pool.take(&origin, false).await.unwrap());
    assert_eq!(server.accepted(), 2);
    let mut second_link = second;
    quick(&mut second_link).await;

    // Both are in use; a third has to wait until one is free.
    let third = bench.pool.take(&origin, false);
    let free = async {
        tokio::task::yield_now().await;
        drop(first);
    };
    let (third, ()) = tokio::join!(third, free);
    assert!(http2(third.unwrap()).is_reused);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn waiting_for_a_stream_ends() {
    let server = Server2::start(1, None).await;
    let origin = Arc::new(Origin {
        dial_timeout: Duration::from_millis(50),
        ..Origin::clone(&prior(server.address))
    });
    let bench = Bench::with(|settings| {
        settings.http2_per_origin_max = 1;
        settings.tls_timeout = Duration::from_millis(50);
    });
    let mut first = http2(bench.pool.take(&origin, false).await.unwrap());
    quick(&mut first).await;
    let second = bench.pool.take(&origin, false).await;
    assert!(matches!(second, Err(DialError::NoStream)), "{second:?}");
}

#[tokio::test]
async fn a_connection_that_goes_away_leaves_the_pool() {
    let server = Server2::start(100, None).await;
    let origin = prior(server.address);
    let bench = Bench::new();
    let mut first = http2(bench.pool.take(&origin, false).await.unwrap());
    let (_, body) = open(&mut first, "/slow").await;
    server.leave.notify_waiters();
    let mut second;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        second = http2(bench.pool.take(&origin, false).await.unwrap());
        if server.accepted() == 2 {
            break;
        }
        drop(second);
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    quick(&mut second).await;
    // The old stream is still open.
    assert!(!body.is_end_stream());
    drop((body, first));
    bench.until(|figures| figures.http2 == 1).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = prior(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        // Reads, and never says a word.
        let mut sink = [0; 1024];
        while matches!(tcp.read(&mut sink).await, Ok(1..)) {}
    });
    let bench = Bench::with(|settings| {
        settings.http2_ping_after = Duration::from_millis(20);
        settings.http2_ping_timeout = Duration::from_millis(20);
    });
    let mut link = http2(bench.pool.take(&origin, false).await.unwrap());
    let request = http::Request::get("http://a/").body(()).unwrap();
    let (answer, _) = link.sender.send_request(request, true).unwrap();
    let lost = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    assert!(lost.is_err());
    bench.until(|figures| figures.http2 == 0).await;
}

#[tokio::test]
async fn what_is_spoken_is_negotiated() {
    let certificate = Certificate::for_localhost().unwrap();
    let two = Server2::start(100, Some(acceptor(&certificate, &["h2"]))).await;
    let one = Server::start_tls(&certificate, &["http/1.1"]).await;
    let bench = Bench::new();

    let origin = Arc::new(sealed(two.address, &certificate));
    let takes = (0..8).map(|_| bench.pool.take(&origin, false));
    for link in futures_util::future::join_all(takes).await {
        quick(&mut http2(link.unwrap())).await;
    }
    assert_eq!(two.accepted(), 1);

    let origin = Arc::new(sealed(one.address, &certificate));
    let takes = (0..8).map(|_| bench.pool.take(&origin, false));
    let mut links = Vec::new();
    for link in futures_util::future::join_all(takes).await {
        let mut link = http1(link.unwrap());
        ask(&mut link).await;
        links.push(link);
    }
    assert_eq!(one.accepted(), 8);
}

#[tokio::test]
async fn those_who_wait_for_a_common_connection_share_its_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let origin = prior(address);
    let bench = Bench::new();
    let takes = (0..8).map(|_| bench.pool.take(&origin, false));
    for link in futures_util::future::join_all(takes).await {
        assert!(matches!(link, Err(DialError::Refused)), "{link:?}");
    }
}

#[tokio::test]
async fn an_unused_connection_closes_with_the_pool() {
    let server = Server2::start(100, None).await;
    let origin = prior(server.address);
    let Bench { pool, tasks } = Bench::new();
    let mut link = http2(pool.take(&origin, false).await.unwrap());
    quick(&mut link).await;
    drop((pool, link));
    let deadline = std::time::Instant::now() + PATIENCE;
    while tasks.running() > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_waits_for_open_streams() {
    let server = Server2::start(100, None).await;
    let origin = prior(server.address);
    let Bench { pool, tasks } = Bench::new();
    let mut link = http2(pool.take(&origin, false).await.unwrap());
    let (_, body) = open(&mut link, "/slow").await;
    assert!(!tasks.stop(Duration::from_millis(50)).await);
    assert!(!body.is_end_stream());
    drop((body, link));
    assert!(tasks.stop(PATIENCE).await);
}

fn prior(address: std::net::SocketAddr) -> Arc<Origin> {
    Arc::new(Origin {
        versions: Versions::Http2,
        ..origin(address)
    })
}

fn http2(link: Link) -> Http2Link {
    match link {
        Link::Http2(link) => link,
        Link::Http1(link) => panic!("{link:?}"),
        Link::Quantum(link) => panic!("{link:?}"),
    }
}

/// A request whose answer has no body.
async fn quick(link: &mut Http2Link) {
    let (_, body) = open(link, "/quick").await;
    assert!(body.is_end_stream());
}

async fn open(link: &mut Http2Link, path: &str) -> (h2::SendStream<bytes::Bytes>, h2::RecvStream) {
    let request = http::Request::get(format!("http://a{path}"))
        .body(())
        .unwrap();
    let (answer, stream) = link.sender.send_request(request, true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    (stream, answer.unwrap().into_body())
}
