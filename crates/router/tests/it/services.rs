//! Rpc methods that a gRPC service answers.

use std::time::Duration;

use bus::Answer;
use bytes::Bytes;
use lifecycle::Clock;
use policy::{Policy, Rate, Settings as PolicySettings};
use protocol::codec::Encoding;
use protocol::message::Error;
use router::services::{Binding, Form, MetadataKey, Services, Who};
use upstream::grpc::{MetadataMap, Service, Settings, Target, Tls};

use crate::fake_grpc::Fake;

struct Bench {
    fake: Fake,
    services: Services,
}

impl Bench {
    async fn start(change: impl FnOnce(&mut Binding, &mut PolicySettings)) -> Self {
        let (fake, address) = Fake::serve().await;
        let clock = Clock::start();
        let service = |policy| {
            let settings = Settings {
                name: "fake".into(),
                targets: vec![Target::parse(&format!("grpc://{address}")).unwrap()],
                tls: Tls::default(),
                policy: Policy::new(policy).unwrap(),
                breaker: None,
                descriptors: None,
                message_max: 1 << 20,
                connect_within: Duration::from_secs(5),
                peers: None,
            };
            Service::new(settings, clock, 7).unwrap()
        };
        let mut policy = PolicySettings::default();
        let mut binding = Binding {
            method: "health.check".into(),
            service: service(policy.clone()),
            path: "/grpc.health.v1.Health/Check".parse().unwrap(),
            form: Form::Json,
            timeout: Duration::from_secs(5),
            idempotent: false,
            pass_messages: false,
            metadata: MetadataMap::new(),
            user_key: Some(MetadataKey::from_static("x-user-id")),
        };
        change(&mut binding, &mut policy);
        binding.service = service(policy);
        Self {
            fake,
            services: Services::new(vec![binding], None, true, clock),
        }
    }

    async fn call_as(&self, encoding: Encoding, data: &str) -> Result<String, Error> {
        let who = Who {
            user: "alice",
            encoding,
        };
        let data = Bytes::copy_from_slice(data.as_bytes());
        let answer = match self.services.call("health.check", who, data) {
            Answer::Now(answer) => answer,
            Answer::Later(answer) => answer.await,
        };
        answer.map(|data| String::from_utf8_lossy(&data).into_owned())
    }

    async fn call(&self, data: &str) -> Result<String, Error> {
        self.call_as(Encoding::Json, data).await
    }
}

#[tokio::test]
async fn the_service_is_told_who_calls_and_by_which_request() {
    let bench = Bench::start(|_, _| {}).await;
    assert_eq!(bench.call("{}").await.unwrap(), r#"{"status":"SERVING"}"#);
    assert_eq!(bench.fake.heard("x-user-id").as_deref(), Some("alice"));
    let guuid = bench.fake.heard("x-guuid").unwrap();
    let trace = bench.fake.heard("traceparent").unwrap();
    assert_eq!(uuid::Uuid::parse_str(&guuid).unwrap().to_string(), guuid);
    assert_eq!(trace.get(3..35).unwrap(), guuid.replace('-', ""));
    bench.call("{}").await.unwrap();
    assert_ne!(bench.fake.heard("x-guuid").unwrap(), guuid);
}

#[tokio::test]
async fn wrong_data_is_told_by_field_and_goes_nowhere() {
    let bench = Bench::start(|_, _| {}).await;
    let error = bench.call(r#"{"service":[]}"#).await.unwrap_err();
    assert_eq!((error.code, error.temporary), (107, false));
    assert!(error.message.contains("service"), "{}", error.message);
    assert_eq!(bench.fake.count(), 0);
    let (_, figures) = bench.services.figures().next().unwrap();
    assert_eq!((figures.refused(), figures.by_code()), (1, [0; 17]));
}

#[tokio::test]
async fn a_status_has_its_own_code_and_the_services_words_stay_inside() {
    let bench = Bench::start(|_, _| {}).await;
    for (asked, code, temporary) in [
        ("not found", 1005, false),
        ("internal", 1013, false),
        ("unavailable", 1014, true),
    ] {
        let data = format!(r#"{{"service":"{asked}"}}"#);
        let error = bench.call(&data).await.unwrap_err();
        assert_eq!((error.code, error.temporary), (code, temporary), "{asked}");
        assert!(
            !error.message.contains("no such thing"),
            "{}",
            error.message
        );
        assert!(!error.message.contains("line 7"), "{}", error.message);
    }
}

#[tokio::test]
async fn words_are_passed_on_where_that_is_wanted() {
    let bench = Bench::start(|binding, _| binding.pass_messages = true).await;
    let error = bench.call(r#"{"service":"not found"}"#).await.unwrap_err();
    assert_eq!(error.message, "service: not found: no such thing");
}

#[tokio::test]
async fn a_policy_refuses_in_the_words_of_the_protocol() {
    let bench = Bench::start(|_, policy| policy.rate = Some(Rate::new(0.001, 1).unwrap())).await;
    bench.call("{}").await.unwrap();
    let error = bench.call("{}").await.unwrap_err();
    assert_eq!((error.code, error.temporary), (111, true));
}

#[tokio::test]
async fn no_answer_in_time_is_a_deadline() {
    let bench = Bench::start(|binding, _| binding.timeout = Duration::from_millis(300)).await;
    bench.call("{}").await.unwrap();
    let error = bench.call(r#"{"service":"never"}"#).await.unwrap_err();
    assert_eq!(error.code, 1004);
    let told = tokio::time::timeout(Duration::from_secs(5), bench.fake.dropped.notified()).await;
    told.expect("the service hears that nobody waits");
}

#[tokio::test]
async fn protobuf_passes_as_it_stands_and_in_json_as_base64() {
    let bench = Bench::start(|binding, _| binding.form = Form::Protobuf).await;
    let answer = bench.call_as(Encoding::Protobuf, "").await.unwrap();
    assert_eq!(answer.as_bytes(), [8, 1]);
    // A request whose field `service` is "a".
    assert!(bench.call(r#"{"base64":"CgFh"}"#).await.is_ok());
    for wrong in [r#"{"service":"a"}"#, r#"{"base64":"*"}"#, "1"] {
        assert_eq!(bench.call(wrong).await.unwrap_err().code, 107, "{wrong}");
    }
}

#[tokio::test]
async fn a_method_that_was_unbound_meanwhile_is_not_there() {
    let bench = Bench::start(|_, _| {}).await;
    let who = Who {
        user: "",
        encoding: Encoding::Json,
    };
    let answer = bench.services.call("other", who, Bytes::new());
    assert!(matches!(answer, Answer::Now(Err(Error { code: 104, .. }))));
}
