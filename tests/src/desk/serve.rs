//! The process of the service.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use lifecycle::{Clock, Stops, Tasks};
use quantum::grpc::Limits;
use quantum::identity::{Identity, Wanted};
use quantum::tls::{Clients, ServerTls};
use quantum::{Endpoint, EndpointConfig};
use serde_json::json;
use testkit::{LinkConfig, LossyLink};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

use super::DESCRIPTORS;
use super::service::{Works, print_line};
use super::v1::desk_service_server::DeskServiceServer;

/// Runs the service until it is told to stop. Arguments are `name=value`:
///
/// | name | value |
/// |---|---|
/// | `keys` | folder of the identity, which is made if there is none |
/// | `tcp`, `quantum` | port on 127.0.0.1 to listen at |
/// | `loss` | share of datagrams that a link in front of `quantum` loses |
/// | `delay_ms` | how long a datagram takes through that link |
///
/// Where it listens stands in its log, which is lines of JSON on its standard output.
pub fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut asked = Asked::default();
    for argument in arguments {
        let (name, value) = argument
            .split_once('=')
            .with_context(|| format!("{argument:?} is no name=value"))?;
        match name {
            "keys" => asked.keys = value.to_owned(),
            "tcp" => asked.tcp = value.parse()?,
            "quantum" => asked.quantum = value.parse()?,
            "loss" => asked.loss = Some(value.parse()?),
            "delay_ms" => asked.delay = Duration::from_millis(value.parse()?),
            _ => bail!("{name:?} is not known"),
        }
    }
    let runtime = lifecycle::background_runtime(2)?;
    runtime.block_on(serve(asked))
}

#[derive(Debug, Default)]
struct Asked {
    keys: String,
    tcp: u16,
    quantum: u16,
    loss: Option<f64>,
    delay: Duration,
}

async fn serve(asked: Asked) -> anyhow::Result<()> {
    let (tasks, clock) = (Tasks::new(), Clock::start());
    let mut stops = Stops::listen()?;
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(here(asked.tcp)).await?;
    listening("tcp", listener.local_addr()?);
    let stopping = tasks.stopping();
    let over_tcp = tonic::transport::Server::builder()
        .add_routes(routes()?)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            stopping.cancelled().await;
        });
    tasks.spawn("service over tcp", async move {
        drop(over_tcp.await);
    });

    let identity = identity(Path::new(&asked.keys))?;
    let clients = Clients::Certified {
        authorities: identity.authority.clone(),
    };
    let tls = ServerTls::load(&identity.server, &clients)?;
    let config = EndpointConfig::new("desk").with_server(tls);
    let endpoint = Endpoint::bind(here(asked.quantum), config, &tasks, clock)?;
    let serving = quantum::grpc::serve(
        endpoint.clone(),
        routes()?,
        tasks.stopping(),
        Limits::default(),
        tasks.clone(),
    );
    tasks.spawn("service over quantum", serving);
    listening("quantum", endpoint.local_addr());
    let link = asked.loss.map(|loss| {
        LossyLink::start(LinkConfig {
            loss,
            delay: asked.delay,
            ..LinkConfig::to(endpoint.local_addr())
        })
    });
    let link = link.transpose()?;
    if let Some(link) = &link {
        listening("link", link.address());
    }
    print_line(&json!({ "message": READY }).to_string());
    stops.next().await;
    if let Some(link) = &link {
        let counts = link.counts();
        let told = json!({ "message": "link", "lost": counts.lost, "delivered": counts.delivered });
        print_line(&told.to_string());
    }
    tasks.stop(GRACE).await;
    Ok(())
}

fn routes() -> anyhow::Result<Routes> {
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let desk = DeskServiceServer::new(Works)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    Ok(Routes::new(desk)
        .add_service(reflection)
        .add_service(health))
}

fn listening(way: &str, address: SocketAddr) {
    let line = json!({ "message": LISTENING, "way": way, "address": address });
    print_line(&line.to_string());
}

/// The identity in a folder, which is made if there is none.
pub(super) fn identity(folder: &Path) -> anyhow::Result<Identity> {
    let there = Identity::in_folder(folder);
    if there.authority.exists() {
        return Ok(there);
    }
    let wanted = Wanted {
        server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        client_uri: "spiffe://e2e/gateway".to_owned(),
        now: SystemTime::now(),
        lifetime: Duration::from_secs(86_400),
    };
    Ok(Identity::generate(folder, &wanted)?)
}

/// The message of the line that tells an address.
pub(super) const LISTENING: &str = "listening";
/// The message of the line after those.
pub(super) const READY: &str = "ready";

const GRACE: Duration = Duration::from_secs(10);
const MESSAGE_MAX: usize = 16 << 20;
