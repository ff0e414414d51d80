//! Calls of gRPC through a route.

use std::future::{Pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http1::{Chunk, Fields, Framing, Gone, Inflow, RequestHead, ResponseHead, Target, Version};
use lifecycle::{Clock, Tasks};
use router::proxy::{
    Answer, Asked, Body, Caller, Installed, Origin, Proxy, Record, Route, Sources, Spending,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Timeout;
use upstream::http_service::{Pool, PoolSettings};

use crate::fake_grpc::Fake;

struct NoSources;

impl Sources for NoSources {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn secret(&self, _: &str) -> Option<String> {
        None
    }
}

struct Stage {
    proxy: Arc<Proxy>,
    clock: Clock,
}

/// What a call came to.
#[derive(Debug)]
struct Got {
    http_status: u16,
    /// In the head, or in the trailers.
    status: Option<u8>,
    messages: Vec<u8>,
    is_cut: bool,
}

impl Stage {
    fn new(upstreams: &[String], more: Value) -> Self {
        let clock = Clock::start();
        let pool = Pool::new(PoolSettings::default(), clock, Tasks::new());
        let spending = Arc::new(Spending::new(clock));
        let proxy = Arc::new(Proxy::new(clock, pool, spending, 1, 7));
        proxy.note_calls(true);
        let mut record = json!({
            "path": "/-/echo", "upstreams": upstreams, "accessRule": "true", "allowPrivate": true,
            "grpcServices": ["grpc.health.v1.Health"],
        });
        let fields = record.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let record = Record::read(&record).unwrap();
        let id = "a".to_owned();
        let problems = proxy.install(vec![Installed { id, record }], &NoSources);
        assert!(problems.is_empty(), "{problems:?}");
        Self { proxy, clock }
    }

    fn route(&self) -> Arc<Route> {
        self.proxy.route("a").unwrap()
    }

    fn asked(&self, head: RequestHead) -> Asked {
        Asked {
            head,
            from: Origin {
                peer: [192, 0, 2, 1].into(),
                client: [192, 0, 2, 1].into(),
                is_trusted: false,
                is_tls: false,
            },
            caller: Caller::Guest,
            has_our_token: false,
        }
    }

    async fn begin(&self, head: RequestHead, client: &mut Client) -> Answer {
        self.proxy
            .answer(&self.route(), self.asked(head), client)
            .await
    }

    async fn call(&self, path: &str, what: &str) -> Got {
        self.call_with(head(path, &[]), what).await
    }

    async fn call_with(&self, head: RequestHead, what: &str) -> Got {
        let mut client = self.client(what);
        let answer = self.begin(head, &mut client).await;
        all(answer, &mut client).await
    }

    fn client(&self, what: &str) -> Client {
        let field = [
            &[10, u8::try_from(what.len()).unwrap()][..],
            what.as_bytes(),
        ]
        .concat();
        let length = u32::try_from(field.len()).unwrap().to_be_bytes();
        Client {
            body: Some([&[0][..], &length, &field].concat().into()),
            clock: self.clock,
            alarm: None,
        }
    }
}

struct Client {
    body: Option<Bytes>,
    clock: Clock,
    alarm: Option<Pin<Box<Timeout<Pending<()>>>>>,
}

impl Inflow for Client {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        Poll::Ready(Ok(self.body.take().map_or(Chunk::End(None), Chunk::Data)))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Gone> {
        Poll::Pending
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        let now = self.clock.mono_ms();
        if now >= at {
            return Poll::Ready(());
        }
        let wait = Duration::from_millis(at - now);
        let mut alarm = Box::pin(tokio::time::timeout(wait, std::future::pending()));
        if alarm.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.alarm = Some(alarm);
        Poll::Pending
    }

    fn interim(&mut self, _: &ResponseHead) {}
}

const CHECK: &str = "/-/echo/grpc.health.v1.Health/Check";

fn head(path: &str, more: &[(&str, &str)]) -> RequestHead {
    let mut fields = Fields::new();
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        fields.push(name, value.as_bytes()).unwrap();
    }
    for (name, value) in more {
        fields.set(name, value.as_bytes()).unwrap();
    }
    RequestHead {
        method: http::Method::POST,
        target: Target::new(Bytes::copy_from_slice(path.as_bytes())).unwrap(),
        authority: Bytes::from_static(b"gate.example"),
        version: Version::Http2,
        fields,
        framing: Framing::Chunked,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
    }
}

fn status(fields: &Fields) -> Option<u8> {
    let value = fields.get_named("grpc-status")?;
    str::from_utf8(value).unwrap().parse().ok()
}

async fn all(answer: Answer, client: &mut Client) -> Got {
    let mut got = Got {
        http_status: answer.status,
        status: status(&answer.fields),
        messages: Vec::new(),
        is_cut: false,
    };
    let Body::Stream(mut streaming) = answer.body else {
        assert!(matches!(
            answer.framing,
            Framing::Empty | Framing::Length(_)
        ));
        return got;
    };
    loop {
        match poll_fn(|cx| streaming.poll_chunk(cx, client)).await {
            Ok(Chunk::Data(data)) => got.messages.extend_from_slice(&data),
            Ok(Chunk::End(trailers)) => {
                got.status = trailers.and_then(|trailers| status(&trailers));
                return got;
            }
            Err(_) => {
                got.is_cut = true;
                return got;
            }
        }
    }
}

async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("grpc://{}", listener.local_addr().unwrap())
}

async fn fake() -> (Fake, String) {
    let (fake, address) = Fake::serve().await;
    (fake, format!("grpc://{address}"))
}

#[tokio::test]
async fn a_call_goes_through_with_its_trailers_and_an_id_of_ours() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({}));
    let asked = head(CHECK, &[("x-guuid", "the client's own"), ("x-more", "1")]);
    let got = stage.call_with(asked, "a").await;
    assert_eq!((got.http_status, got.status), (200, Some(0)));
    assert_eq!(got.messages, [0, 0, 0, 0, 2, 8, 1]);
    let guuid = fake.heard("x-guuid").unwrap();
    let trace = fake.heard("traceparent").unwrap();
    assert_eq!(trace.get(3..35).unwrap(), guuid.replace('-', ""));
    assert_eq!(fake.heard("x-more").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_service_that_a_route_claims_is_reached_by_its_plain_path() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({}));
    let path = "/grpc.health.v1.Health/Check";
    let found = stage.proxy.find_call(&head(path, &[])).unwrap();
    assert_eq!(found.id, stage.route().id);
    assert!(
        stage
            .proxy
            .find_call(&head("/other.Service/Check", &[]))
            .is_none()
    );
    assert!(stage.proxy.takes_call(path, Some(b"application/grpc")));
    assert!(!stage.proxy.takes_call(path, Some(b"text/plain")));
    assert_eq!(stage.call(path, "a").await.status, Some(0));
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({}));
    let plain = head(CHECK, &[("content-type", "application/json")]);
    assert_eq!(stage.call_with(plain, "a").await.http_status, 415);
    let old = RequestHead {
        version: Version::Http11,
        ..head(CHECK, &[])
    };
    assert_eq!(stage.call_with(old, "a").await.http_status, 415);
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn what_an_endpoint_refuses_for_now_is_asked_of_the_other_one() {
    let ((first, one), (second, other)) = (fake().await, fake().await);
    let stage = Stage::new(&[one, other], json!({}));
    let got = stage.call(CHECK, "busy").await;
    assert_eq!((got.http_status, got.status), (200, Some(14)));
    assert_eq!((first.count(), second.count()), (1, 1));
    // Who does not ask for it may have begun with the call; other failures are nobody else's
    // business.
    assert_eq!(stage.call(CHECK, "unavailable").await.status, Some(14));
    assert_eq!(stage.call(CHECK, "internal").await.status, Some(13));
    assert_eq!(first.count() + second.count(), 4);
}

#[tokio::test]
async fn nobody_there_is_unavailable_in_the_words_of_grpc() {
    let stage = Stage::new(&[nobody().await], json!({}));
    let got = stage.call(CHECK, "a").await;
    assert_eq!((got.http_status, got.status), (200, Some(14)));
    let (_fake, url) = fake().await;
    let stage = Stage::new(&[nobody().await, url], json!({}));
    for _ in 0..10 {
        assert_eq!(stage.call(CHECK, "a").await.status, Some(0));
    }
}

#[tokio::test]
async fn failures_open_the_breaker_and_mistakes_of_callers_do_not() {
    let (fake, url) = fake().await;
    let breaker = json!({ "circuitBreaker": { "enabled": true, "failure_threshold": 3 } });
    let stage = Stage::new(&[url], breaker);
    for _ in 0..5 {
        assert_eq!(stage.call(CHECK, "not found").await.status, Some(5));
    }
    for _ in 0..3 {
        assert_eq!(stage.call(CHECK, "internal").await.status, Some(13));
    }
    assert_eq!(stage.call(CHECK, "a").await.status, Some(14));
    assert_eq!(fake.count(), 8);
}

#[tokio::test]
async fn the_clients_deadline_ends_the_call_here_and_there() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({}));
    let got = stage
        .call_with(head(CHECK, &[("grpc-timeout", "200m")]), "never")
        .await;
    assert_eq!((got.http_status, got.status), (200, Some(4)));
    let told = tokio::time::timeout(Duration::from_secs(5), fake.dropped.notified()).await;
    told.expect("the service hears that nobody waits");
}

#[tokio::test]
async fn a_stream_flows_and_dropping_it_cancels_the_call() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({}));
    let path = "/-/echo/grpc.health.v1.Health/Watch";
    let got = stage.call(path, "fails").await;
    assert_eq!((got.status, got.messages.len()), (Some(15), 21));
    fake.dropped.notified().await;
    let mut client = stage.client("a");
    let answer = stage.begin(head(path, &[]), &mut client).await;
    let Body::Stream(mut streaming) = answer.body else {
        panic!("not a stream");
    };
    let mut count = 0;
    while count < 21 {
        match poll_fn(|cx| streaming.poll_chunk(cx, &mut client))
            .await
            .unwrap()
        {
            Chunk::Data(data) => count += data.len(),
            Chunk::End(_) => panic!("it ended"),
        }
    }
    drop(streaming);
    let told = tokio::time::timeout(Duration::from_secs(5), fake.dropped.notified()).await;
    told.expect("the service hears that nobody waits");
}

#[tokio::test]
async fn a_refusal_of_the_route_is_a_status_too() {
    let (fake, url) = fake().await;
    let stage = Stage::new(&[url], json!({ "accessRule": "@request.auth.id != ''" }));
    let got = stage.call(CHECK, "a").await;
    assert_eq!((got.http_status, got.status), (200, Some(16)));
    assert_eq!(fake.count(), 0);
    assert!(!got.is_cut);
}
