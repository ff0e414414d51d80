//! Services over Quantum, beside those over TCP: the same policy, the same outcomes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http1::{Chunk, Fields, Framing, Gone, Inflow, Known, RequestHead, ResponseHead, Version};
use lifecycle::{CancellationToken, Clock, Tasks};
use policy::Policy;
use quantum::identity::{Identity, Wanted};
use quantum::tls::{Clients, ServerTls};
use quantum::{Endpoint, EndpointConfig, Role};
use tempfile::TempDir;
use tokio::sync::mpsc;
use upstream::grpc::{Call, Code, Service, Settings, Target, Tls};
use upstream::http_service::{
    DialError, Exchange, Origin, Pool, PoolSettings, Scheme, TlsTerms, Versions,
};
use upstream::quantum_peer::{Config, Peers, Settings as PeerSettings};

use crate::grpc::{Fake, Shows, Stage, ask, ask_as, check, dead_address, routes, settings};

/// An authority of its own, with both sides.
fn identity() -> (TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        server_names: vec!["localhost".to_owned()],
        client_uri: "spiffe://test/gateway".to_owned(),
        now: std::time::SystemTime::now(),
        lifetime: Duration::from_secs(3_600),
    };
    let identity = Identity::generate(folder.path(), &wanted).unwrap();
    (folder, identity)
}

struct Bench {
    fake: Fake,
    address: SocketAddr,
    peers: Peers,
    clock: Clock,
    tasks: Tasks,
    identity: Identity,
    _folder: TempDir,
}

impl Bench {
    fn start() -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::start());
        let (folder, identity) = identity();
        let clients = Clients::Certified {
            authorities: identity.authority.clone(),
        };
        let mut config = EndpointConfig::new("fake")
            .with_server(ServerTls::load(&identity.server, &clients).unwrap());
        config.sockets = Some(1);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Endpoint::bind(loopback, config, &tasks, clock).unwrap();
        let address = server.local_addr();
        let fake = Fake::default();
        let serving = quantum::grpc::serve(
            server,
            routes(fake.clone(), Shows::V1),
            CancellationToken::new(),
            quantum::grpc::Limits::default(),
            tasks.clone(),
        );
        tasks.spawn("fake peer", serving);
        let peers = Peers::bind(
            PeerSettings {
                service: "test".to_owned(),
                ca: identity.authority.clone(),
                identity: Some((identity.client.chain.clone(), identity.client.key.clone())),
                server_name: Some("localhost".to_owned()),
                transport: Config::default(),
                event_log: None,
            },
            &tasks,
            clock,
        );
        Self {
            fake,
            address,
            peers: peers.unwrap(),
            clock,
            tasks,
            identity,
            _folder: folder,
        }
    }

    fn service(&self, targets: &[String]) -> Service {
        let settings = Settings {
            name: "fake".into(),
            targets: targets
                .iter()
                .map(|it| Target::parse(it).unwrap())
                .collect(),
            tls: Tls::default(),
            policy: Policy::new(settings()).unwrap(),
            breaker: None,
            descriptors: None,
            message_max: 1 << 20,
            connect_within: Duration::from_secs(5),
            peers: Some(self.peers.clone()),
        };
        Service::new(settings, self.clock, 7).unwrap()
    }

    fn url(&self) -> String {
        format!("quantum://{}", self.address)
    }

    fn calls(&self) -> u32 {
        self.fake.calls.load(Ordering::SeqCst)
    }

    fn pool(&self) -> Pool {
        let (settings, tasks) = (PoolSettings::default(), self.tasks.clone());
        Pool::with_quantum(settings, self.clock, tasks, Some(self.peers.clone()))
    }

    fn origin(&self, allow_private: bool) -> Arc<Origin> {
        Arc::new(Origin {
            scheme: Scheme::Quantum,
            host: self.address.ip().to_string(),
            port: self.address.port(),
            authority: self.address.to_string(),
            versions: Versions::Http2,
            allow_private,
            tls: TlsTerms {
                roots: None,
                server_name: None,
            },
            dial_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        })
    }
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let bench = Bench::start();
    let service = bench.service(&[bench.url()]);
    for _ in 0..5 {
        assert_eq!(ask(&service, "a").await.unwrap(), r#"{"status":"SERVING"}"#);
    }
}

#[tokio::test]
async fn what_a_peer_refuses_for_now_is_tried_again_and_its_failures_are_not() {
    let bench = Bench::start();
    let service = bench.service(&[bench.url()]);
    ask(&service, "busy once").await.unwrap();
    assert_eq!(bench.calls(), 2);
    let failure = ask(&service, "internal").await.unwrap_err();
    assert_eq!((failure.code, bench.calls()), (Code::Internal, 3));
}

#[tokio::test]
async fn new_files_count_for_connections_from_then_on() {
    let bench = Bench::start();
    let standing = bench.service(&[bench.url()]);
    ask(&standing, "a").await.unwrap();
    let shown = |it: &Identity| Some((it.client.chain.clone(), it.client.key.clone()));
    let (_folder, foreign) = identity();
    let renew = |it: &Identity| bench.peers.renew(&it.authority, shown(it));
    renew(&foreign).unwrap();
    ask(&standing, "a").await.unwrap();
    let fresh = bench.service(&[bench.url()]);
    let failure = fresh.call(&check(), Bytes::new()).await.unwrap_err();
    assert_eq!((failure.code, failure.said), (Code::Unavailable, None));

    renew(&bench.identity).unwrap();
    let nowhere = Path::new("/nowhere/authority.pem");
    assert!(bench.peers.renew(nowhere, None).is_err());
    let fresh = bench.service(&[bench.url()]);
    ask(&fresh, "a").await.unwrap();
}

#[tokio::test]
async fn both_kinds_serve_one_target() {
    let (bench, stage) = (Bench::start(), Stage::serve(Shows::V1).await);
    let nobody = format!("grpc://{}", dead_address().await);
    let tcp = format!("grpc://{}", stage.address);
    let service = bench.service(&[nobody, bench.url(), tcp]);
    for _ in 0..60 {
        ask(&service, "a").await.unwrap();
    }
    assert_eq!(bench.calls() + stage.calls(), 60);
    assert!(bench.calls() > 0 && stage.calls() > 0);
}

#[tokio::test]
async fn a_deadline_and_a_dropped_call_reach_the_peer() {
    let bench = Bench::start();
    let service = bench.service(&[bench.url()]);
    ask(&service, "a").await.unwrap();
    let call = Call {
        timeout: Some(Duration::from_millis(100)),
        ..check()
    };
    let failure = ask_as(&service, &call, "never").await.unwrap_err();
    assert_eq!(failure.code, Code::DeadlineExceeded);
    bench.fake.begun.notified().await;
    let told = tokio::time::timeout(Duration::from_secs(5), bench.fake.dropped.notified()).await;
    told.expect("the peer hears that nobody waits");
    let call = check();
    tokio::select! {
        answer = ask_as(&service, &call, "never") => panic!("{answer:?}"),
        () = bench.fake.begun.notified() => {}
    }
    let told = tokio::time::timeout(Duration::from_secs(5), bench.fake.dropped.notified()).await;
    told.expect("the peer hears that nobody waits");
}

/// A client whose parts come when they are sent.
struct Parts(mpsc::Receiver<Bytes>);

impl Inflow for Parts {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        let part = self.0.poll_recv(cx);
        part.map(|part| Ok(part.map_or(Chunk::End(None), Chunk::Data)))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Gone> {
        Poll::Pending
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, _: u64) -> Poll<()> {
        Poll::Pending
    }

    fn interim(&mut self, _: &ResponseHead) {}
}

fn head(path: &'static str) -> RequestHead {
    let mut fields = Fields::new();
    fields.push("content-type", b"application/grpc").unwrap();
    RequestHead {
        method: http::Method::POST,
        target: http1::Target::new(Bytes::from_static(path.as_bytes())).unwrap(),
        authority: Bytes::from_static(b"localhost"),
        version: Version::Http2,
        fields,
        framing: Framing::Chunked,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
    }
}

#[tokio::test]
async fn a_call_is_passed_on_in_parts_and_its_status_comes_in_trailers() {
    let bench = Bench::start();
    let (pool, origin) = (bench.pool(), bench.origin(true));
    for _ in 0..2 {
        let link = pool.take(&origin, false).await.unwrap();
        let mut exchange = Exchange::new(link, &head("/grpc.health.v1.Health/Check"));
        let (send, parts) = mpsc::channel(8);
        for part in [&[0, 0, 0][..], &[0, 3], &[10, 1], b"a"] {
            send.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
        drop(send);
        let mut client = Parts(parts);
        let head = poll_fn(|cx| exchange.poll_head(cx, &mut client))
            .await
            .unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(
            head.fields.text(Known::ContentType),
            Some("application/grpc")
        );
        let mut body = Vec::new();
        let trailers = loop {
            match poll_fn(|cx| exchange.poll_chunk(cx, &mut client))
                .await
                .unwrap()
            {
                Chunk::Data(data) => body.extend_from_slice(&data),
                Chunk::End(trailers) => break trailers.unwrap(),
            }
        };
        assert_eq!(body, [0, 0, 0, 0, 2, 8, 1]);
        assert_eq!(trailers.get_named("grpc-status"), Some(&b"0"[..]));
    }
}

#[tokio::test]
async fn dropping_an_exchange_cancels_the_call() {
    let bench = Bench::start();
    let link = bench.pool().take(&bench.origin(true), false).await.unwrap();
    let mut exchange = Exchange::new(link, &head("/grpc.health.v1.Health/Check"));
    let (send, parts) = mpsc::channel(8);
    let never = [&[0, 0, 0, 0, 7, 10, 5][..], b"never"].concat();
    send.send(never.into()).await.unwrap();
    drop(send);
    let mut client = Parts(parts);
    tokio::select! {
        head = poll_fn(|cx| exchange.poll_head(cx, &mut client)) => panic!("{head:?}"),
        () = bench.fake.begun.notified() => {}
    }
    drop(exchange);
    let told = tokio::time::timeout(Duration::from_secs(5), bench.fake.dropped.notified()).await;
    told.expect("the peer hears that nobody waits");
}

#[tokio::test]
async fn a_private_address_is_not_connected_to_unless_the_route_allows_it() {
    let bench = Bench::start();
    let refused = bench.pool().take(&bench.origin(false), false).await;
    assert!(
        matches!(refused, Err(DialError::Forbidden(_))),
        "{refused:?}"
    );
    let bare = Pool::new(PoolSettings::default(), bench.clock, bench.tasks.clone());
    let refused = bare.take(&bench.origin(true), false).await;
    assert!(matches!(refused, Err(DialError::NoQuantum)), "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_not_kept() {
    let bench = Bench::start();
    let pool = bench.pool();
    let mut origin = Origin::clone(&bench.origin(true));
    origin.idle_timeout = Duration::from_millis(50);
    let origin = Arc::new(origin);
    let connections = || bench.peers.figures().of(Role::Client).connections;
    drop(pool.take(&origin, false).await.unwrap());
    assert_eq!(connections(), 1);
    let gone = async {
        let mut often = tokio::time::interval(Duration::from_millis(20));
        while connections() > 0 {
            often.tick().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
    gone.expect("the connection ends");
    pool.take(&origin, false).await.unwrap();
}

#[tokio::test]
async fn those_who_come_together_make_one_connection() {
    let bench = Bench::start();
    let (pool, origin) = (bench.pool(), bench.origin(true));
    let taking = (0..50).map(|_| pool.take(&origin, false));
    for taken in futures_util::future::join_all(taking).await {
        taken.unwrap();
    }
    assert_eq!(bench.peers.figures().of(Role::Client).connections, 1);
}

#[tokio::test]
async fn settings_change_while_connections_live() {
    let bench = Bench::start();
    let service = bench.service(&[bench.url()]);
    ask(&service, "a").await.unwrap();
    bench.peers.configure(&Config {
        fec_ratio: 0.0,
        ..Config::default()
    });
    ask(&service, "a").await.unwrap();
    let figures = bench.peers.figures().snapshots();
    assert!(figures[0].packets_sent > 0);
    bench.peers.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_exchange_that_waits_for_its_client_says_nothing() {
    let bench = Bench::start();
    let link = bench.pool().take(&bench.origin(true), false).await.unwrap();
    let mut exchange = Exchange::new(link, &head("/grpc.health.v1.Health/Check"));
    let (send, parts) = mpsc::channel::<Bytes>(8);
    let mut client = Parts(parts);
    {
        let mut asking = Box::pin(poll_fn(|cx| exchange.poll_head(cx, &mut client)));
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut asking).poll(cx).is_pending()));
        assert!(first.await);
        send.send(Bytes::from_static(&[0, 0, 0, 0, 0]))
            .await
            .unwrap();
        drop(send);
        asking.await.unwrap();
    }
    assert!(exchange.is_sent());
}
