//! Connections to HTTP services: made, used again, watched.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Clock;
use testkit::certificate::Certificate;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use upstream::http_service::{DialError, Forbidden, Link, Miss, Origin, Stream, Versions};

use crate::http_server::{Bench, Server, ask, count, http1, origin, port, sealed};

mod shared;

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    for turn in 0..10 {
        let mut link = bench.take(&origin).await;
        assert_eq!(link.is_reused, turn > 0);
        assert_eq!(link.miss, (turn == 0).then_some(Miss::Cold));
        ask(&mut link).await;
        link.put_back();
    }
    assert_eq!(server.accepted(), 1);
    let figures = bench.pool.figures();
    assert_eq!((figures.connects, figures.reuses), (1, 9));
    assert_eq!(count(&figures.misses, "cold"), 1);
    assert_eq!((figures.idle, figures.open), (1, 1));
}

#[tokio::test]
async fn equal_origins_share_connections_and_others_do_not() {
    let server = Server::start().await;
    let bench = Bench::new();
    let first = Arc::new(origin(server.address));
    let mut link = bench.take(&first).await;
    ask(&mut link).await;
    link.put_back();
    let equal = Arc::new(Origin::clone(&first));
    let link = bench.take(&equal).await;
    assert!(link.is_reused);
    link.put_back();
    let other = Arc::new(Origin {
        idle_timeout: Duration::from_secs(1),
        ..Origin::clone(&first)
    });
    let link = bench.take(&other).await;
    assert_eq!(link.miss, Some(Miss::KeyChanged));
}

#[tokio::test]
async fn the_connection_used_last_is_taken_first() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    let (first, second) = (bench.take(&origin).await, bench.take(&origin).await);
    let (first_port, second_port) = (port(&first), port(&second));
    second.put_back();
    first.put_back();
    assert_eq!(port(&bench.take(&origin).await), first_port);
    assert_eq!(port(&bench.take(&origin).await), second_port);
}

#[tokio::test]
async fn a_fresh_connection_is_made_on_request() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    bench.take(&origin).await.put_back();
    let link = http1(bench.pool.take(&origin, true).await.unwrap());
    assert!(!link.is_reused);
    assert_eq!(link.miss, Some(Miss::Fresh));
}

#[tokio::test]
async fn a_connection_that_the_server_closes_leaves_at_once() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    let mut link = bench.take(&origin).await;
    ask(&mut link).await;
    link.put_back();
    server.close.notify_waiters();
    bench.until(|figures| figures.idle == 0).await;
    let link = bench.take(&origin).await;
    assert!(!link.is_reused);
    assert_eq!(link.miss, Some(Miss::ClosedByPeer));
}

#[tokio::test]
async fn a_connection_with_unexpected_bytes_is_not_used_again() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    let mut link = bench.take(&origin).await;
    ask(&mut link).await;
    link.put_back();
    server.blurt.notify_waiters();
    bench.until(|figures| figures.idle == 0).await;
    assert!(!bench.take(&origin).await.is_reused);
}

#[tokio::test]
async fn unexpected_bytes_before_the_rest_are_noticed_too() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    let mut link = bench.take(&origin).await;
    ask(&mut link).await;
    server.blurt.notify_waiters();
    match &link.stream {
        Stream::Plain(tcp) => tcp.peek(&mut [0]).await.unwrap(),
        Stream::Tls(_) => panic!("the origin is plain"),
    };
    link.put_back();
    assert_eq!(bench.pool.figures().idle, 0);
}

#[tokio::test]
async fn the_connection_that_rested_longest_makes_room() {
    let (one, two) = (Server::start().await, Server::start().await);
    let bench = Bench::with(|settings| settings.idle_max = 2);
    let (one, two) = (Arc::new(origin(one.address)), Arc::new(origin(two.address)));
    let (a, b, c) = (
        bench.take(&one).await,
        bench.take(&two).await,
        bench.take(&two).await,
    );
    a.put_back();
    // Time is told in milliseconds.
    let clock = Clock::start();
    while clock.mono_ms() < 2 {
        tokio::task::yield_now().await;
    }
    b.put_back();
    c.put_back();
    let figures = bench.pool.figures();
    assert_eq!((figures.idle, figures.open), (2, 2));
    assert_eq!(bench.take(&one).await.miss, Some(Miss::Cap));
    assert!(bench.take(&two).await.is_reused);
}

#[tokio::test]
async fn connections_to_one_origin_are_limited() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::with(|settings| settings.idle_per_origin_max = 1);
    let (first, second) = (bench.take(&origin).await, bench.take(&origin).await);
    let kept = port(&second);
    first.put_back();
    second.put_back();
    assert_eq!(bench.pool.figures().idle, 1);
    assert_eq!(port(&bench.take(&origin).await), kept);
    assert_eq!(bench.take(&origin).await.miss, Some(Miss::Cap));
}

#[tokio::test]
async fn a_connection_rests_no_longer_than_its_idle_timeout() {
    let server = Server::start().await;
    let origin = Arc::new(Origin {
        idle_timeout: Duration::from_millis(20),
        ..origin(server.address)
    });
    let bench = Bench::new();
    bench.take(&origin).await.put_back();
    bench.until(|figures| figures.open == 0).await;
    assert_eq!(bench.take(&origin).await.miss, Some(Miss::Ttl));
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_not_put_back() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::with(|settings| settings.lifetime_max = Duration::ZERO);
    bench.take(&origin).await.put_back();
    assert_eq!(bench.pool.figures().open, 0);
}

#[tokio::test]
async fn what_the_server_says_of_its_patience_is_heeded() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    let mut link = bench.take(&origin).await;
    link.heard_keep_alive(b"timeout=5, max=1000");
    link.put_back();
    let mut link = bench.take(&origin).await;
    assert!(link.is_reused);
    link.heard_keep_alive(b"max=1, Timeout=0");
    link.put_back();
    assert_eq!(bench.take(&origin).await.miss, Some(Miss::Ttl));
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling() {
    let bench = Bench::new();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "0:0:0:0:0:ffff:7f00:0001",
    ] {
        let refused = take_host(&bench, host, false).await;
        assert!(
            matches!(refused, DialError::Forbidden(Forbidden::NotPublic)),
            "{host}: {refused:?}"
        );
    }
    assert_eq!(bench.pool.figures().connects, 0);
}

#[tokio::test]
async fn metadata_services_are_refused_even_where_private_addresses_are_allowed() {
    let bench = Bench::new();
    for host in [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
    ] {
        let refused = take_host(&bench, host, true).await;
        assert!(
            matches!(refused, DialError::Forbidden(Forbidden::Metadata)),
            "{host}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_port_where_nothing_listens_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let bench = Bench::new();
    let refused = bench.pool.take(&Arc::new(origin(address)), false).await;
    assert!(matches!(refused, Err(DialError::Refused)), "{refused:?}");
    let figures = bench.pool.figures();
    assert_eq!(count(&figures.connect_failures, "refused"), 1);
    assert_eq!(figures.open, 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_unknown() {
    let bench = Bench::new();
    let unknown = take_host(&bench, "nowhere.invalid", false).await;
    assert!(
        matches!(unknown, DialError::NameUnknown(_) | DialError::TimedOut),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_accept_takes_too_long() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let bench = Bench::new();
    let origin = Arc::new(Origin {
        dial_timeout: Duration::from_millis(200),
        ..origin(address)
    });
    // Fills the queue of connections that nobody accepts.
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
    }
    let refused = bench.pool.take(&origin, false).await.unwrap_err();
    assert!(matches!(refused, DialError::TimedOut), "{refused:?}");
    assert!(refused.is_timeout());
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_roots_of_the_route() {
    let certificate = Certificate::for_localhost().unwrap();
    let server = Server::start_tls(&certificate, &[]).await;
    let bench = Bench::new();
    let trusted = Arc::new(sealed(server.address, &certificate));
    for turn in 0..2 {
        let mut link = bench.take(&trusted).await;
        assert_eq!(link.is_reused, turn > 0);
        ask(&mut link).await;
        link.put_back();
    }

    let other = Certificate::for_localhost().unwrap();
    let untrusted = Arc::new(sealed(server.address, &other));
    let refused = bench.pool.take(&untrusted, false).await.unwrap_err();
    assert!(matches!(refused, DialError::Tls(_)), "{refused:?}");

    let mut by_system = sealed(server.address, &other);
    by_system.tls.roots = None;
    let refused = bench.pool.take(&Arc::new(by_system), false).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_a_bad_certificate() {
    let certificate = Certificate::for_localhost().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Arc::new(sealed(listener.local_addr().unwrap(), &certificate));
    let answer = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let said = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        socket.write_all(said).await.unwrap();
        socket
    };
    let bench = Bench::new();
    let (refused, _socket) = tokio::join!(bench.pool.take(&plain, false), answer);
    assert!(matches!(refused, Err(DialError::NotTls)), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_is_checked_for_the_name_of_the_route() {
    let certificate = Certificate::for_localhost().unwrap();
    let server = Server::start_tls(&certificate, &["http/1.1"]).await;
    let bench = Bench::new();
    let mut named = sealed(server.address, &certificate);
    named.tls.server_name = Some("other.test".into());
    let refused = bench.pool.take(&Arc::new(named.clone()), false).await;
    assert!(matches!(refused, Err(DialError::Tls(_))), "{refused:?}");
    named.host = "127.0.0.1".into();
    named.tls.server_name = Some("localhost".into());
    ask(&mut bench.take(&Arc::new(named)).await).await;
}

#[tokio::test]
async fn roots_that_are_no_certificates_are_reported() {
    let certificate = Certificate::for_localhost().unwrap();
    let server = Server::start_tls(&certificate, &[]).await;
    let bench = Bench::new();
    let mut odd = sealed(server.address, &certificate);
    odd.tls.roots = Some("no certificate".into());
    let refused = bench.pool.take(&Arc::new(odd), false).await;
    assert!(
        matches!(refused, Err(DialError::TlsSetup(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_tls_handshake_has_its_own_time() {
    let certificate = Certificate::for_localhost().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::with(|settings| settings.tls_timeout = Duration::from_millis(50));
    let silent = Arc::new(sealed(listener.local_addr().unwrap(), &certificate));
    let refused = bench.pool.take(&silent, false).await;
    assert!(
        matches!(refused, Err(DialError::TlsTimedOut)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http2_is_reported() {
    let certificate = Certificate::for_localhost().unwrap();
    let server = Server::start_tls(&certificate, &[]).await;
    let bench = Bench::new();
    let origin = Arc::new(Origin {
        versions: Versions::Http2,
        ..sealed(server.address, &certificate)
    });
    let refused = bench.pool.take(&origin, false).await;
    assert!(matches!(refused, Err(DialError::NotHttp2)), "{refused:?}");
}

#[tokio::test]
async fn the_pools_tasks_end_with_it() {
    let server = Server::start().await;
    let origin = Arc::new(origin(server.address));
    let bench = Bench::new();
    bench.take(&origin).await.put_back();
    let Bench { pool, tasks } = bench;
    drop(pool);
    assert!(tasks.stop(testkit::PATIENCE).await);
}

async fn take_host(bench: &Bench, host: &str, allow_private: bool) -> DialError {
    let origin = Origin {
        host: host.into(),
        allow_private,
        dial_timeout: Duration::from_secs(5),
        ..origin("127.0.0.1:9".parse().unwrap())
    };
    match bench.pool.take(&Arc::new(origin), false).await {
        Ok(Link::Http1(_) | Link::Http2(_) | Link::Quantum(_)) => panic!("{host} was connected to"),
        Err(error) => error,
    }
}
