//! Calls of ordinary gRPC clients that a route carries to a service as they are.

use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::config::config;
use e2e::desk::v1::desk_service_client::DeskServiceClient;
use e2e::desk::v1::{AddRequest, CountRequest, SayRequest, TalkRequest};
use e2e::desk::{Desk, Options, Way, orders};
use e2e::proxy::{route, settings};
use prost::Message as _;
use serde_json::{Value, json};
use testkit::{Gateway, PATIENCE};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

fn desk() -> anyhow::Result<Desk> {
    Desk::start_with(Options { loss: Some(0.05) })
}

const WAYS: [Way; 3] = [Way::Tcp, Way::Quantum, Way::Link];

/// A gateway with a route `/-/desk` to the service, which takes calls from their plain paths
/// too; `more` has further fields of the route.
fn gateway(desk: &Desk, way: Way, more: &Value) -> anyhow::Result<Gateway> {
    let mut fields = json!({ "grpcServices": [
        "e2e.v1.DeskService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
    ] });
    super::merge(&mut fields, more);
    let routes = json!([route("/-/desk", &desk.url(way), &fields)]);
    let mut text = config(&settings(&routes, &json!({})));
    text.push_str(&format!("quantum: {}\n", json!({ "tls": desk_tls(desk) })));
    Gateway::start(&text)
}

/// Routes ask for the name that stands in the URL.
fn desk_tls(desk: &Desk) -> Value {
    let mut tls = desk.tls();
    if let Some(tls) = tls.as_object_mut() {
        tls.remove("server_name");
    }
    tls
}

/// Runs a test's calls; a test that hangs fails.
fn calls<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(async { tokio::time::timeout(2 * PATIENCE, what).await })?
}

/// Connections go on where the test waits for something else.
fn runtime() -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build()
}

async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?)
}

fn text(text: &str) -> SayRequest {
    SayRequest {
        text: text.to_owned(),
        ..SayRequest::default()
    }
}

fn texts(text: &str) -> TalkRequest {
    let text = text.to_owned();
    TalkRequest { text }
}

#[test]
fn all_four_kinds_of_call_pass_with_and_without_the_prefix() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({}))?;
        let address = gateway.main_addr();
        calls(async move {
            let channel = connect(address).await?;
            let prefixed = format!("http://{address}/-/desk").parse()?;
            for mut client in [
                DeskServiceClient::new(channel.clone()),
                DeskServiceClient::with_origin(channel, prefixed),
            ] {
                every_kind(&mut client).await?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

async fn every_kind(client: &mut DeskServiceClient<Channel>) -> anyhow::Result<()> {
    let mut request = Request::new(text("hello"));
    let metadata = request.metadata_mut();
    // Which call it is says the gateway, by the trace that the client began.
    metadata.insert("x-guuid", "00000000-0000-4000-8000-000000000001".parse()?);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    metadata.insert("traceparent", trace.parse()?);
    let answer = client.say(request).await?;
    let value = answer.metadata().get_bin("x-desk-bin");
    let value = value.and_then(|value| value.to_bytes().ok());
    assert_eq!(value.as_deref(), Some(orders::DETAILS));
    let answer = answer.into_inner();
    assert_eq!(answer.text, "hello");
    assert_eq!(answer.guuid, "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");

    let count = CountRequest {
        to: 500,
        filling: 100,
        hold: false,
    };
    let mut numbers = client.count(count).await?.into_inner();
    let mut heard = Vec::new();
    while let Some(one) = numbers.message().await? {
        assert_eq!(one.filling.len(), 100);
        heard.push(one.number);
    }
    assert_eq!(heard, (1..=500).collect::<Vec<_>>());
    assert!(numbers.trailers().await?.is_some());

    let numbers = (1..=1_000).map(|number| AddRequest { number });
    let sum = client.add(tokio_stream::iter(numbers)).await?;
    assert_eq!(sum.into_inner().sum, 500_500);

    let (say, said) = tokio::sync::mpsc::channel(1);
    let mut answers = client.talk(ReceiverStream::new(said)).await?.into_inner();
    for number in 0..20 {
        // Each waits for the answer to the one before, so both directions are open at once.
        say.send(texts(&number.to_string())).await?;
        let heard = answers.message().await?.map(|answer| answer.text);
        assert_eq!(heard, Some(number.to_string()));
    }
    drop(say);
    assert!(answers.message().await?.is_none());
    Ok(())
}

#[test]
fn large_messages_pass_both_ways() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({ "maxBody": 16 << 20 }))?;
        let address = gateway.main_addr();
        calls(async move {
            let mut client =
                DeskServiceClient::new(connect(address).await?).max_decoding_message_size(16 << 20);
            let large = "ü".repeat(2 << 20);
            let answer = client.say(text(&large)).await?.into_inner();
            assert_eq!(answer.text.len(), large.len());
            assert!(answer.text == large, "{way:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn an_error_keeps_its_code_words_and_details() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({}))?;
        let address = gateway.main_addr();
        calls(async move {
            let mut client = DeskServiceClient::new(connect(address).await?);
            let status = client.say(text(orders::REFUSE)).await.unwrap_err();
            assert_eq!(
                status.code(),
                Code::FailedPrecondition,
                "{way:?}: {status:?}"
            );
            assert_eq!(status.message(), orders::INSIDE);
            assert_eq!(status.details(), orders::DETAILS);
            let status = client.say(text(orders::BREAK)).await.unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{status:?}");
            client.say(text("and on")).await?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_cancelled_call_is_let_go_by_the_service() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({}))?;
        let address = gateway.main_addr();
        let desk = &desk;
        let waits = |mark: usize, action: &str| desk.wait_action(mark, action).map(drop);
        calls(async move {
            let mut client = DeskServiceClient::new(connect(address).await?);
            // Before anything was answered.
            let mark = desk.log().mark();
            let mut other = client.clone();
            let holding = tokio::spawn(async move { other.say(text(orders::HOLD)).await });
            waits(mark, "request_received")?;
            holding.abort();
            waits(mark, orders::LET_GO)?;
            // Within an answer.
            let mark = desk.log().mark();
            let count = CountRequest {
                to: 3,
                filling: 10,
                hold: true,
            };
            let mut numbers = client.count(count).await?.into_inner();
            for expected in 1..=3 {
                let heard = numbers.message().await?.map(|one| one.number);
                assert_eq!(heard, Some(expected));
            }
            drop(numbers);
            waits(mark, orders::LET_GO)?;
            Ok(())
        })?;
        // A client that dies within both directions.
        let mark = desk.log().mark();
        let runtime = runtime()?;
        runtime.block_on(async {
            let mut client = DeskServiceClient::new(connect(address).await?);
            let (say, said) = tokio::sync::mpsc::channel(1);
            let mut answers = client.talk(ReceiverStream::new(said)).await?.into_inner();
            say.send(texts("a")).await?;
            assert!(answers.message().await?.is_some());
            tokio::spawn(async move { (answers, say, client, std::future::pending::<()>().await) });
            anyhow::Ok(())
        })?;
        runtime.shutdown_background();
        desk.log().wait_for(mark, PATIENCE, |line| {
            line["action"] == orders::LET_GO || line["action"] == orders::OVER
        })?;
        gateway.wait_metric("gateway_active_connections", |active| active == 0.0)?;
    }
    Ok(())
}

#[test]
fn a_deadline_ends_the_call_everywhere() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({}))?;
        let address = gateway.main_addr();
        // tonic's clients and servers keep the time themselves and call it a cancellation.
        let mark = desk.log().mark();
        let code = calls(async move {
            let mut client = DeskServiceClient::new(connect(address).await?);
            let mut request = Request::new(text(orders::HOLD));
            request.set_timeout(Duration::from_millis(400));
            Ok(client.say(request).await.unwrap_err().code())
        })?;
        assert!(
            matches!(code, Code::Cancelled | Code::DeadlineExceeded),
            "{way:?}: {code}"
        );
        desk.wait_action(mark, orders::LET_GO)?;
        // The gateway keeps it for others, and tells the service how much is left.
        let mark = desk.log().mark();
        let begun = Instant::now();
        let told = curl(&gateway, "400m", &text(orders::HOLD))?;
        let took = begun.elapsed();
        let is_told = |code: u8| told.contains(&format!("grpc-status: {code}"));
        assert!(
            is_told(4) || (way == Way::Tcp && is_told(1)),
            "{way:?}: {told}"
        );
        assert!(took >= Duration::from_millis(390), "{way:?}: {took:?}");
        desk.wait_action(mark, orders::LET_GO)?;
    }
    Ok(())
}

/// The head and the trailers of the answer to a call with this timeout.
fn curl(gateway: &Gateway, timeout: &str, say: &SayRequest) -> anyhow::Result<String> {
    let message = say.encode_to_vec();
    let length = u32::try_from(message.len())?;
    let framed = [&[0], length.to_be_bytes().as_slice(), &message].concat();
    let path = gateway.folder().join("call");
    std::fs::write(&path, framed)?;
    let output = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "--max-time", "20"])
        .args(["-D", "-", "-o", "answer", "--data-binary", "@call"])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args(["-H", &format!("grpc-timeout: {timeout}")])
        .arg(format!("http://{}/{}", gateway.main_addr(), super::SAY))
        .current_dir(gateway.folder())
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "curl: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn health_and_reflection_pass() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = gateway(&desk, way, &json!({}))?;
        let address = gateway.main_addr();
        calls(async move {
            let channel = connect(address).await?;
            let mut health = HealthClient::new(channel.clone());
            let answer = health.check(HealthCheckRequest::default()).await?;
            assert_eq!(answer.into_inner().status, 1);
            let mut watched = health
                .watch(HealthCheckRequest::default())
                .await?
                .into_inner();
            assert_eq!(watched.message().await?.map(|it| it.status), Some(1));
            drop(watched);

            let mut reflection = ServerReflectionClient::new(channel);
            let ask = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let answers = reflection
                .server_reflection_info(tokio_stream::iter([ask]))
                .await?;
            let answer = answers.into_inner().message().await?;
            let answer = answer.and_then(|answer| answer.message_response);
            let Some(MessageResponse::ListServicesResponse(listed)) = answer else {
                anyhow::bail!("{answer:?}");
            };
            let names: Vec<_> = listed.service.into_iter().map(|it| it.name).collect();
            assert!(
                names.contains(&"e2e.v1.DeskService".to_owned()),
                "{names:?}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_the_gateway_refuses_it_says_as_a_status() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let closed = json!({ "accessRule": "@request.auth.id != ''" });
    for (more, expected) in [
        (json!({ "maxConcurrent": 1 }), Code::ResourceExhausted),
        (closed, Code::Unauthenticated),
        (json!({ "accessRule": "false" }), Code::PermissionDenied),
    ] {
        let gateway = gateway(&desk, Way::Quantum, &more)?;
        let address = gateway.main_addr();
        let code = calls(async move {
            let mut client = DeskServiceClient::new(connect(address).await?);
            let hold = CountRequest {
                to: 1,
                filling: 0,
                hold: true,
            };
            let held = client.count(hold).await;
            let status = match held {
                Ok(answer) => {
                    let mut numbers = answer.into_inner();
                    numbers.message().await?;
                    client.say(text("one too many")).await.unwrap_err()
                }
                Err(status) => status,
            };
            Ok(status.code())
        })?;
        assert_eq!(code, expected, "{more}");
    }
    let gateway = gateway(&desk, Way::Quantum, &json!({}))?;
    let address = gateway.main_addr();
    calls(async move {
        let channel = connect(address).await?;
        let elsewhere = format!("http://{address}/-/nowhere").parse()?;
        let mut client = DeskServiceClient::with_origin(channel, elsewhere);
        let status = client.say(text("a")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
        Ok(())
    })
}
