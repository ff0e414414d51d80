//! tonic's clients and services over Quantum, a stream per call and in the ordered mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::echo::{Client, Echo, Say, Seen};
use crate::pair::{Pair, timely, until};
use lifecycle::CancellationToken;
use quantum::codes::close;
use quantum::grpc::{self, Channel, Limits, Target};
use quantum::{Config, End, Priority, ReadError};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::{Code, Request};

struct Bench {
    pair: Pair,
    seen: Arc<Seen>,
    stop: CancellationToken,
    served: mpsc::Receiver<()>,
}

impl Bench {
    async fn start() -> Self {
        Self::with(Pair::start(Config::default()).await, Limits::default())
    }

    fn with(pair: Pair, limits: Limits) -> Self {
        let (done, served) = mpsc::channel(1);
        let (echo, stop) = (Echo::default(), CancellationToken::new());
        let seen = Arc::clone(&echo.seen);
        let serving = grpc::serve(
            pair.server.clone(),
            routes(echo),
            stop.clone(),
            limits,
            pair.tasks.clone(),
        );
        pair.tasks.spawn("serving", async move {
            serving.await;
            drop(done);
        });
        Self {
            pair,
            seen,
            stop,
            served,
        }
    }

    fn channel(&self) -> Channel {
        let target = Target {
            address: self.pair.address().to_string(),
            server_name: "localhost".to_owned(),
        };
        Channel::new(self.pair.client.clone(), target, self.pair.tasks.clone())
    }

    fn client(&self) -> Client<Channel> {
        Client::new(self.channel())
    }
}

/// HTTP/2 on one stream.
struct Ordered {
    pair: Pair,
    seen: Arc<Seen>,
}

impl Ordered {
    async fn start() -> Self {
        let pair = Pair::start(Config::default()).await;
        let echo = Echo::default();
        let seen = Arc::clone(&echo.seen);
        let incoming = grpc::incoming(pair.server.clone(), &pair.tasks);
        let server = tonic::transport::Server::builder().add_routes(routes(echo));
        pair.tasks.spawn("serving", async move {
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { pair, seen }
    }

    async fn client(&self) -> Client<tonic::transport::Channel> {
        let target = Target {
            address: self.pair.address().to_string(),
            server_name: "localhost".to_owned(),
        };
        let connector = grpc::connector(self.pair.client.clone(), target);
        let endpoint = tonic::transport::Endpoint::from_static("http://quantum");
        Client::new(endpoint.connect_with_connector(connector).await.unwrap())
    }
}

fn routes(echo: Echo) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move { reporter.set_serving::<Echo>().await });
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    Routes::new(echo)
        .add_service(health)
        .add_service(reflection)
}

/// Waits for a count.
async fn reaches(count: &AtomicUsize, wanted: usize) {
    until(|| count.load(Ordering::SeqCst) >= wanted).await;
}

/// What must hold over any carrier, given what the service sees.
async fn all_kinds_of_call<T>(mut client: Client<T>, seen: &Seen)
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    // One question, one answer, metadata of both kinds both ways.
    let mut request = Request::new(Say::new(&b"hello"[..]));
    let guuid = "550e8400-e29b-41d4-a716-446655440000";
    let metadata = request.metadata_mut();
    metadata.insert("x-guuid", guuid.parse().unwrap());
    metadata.insert("x-text", "some text".parse().unwrap());
    metadata.insert_bin("x-raw-bin", MetadataValue::from_bytes(&[0, 255, 10]));
    let answer = client.unary(request).await.unwrap();
    assert_eq!(&answer.get_ref().data[..], b"hello");
    assert_eq!(answer.metadata().get("x-guuid").unwrap(), guuid);
    assert_eq!(answer.metadata().get("x-text-back").unwrap(), "some text");
    let raw = answer.metadata().get_bin("x-raw-back-bin").unwrap();
    assert_eq!(&raw.to_bytes().unwrap()[..], &[0, 255, 10]);
    assert_eq!(answer.metadata().get("caller").unwrap(), "known");

    // Errors come whole.
    let status = client.say(b"fail").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "not now: späť \n%");
    assert_eq!(status.details(), &[0, 1, 2, 255]);
    assert_eq!(status.metadata().get("reason").unwrap(), "asked for");
    let status = client.unknown().await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);

    // Sequences.
    let answers = client.server(Say::counting(&b"x"[..], 50)).await.unwrap();
    let numbers: Vec<u32> = answers.map(|it| it.unwrap().count).collect().await;
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    let questions = tokio_stream::iter((0..50_u8).map(|at| Say::new(vec![at; 100])));
    let all = client.client(questions).await.unwrap();
    assert_eq!((all.count, all.data.len()), (50, 5_000));
    let (ask, questions) = mpsc::channel(1);
    let mut answers = client.both(ReceiverStream::new(questions)).await.unwrap();
    for number in 0..20 {
        ask.send(Say::counting(&b"y"[..], number)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.count, number);
    }
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());

    // A server that has heard enough.
    let questions = (0..).map(|at| Say::new(if at == 9 { &b"enough"[..] } else { b"more" }));
    let status = client
        .client(tokio_stream::iter(questions))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);

    // Nobody waits any more.
    let (begun, cancelled) = (
        seen.begun.load(Ordering::SeqCst),
        seen.cancelled.load(Ordering::SeqCst),
    );
    {
        let call = client.say(b"hang");
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("it does not end"),
            () = reaches(&seen.begun, begun + 1) => {}
        }
    }
    reaches(&seen.cancelled, cancelled + 1).await;
    let mut endless = client.server(Say::new(&b"z"[..])).await.unwrap();
    assert!(endless.message().await.unwrap().is_some());
    drop(endless);
    reaches(&seen.cancelled, cancelled + 2).await;

    // Deadlines.
    let status = client.within(b"hang", 30).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
    reaches(&seen.cancelled, cancelled + 3).await;

    // Large messages.
    let large: bytes::Bytes = (0..8 << 20).map(|at| (at % 253) as u8).collect();
    let answer = client.unary(Request::new(Say::new(large.clone()))).await;
    assert!(answer.unwrap().into_inner().data == large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_works_on_a_stream_of_its_own() {
    let bench = Bench::start().await;
    timely(all_kinds_of_call(bench.client(), &bench.seen)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_works_over_http2_in_order() {
    let bench = Ordered::start().await;
    timely(async {
        all_kinds_of_call(bench.client().await, &bench.seen).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_get_through_a_link_that_loses() {
    let pair = Pair::lossy(Config::default(), 0.05).await;
    let bench = Bench::with(pair, Limits::default());
    timely(async {
        let channel = bench.channel();
        let calls = (0..8).map(|_| {
            let mut client = Client::new(channel.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(client.say(&[7; 1_000]).await.unwrap().data.len(), 1_000);
                }
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_answer() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    let bench = Bench::start().await;
    timely(async {
        let mut health = HealthClient::new(bench.channel());
        let request = HealthCheckRequest {
            service: "test.v1.Echo".to_owned(),
        };
        let mut watching = health.watch(request.clone()).await.unwrap().into_inner();
        while watching.message().await.unwrap().unwrap().status != 1 {}
        assert_eq!(health.check(request).await.unwrap().get_ref().status, 1);

        let mut reflection = ServerReflectionClient::new(bench.channel());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answers = reflection.server_reflection_info(tokio_stream::once(request));
        let mut answers = answers.await.unwrap().into_inner();
        let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
        assert!(answer.contains("grpc.health.v1.Health"), "{answer}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_its_call_only() {
    let bench = Bench::start().await;
    timely(async {
        let mut client = bench.client();
        let status = client.say(b"panic").await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            &client.say(b"still here").await.unwrap().data[..],
            b"still here"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_above_the_limit_are_refused_untouched() {
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let bench = Bench::with(Pair::start(Config::default()).await, limits);
    timely(async {
        let mut first = bench.client();
        let hanging = tokio::spawn(async move { first.say(b"hang").await });
        reaches(&bench.seen.begun, 1).await;
        let status = bench.client().say(b"one more").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!may_have_reached(&status));
        assert_eq!(bench.seen.begun.load(Ordering::SeqCst), 1);
        hanging.abort();
        reaches(&bench.seen.cancelled, 1).await;
        while bench.client().say(b"again").await.is_err() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_finishes_what_it_began() {
    let mut bench = Bench::start().await;
    timely(async {
        let mut client = bench.client();
        let (ask, questions) = mpsc::channel(1);
        let mut answers = client.both(ReceiverStream::new(questions)).await.unwrap();
        ask.send(Say::new(&b"1"[..])).await.unwrap();
        assert!(answers.message().await.unwrap().is_some());
        bench.stop.cancel();
        let refused = loop {
            if let Err(status) = bench.client().say(b"new").await {
                break status;
            }
        };
        assert_eq!(refused.code(), Code::Unavailable);
        ask.send(Say::new(&b"2"[..])).await.unwrap();
        assert_eq!(&answers.message().await.unwrap().unwrap().data[..], b"2");
        drop(ask);
        assert!(answers.message().await.unwrap().is_none());
        assert!(bench.served.recv().await.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_replaced() {
    let bench = Bench::start().await;
    timely(async {
        let channel = bench.channel();
        let mut client = Client::new(channel.clone());
        client.say(b"one").await.unwrap();
        let first = channel.connection().unwrap();
        first.close(close::APPLICATION, "a test wants it");
        first.closed().await;
        client.say(b"two").await.unwrap();
        assert_ne!(channel.connection().unwrap().guuid(), first.guuid());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unavailable_and_was_not_reached() {
    let config = Config {
        handshake_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let pair = Pair::start(config).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    timely(async {
        let target = Target {
            address: silent.local_addr().unwrap().to_string(),
            server_name: "localhost".to_owned(),
        };
        let channel = Channel::new(pair.client.clone(), target, pair.tasks.clone());
        let mut client = Client::new(channel);
        let status = client.say(b"anybody?").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!may_have_reached(&status));
        // While it waits to try again, calls fail at once.
        let status = client.within(b"anybody?", 10_000).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_thousand_bytes_is_one_packet_each_way() {
    let off = Config {
        fec_ratio: 0.0,
        keep_alive: Duration::ZERO,
        ..Config::default()
    };
    let bench = Bench::with(Pair::start(off).await, Limits::default());
    timely(async {
        let mut client = bench.client();
        for _ in 0..50 {
            client.say(&[1; 1_000]).await.unwrap();
        }
        let figures = bench.pair.client.figures();
        let sent = || figures.of(quantum::Role::Client).packets_sent;
        let before = sent();
        for _ in 0..100 {
            client.say(&[1; 1_000]).await.unwrap();
        }
        // One for the call, at most one that acknowledges the answer.
        let each = (sent() - before) as f64 / 100.0;
        assert!(each <= 2.1, "{each} packets per call");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_call_is_reset_and_harms_no_other() {
    let bench = Bench::start().await;
    timely(async {
        let address = bench.pair.server.local_addr();
        let connection = bench.pair.client.connect(address, "localhost").await;
        let connection = connection.unwrap();
        let large = [&[1][..], &[b'x'; 20_000]].concat();
        let wrong: [(&[u8], &str); 6] = [
            (&[9], "unknown kind"),
            (&[2, 0, 0], "a body first"),
            (&[3, 0x81], "trailers first"),
            (&[1, 0x20], "unknown form of a field"),
            (&[1, 0x40, 200], "cut within a field"),
            (&large, "too large a block"),
        ];
        for (message, what) in wrong {
            let (mut send, mut recv) = connection.open(Priority::Unary).await.unwrap();
            let message = bytes::Bytes::copy_from_slice(message);
            send.write(message, End::Message).await.unwrap();
            assert_eq!(
                recv.read().await,
                Err(ReadError::Reset(grpc::code::PROTOCOL)),
                "{what}"
            );
        }
        // Without a path there is an answer, if not the one that was hoped for.
        let (mut send, mut recv) = connection.open(Priority::Unary).await.unwrap();
        send.write(bytes::Bytes::from_static(&[1, 0x80]), End::Stream)
            .await
            .unwrap();
        let answer = recv.read().await.unwrap().unwrap();
        assert_eq!((answer.data[0], answer.end), (1, End::Stream));
        assert_eq!(
            &bench.client().say(b"fine").await.unwrap().data[..],
            b"fine"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_ends_when_the_tasks_are_stopped() {
    let bench = Bench::start().await;
    timely(async {
        let mut client = bench.client();
        client.say(b"one").await.unwrap();
        let hanging = tokio::spawn(async move { client.say(b"hang").await });
        reaches(&bench.seen.begun, 2).await;
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = Target {
            address: silent.local_addr().unwrap().to_string(),
            server_name: "localhost".to_owned(),
        };
        let (client, tasks) = (bench.pair.client.clone(), bench.pair.tasks.clone());
        let mut lost = Client::new(Channel::new(client, target, tasks));
        let trying = tokio::spawn(async move { lost.say(b"anybody?").await });
        assert!(bench.pair.tasks.stop(crate::pair::patience()).await);
        for call in [hanging, trying] {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    })
    .await;
}

/// A server that breaks off, in each of the places where it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_an_error() {
    let pair = Pair::start(Config::default()).await;
    let target = Target {
        address: pair.server.local_addr().to_string(),
        server_name: "localhost".to_owned(),
    };
    let channel = Channel::new(pair.client.clone(), target, pair.tasks.clone());
    let mut client = Client::new(channel);
    timely(async {
        let headers = bytes::Bytes::from_static(&[1, 0x80]);
        let data = bytes::Bytes::from_static(&[2, 0, 0, 0, 0, 9, 1]);
        type Script<'a> = (&'a [(&'a bytes::Bytes, End)], u32, Code);
        let answers: [Script<'_>; 4] = [
            (&[], 7, Code::Internal),
            (&[], grpc::code::LEAVING, Code::Unavailable),
            (&[(&headers, End::Stream)], 0, Code::Unknown),
            (
                &[(&headers, End::Message), (&data, End::Stream)],
                0,
                Code::Internal,
            ),
        ];
        let serving = pair.server.clone();
        let (next, mut scripts) = mpsc::channel::<(Vec<(bytes::Bytes, End)>, u32)>(1);
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Some((parts, code)) = scripts.recv().await {
                let fresh = serving.accept();
                let fresh = tokio::time::timeout(Duration::from_millis(100), fresh).await;
                connections.extend(fresh.ok().flatten());
                let connection = connections.last().unwrap();
                let (mut send, recv) = connection.accept().await.unwrap();
                for (part, end) in parts {
                    send.write(part, end).await.unwrap();
                }
                send.reset(code);
                drop(recv);
            }
        });
        for (parts, code, expected) in answers {
            let parts = parts.iter().map(|(part, end)| ((*part).clone(), *end));
            next.send((parts.collect(), code)).await.unwrap();
            let status = client.say(b"well?").await.unwrap_err();
            assert_eq!(status.code(), expected, "{status:?}");
        }
    })
    .await;
}

/// One that lets clients in and turns them away at once, as one that refuses their certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_us_away_is_not_stormed() {
    let pair = Pair::start(Config::default()).await;
    let target = Target {
        address: pair.server.local_addr().to_string(),
        server_name: "localhost".to_owned(),
    };
    let channel = Channel::new(pair.client.clone(), target, pair.tasks.clone());
    let mut client = Client::new(channel);
    timely(async {
        let (serving, seen) = (pair.server.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(connection) = serving.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connection.close(close::REFUSED, "not you");
            }
        });
        let mut calls = 0;
        let begun = pair.clock.elapsed();
        while pair.clock.elapsed() - begun < Duration::from_millis(500) {
            let status = client.say(b"well?").await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            calls += 1;
            tokio::task::yield_now().await;
        }
        let connections = seen.load(Ordering::SeqCst);
        assert!((2..=10).contains(&connections), "{connections} for {calls}");
        assert!(calls > connections);
    })
    .await;
}

fn may_have_reached(status: &tonic::Status) -> bool {
    let source = std::error::Error::source(status).unwrap();
    let error = source.downcast_ref::<grpc::CallError>().unwrap();
    error.may_have_reached()
}
