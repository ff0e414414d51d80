//! A tonic service and its client over Quantum, in both ways. The guide shows this file.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lifecycle::{Clock, Tasks};
use quantum::grpc::{self, Channel, Limits, Target};
use quantum::identity::{Identity, Wanted};
use quantum::tls::{ClientTls, Clients, ServerTls};
use quantum::{Config, Endpoint, EndpointConfig};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::v1::echo_service_client::EchoServiceClient;
use crate::v1::echo_service_server::{EchoService, EchoServiceServer};
use crate::v1::{SayRequest, SayResponse};

/// A port that is free, on this machine.
const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// What both sides are made with.
pub(crate) struct Host {
    pub(crate) identity: Identity,
    pub(crate) transport: Config,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
}

struct Echo;

#[tonic::async_trait]
impl EchoService for Echo {
    async fn say(&self, request: Request<SayRequest>) -> Result<Response<SayResponse>, Status> {
        let data = request.into_inner().data;
        Ok(Response::new(SayResponse { data }))
    }
}

/// An authority, and certificates of it for a server and a client.
pub(crate) fn identity(folder: &Path) -> anyhow::Result<Identity> {
    let wanted = Wanted {
        server_names: vec!["echo.example".to_owned()],
        client_uri: "spiffe://example/caller".to_owned(),
        now: SystemTime::now(),
        lifetime: Duration::from_secs(86_400),
    };
    Ok(Identity::generate(folder, &wanted)?)
}

fn server_endpoint(host: &Host) -> anyhow::Result<Endpoint> {
    let clients = Clients::Certified {
        authorities: host.identity.authority.clone(),
    };
    let tls = ServerTls::load(&host.identity.server, &clients)?;
    let config = EndpointConfig::new("echo")
        .with_server(tls)
        .with_transport(host.transport);
    Ok(Endpoint::bind(
        SocketAddr::from(ANY),
        config,
        &host.tasks,
        host.clock,
    )?)
}

fn client_endpoint(host: &Host) -> anyhow::Result<Endpoint> {
    let tls = ClientTls::load(&host.identity.authority, Some(&host.identity.client))?;
    let config = EndpointConfig::new("echo")
        .with_client(tls)
        .with_transport(host.transport);
    Ok(Endpoint::bind(
        SocketAddr::from(ANY),
        config,
        &host.tasks,
        host.clock,
    )?)
}

fn target(address: SocketAddr) -> Target {
    Target {
        address: address.to_string(),
        server_name: "echo.example".to_owned(),
    }
}

/// Serves, a stream per call.
pub(crate) fn serve(host: &Host) -> anyhow::Result<Endpoint> {
    let endpoint = server_endpoint(host)?;
    let routes = Routes::new(EchoServiceServer::new(Echo));
    let serving = grpc::serve(
        endpoint.clone(),
        routes,
        host.tasks.stopping(),
        Limits::default(),
        host.tasks.clone(),
    );
    host.tasks.spawn("echo", serving);
    Ok(endpoint)
}

/// Calls, a stream per call; clones of the client share one connection.
pub(crate) fn client(
    host: &Host,
    address: SocketAddr,
) -> anyhow::Result<(Endpoint, EchoServiceClient<Channel>)> {
    let endpoint = client_endpoint(host)?;
    let channel = Channel::new(endpoint.clone(), target(address), host.tasks.clone());
    Ok((endpoint, EchoServiceClient::new(channel)))
}

/// Serves HTTP/2 in the ordered mode.
pub(crate) fn serve_ordered(host: &Host) -> anyhow::Result<Endpoint> {
    let endpoint = server_endpoint(host)?;
    let incoming = grpc::incoming(endpoint.clone(), &host.tasks);
    let stopping = host.tasks.stopping();
    let serving = tonic::transport::Server::builder()
        .add_service(EchoServiceServer::new(Echo))
        .serve_with_incoming_shutdown(incoming, async move { stopping.cancelled().await });
    host.tasks
        .spawn("ordered echo", async move { drop(serving.await) });
    Ok(endpoint)
}

/// Calls over HTTP/2 in the ordered mode.
pub(crate) async fn client_ordered(
    host: &Host,
    address: SocketAddr,
) -> anyhow::Result<EchoServiceClient<tonic::transport::Channel>> {
    let connector = grpc::connector(client_endpoint(host)?, target(address));
    let channel = tonic::transport::Endpoint::from_static("http://echo.example")
        .connect_with_connector(connector)
        .await?;
    Ok(EchoServiceClient::new(channel))
}
