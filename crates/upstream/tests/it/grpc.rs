//! gRPC services over TCP, under their policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use policy::{Backoff, BreakerSettings, BudgetSettings, Policy, Rate, Refusal, Retries, Timeouts};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::tokio_stream::Empty;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use upstream::grpc::{
    Call, Code, Descriptors, Failure, JsonFailure, MetadataMap, SchemaError, Service, Settings,
    Target, Tls,
};

/// A service that does what the name that it is asked for says.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) calls: Arc<AtomicU32>,
    pub(crate) begun: Arc<Notify>,
    pub(crate) dropped: Arc<Notify>,
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl Health for Fake {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let asked = request.get_ref().service.clone();
        match asked.as_str() {
            "unavailable" => Err(Status::unavailable("not now")),
            "unavailable once" if call == 0 => Err(Status::unavailable("not now")),
            "busy once" if call == 0 => {
                let mut busy = Status::unavailable("not now");
                let soon = "1".parse().unwrap();
                busy.metadata_mut().insert("grpc-retry-pushback-ms", soon);
                Err(busy)
            }
            "internal" => Err(Status::internal("it broke at line 7")),
            "not found" => Err(Status::not_found("no such thing")),
            "metadata" => match request.metadata().get("x-guuid") {
                Some(_) => Ok(Response::new(HealthCheckResponse { status: 1 })),
                None => Err(Status::invalid_argument("no x-guuid")),
            },
            "never" => {
                let _told = Told(Arc::clone(&self.dropped));
                self.begun.notify_one();
                std::future::pending().await
            }
            _ => Ok(Response::new(HealthCheckResponse { status: 1 })),
        }
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shows {
    V1,
    V1Alpha,
    Nothing,
}

pub(crate) struct Stage {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    tasks: Tasks,
}

impl Stage {
    pub(crate) async fn serve(shows: Shows) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (fake, tasks) = (Fake::default(), Tasks::new());
        let stage = Self {
            fake: fake.clone(),
            address: listener.local_addr().unwrap(),
            tasks: tasks.clone(),
        };
        let routes = routes(fake, shows);
        let stopping = tasks.stopping();
        let serving = tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                stopping.cancelled().await;
            });
        tasks.spawn("fake service", async move {
            drop(serving.await);
        });
        stage
    }

    pub(crate) fn calls(&self) -> u32 {
        self.fake.calls.load(Ordering::SeqCst)
    }
}

pub(crate) fn settings() -> policy::Settings {
    policy::Settings {
        timeouts: Timeouts {
            total: Some(Duration::from_secs(10)),
            per_try: None,
        },
        retries: Retries {
            attempts: 2,
            backoff: Backoff::new(Duration::from_millis(1), 1.0, Duration::from_millis(1), 0.0)
                .unwrap(),
            after_max: Duration::from_secs(1),
        },
        budget: BudgetSettings {
            share: 1.0,
            floor: 10,
        },
        ..policy::Settings::default()
    }
}

pub(crate) fn routes(fake: Fake, shows: Shows) -> Routes {
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(HealthServer::new(fake));
    if shows == Shows::V1 {
        routes = routes.add_service(descriptors().build_v1().unwrap());
    }
    if shows == Shows::V1Alpha {
        routes = routes.add_service(descriptors().build_v1alpha().unwrap());
    }
    routes
}

fn service_with(
    addresses: &[SocketAddr],
    change: impl FnOnce(&mut policy::Settings, &mut Option<BreakerSettings>, &mut Option<Descriptors>),
) -> Service {
    let (mut policy, mut breaker, mut descriptors) = (settings(), None, None);
    change(&mut policy, &mut breaker, &mut descriptors);
    let settings = Settings {
        name: "fake".into(),
        targets: addresses
            .iter()
            .map(|address| Target::parse(&format!("grpc://{address}")).unwrap())
            .collect(),
        tls: Tls::default(),
        policy: Policy::new(policy).unwrap(),
        breaker,
        descriptors,
        message_max: 1 << 20,
        connect_within: Duration::from_secs(5),
        peers: None,
    };
    Service::new(settings, Clock::start(), 7).unwrap()
}

fn service(addresses: &[SocketAddr]) -> Service {
    service_with(addresses, |_, _, _| {})
}

pub(crate) fn check() -> Call {
    Call {
        path: "/grpc.health.v1.Health/Check".parse().unwrap(),
        metadata: MetadataMap::new(),
        idempotent: false,
        timeout: Some(Duration::from_secs(5)),
    }
}

pub(crate) async fn ask(service: &Service, what: &str) -> Result<String, Failure> {
    ask_as(service, &check(), what).await
}

pub(crate) async fn ask_as(service: &Service, call: &Call, what: &str) -> Result<String, Failure> {
    let json = format!(r#"{{"service":"{what}"}}"#);
    match service.call_json(call, json.as_bytes()).await {
        Ok(answer) => Ok(String::from_utf8(answer.to_vec()).unwrap()),
        Err(JsonFailure::Call(failure)) => Err(failure),
        Err(JsonFailure::Schema(error)) => panic!("{error}"),
    }
}

pub(crate) async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn json_goes_in_and_comes_out_by_either_version_of_reflection() {
    for shows in [Shows::V1, Shows::V1Alpha] {
        let stage = Stage::serve(shows).await;
        let service = service(&[stage.address]);
        assert_eq!(ask(&service, "a").await.unwrap(), r#"{"status":"SERVING"}"#);
        assert_eq!(
            service.call_json(&check(), b"").await.unwrap(),
            r#"{"status":"SERVING"}"#
        );
        stage.tasks.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn descriptors_from_a_file_need_no_reflection() {
    let stage = Stage::serve(Shows::Nothing).await;
    let service = service_with(&[stage.address], |_, _, descriptors| {
        *descriptors = Some(Descriptors::read(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap());
    });
    assert_eq!(ask(&service, "a").await.unwrap(), r#"{"status":"SERVING"}"#);
}

#[tokio::test]
async fn without_reflection_the_schema_is_said_to_be_missing() {
    let stage = Stage::serve(Shows::Nothing).await;
    let error = service(&[stage.address]).call_json(&check(), b"{}").await;
    assert!(
        matches!(error, Err(JsonFailure::Schema(SchemaError::Reflection(_)))),
        "{error:?}"
    );
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn wrong_json_names_the_field_and_goes_nowhere() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    for (json, field) in [
        (r#"{"service":5}"#, "service"),
        (r#"{"sevrice":"a"}"#, "sevrice"),
        (r#"{"service":"a"} x"#, "trailing"),
        ("[", ""),
        ("\"a\"", ""),
    ] {
        let error = service.call_json(&check(), json.as_bytes()).await;
        match error {
            Err(JsonFailure::Schema(SchemaError::Request(problem))) => {
                assert!(problem.contains(field), "{json}: {problem}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn methods_that_are_not_there_or_stream_are_not_called() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    let at = |path: &str| Call {
        path: path.parse().unwrap(),
        ..check()
    };
    let error = service
        .call_json(&at("/grpc.health.v1.Health/Watch"), b"{}")
        .await;
    assert!(
        matches!(error, Err(JsonFailure::Schema(SchemaError::Streams(_)))),
        "{error:?}"
    );
    let error = service
        .call_json(&at("/grpc.health.v1.Health/Chekc"), b"{}")
        .await;
    assert!(
        matches!(error, Err(JsonFailure::Schema(SchemaError::NoMethod(_)))),
        "{error:?}"
    );
    let error = service.call_json(&at("/no.Such/Thing"), b"{}").await;
    assert!(
        matches!(error, Err(JsonFailure::Schema(SchemaError::Reflection(_)))),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_a_service_refuses_for_now_is_tried_again() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    ask(&service, "busy once").await.unwrap();
    assert_eq!(stage.calls(), 2);
    let failure = ask(&service, "unavailable").await.unwrap_err();
    assert_eq!(
        (failure.code, failure.said.as_deref()),
        (Code::Unavailable, Some("not now"))
    );
    assert_eq!(stage.calls(), 3, "it may have been carried out");
    let call = Call {
        idempotent: true,
        ..check()
    };
    ask_as(&service, &call, "unavailable").await.unwrap_err();
    assert_eq!(stage.calls(), 6, "one try and two more");
}

#[tokio::test]
async fn a_further_try_goes_to_the_other_endpoint() {
    let stage = Stage::serve(Shows::V1).await;
    let dead = dead_address().await;
    let service = service(&[dead, stage.address]);
    for _ in 0..20 {
        ask(&service, "a").await.unwrap();
    }
    assert_eq!(stage.calls(), 20);
}

#[tokio::test]
async fn a_failure_of_the_service_is_final_and_its_words_are_kept_apart() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    for (what, code) in [("internal", Code::Internal), ("not found", Code::NotFound)] {
        let failure = ask(&service, what).await.unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.said.is_some());
    }
    assert_eq!(stage.calls(), 2);
}

#[tokio::test]
async fn the_breaker_of_an_endpoint_opens_and_says_so() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service_with(&[stage.address], |policy, breaker, _| {
        policy.retries.attempts = 0;
        let open = Duration::from_secs(60);
        *breaker = Some(BreakerSettings {
            consecutive: 3,
            rate: None,
            open: Backoff::new(open, 1.0, open, 0.0).unwrap(),
            probes: 1,
            ramp: Duration::ZERO,
        });
    });
    for _ in 0..3 {
        ask(&service, "not found").await.unwrap_err();
    }
    for _ in 0..3 {
        ask(&service, "internal").await.unwrap_err();
    }
    let failure = ask(&service, "a").await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(
        matches!(failure.refusal, Some(Refusal::BreakerOpen { .. })),
        "{failure:?}"
    );
    assert_eq!(stage.calls(), 6);
    assert_eq!(service.endpoints()[0].opened, 1);
}

#[tokio::test]
async fn a_spent_rate_refuses_before_anything_is_sent() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service_with(&[stage.address], |policy, _, _| {
        policy.rate = Some(Rate::new(0.001, 2).unwrap());
    });
    ask(&service, "a").await.unwrap();
    ask(&service, "a").await.unwrap();
    let failure = ask(&service, "a").await.unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(stage.calls(), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_deadline_and_cancels_the_call() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    ask(&service, "a").await.unwrap();
    let call = Call {
        timeout: Some(Duration::from_millis(100)),
        ..check()
    };
    let failure = ask_as(&service, &call, "never").await.unwrap_err();
    assert_eq!(failure.code, Code::DeadlineExceeded);
    let waited = tokio::time::timeout(Duration::from_secs(5), stage.fake.dropped.notified()).await;
    waited.expect("the service hears that nobody waits");
    assert_eq!(stage.calls(), 2, "what may have been done is not repeated");
}

#[tokio::test]
async fn dropping_a_call_cancels_it_at_the_service() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    let call = check();
    tokio::select! {
        answer = ask_as(&service, &call, "never") => panic!("{answer:?}"),
        () = stage.fake.begun.notified() => {}
    }
    let waited = tokio::time::timeout(Duration::from_secs(5), stage.fake.dropped.notified()).await;
    waited.expect("the service hears that nobody waits");
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_after_a_try_without_answer() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service_with(&[stage.address], |policy, _, _| {
        policy.timeouts.per_try = Some(Duration::from_millis(100));
    });
    ask(&service, "a").await.unwrap();
    let call = Call {
        idempotent: true,
        ..check()
    };
    ask_as(&service, &call, "never").await.unwrap_err();
    assert_eq!(stage.calls(), 4);
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_was_not_sent() {
    let service = service_with(&[dead_address().await], |_, _, descriptors| {
        *descriptors = Some(Descriptors::read(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap());
    });
    let failure = ask(&service, "a").await.unwrap_err();
    assert_eq!((failure.code, failure.said), (Code::Unavailable, None));
}

#[tokio::test]
async fn metadata_goes_along_and_raw_messages_pass_as_they_are() {
    let stage = Stage::serve(Shows::V1).await;
    let service = service(&[stage.address]);
    let mut call = check();
    assert_eq!(
        ask_as(&service, &call, "metadata").await.unwrap_err().code,
        Code::InvalidArgument
    );
    call.metadata.insert("x-guuid", "a".parse().unwrap());
    ask_as(&service, &call, "metadata").await.unwrap();
    let answer = service.call(&call, Bytes::new()).await.unwrap();
    assert_eq!(&answer[..], [8, 1]);
}
