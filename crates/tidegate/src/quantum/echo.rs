//! A service that answers each call with its own message.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use gateway::config::Config;
use gateway::logging::Logging;
use gateway::reload::Source;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use lifecycle::{CancellationToken, Clock, Stops, Tasks};
use quantum::grpc::{CallError, Channel, Limits};
use quantum::identity::Identity;
use quantum::tls::{Clients, ServerTls};
use quantum::{Endpoint, EndpointConfig};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::say;

#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Where it listens: address and UDP port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// A folder made by `tidegate quantum keys`
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Let clients in that show no certificate
    #[arg(long)]
    anonymous: bool,
}

impl Echo {
    pub(super) async fn run(self, source: &Source, tasks: Tasks, clock: Clock) -> Result<()> {
        let environment = source.environment.iter().cloned();
        let loaded = Config::load(source.file.as_deref(), environment)?;
        let _logging = Logging::start(&loaded.config.log)?;
        let mut stops = Stops::listen().context("signals can't be listened to")?;
        let files = Identity::in_folder(&self.keys);
        let clients = match self.anonymous {
            true => Clients::Anonymous,
            false => Clients::Certified {
                authorities: files.authority.clone(),
            },
        };
        let tls = ServerTls::load(&files.server, &clients).context("certificates")?;
        let config = EndpointConfig::new("echo").with_server(tls);
        let endpoint = Endpoint::bind(self.listen, config, &tasks, clock)
            .with_context(|| format!("{} could not be bound", self.listen))?;
        say(&format!("listening on {} (UDP)\n", endpoint.local_addr()))?;
        let shutdown = CancellationToken::new();
        let limits = Limits {
            grace: GRACE,
            ..Limits::default()
        };
        let serving = quantum::grpc::serve(
            endpoint,
            Routes::new(EchoService),
            shutdown.clone(),
            limits,
            tasks.clone(),
        );
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            () = stops.next() => {}
            () = &mut serving => return Ok(()),
        }
        shutdown.cancel();
        serving.await;
        Ok(())
    }
}

/// Whatever the method: the body goes back as it comes.
#[derive(Debug, Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = "tidegate.quantum.Echo";
}

impl Service<Request<Body>> for EchoService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = request.into_body().with_trailers(ready(Some(Ok(trailers))));
        let mut response = Response::new(Body::new(body));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        ready(Ok(response))
    }
}

/// Makes one call with this message, and waits for all of the answer. The status that the
/// server gave, `None` if it gave none.
pub(super) async fn call(channel: &Channel, message: Bytes) -> Result<Option<i32>, CallError> {
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(
        &u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    framed.extend_from_slice(&message);
    let mut request = Request::new(Body::new(Full::new(Bytes::from(framed))));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let answer = channel.clone().call(request).await?;
    let of = |fields: &HeaderMap| fields.get("grpc-status")?.to_str().ok()?.parse().ok();
    let early = of(answer.headers());
    let body = answer.into_body().collect().await;
    let late = body.ok().and_then(|body| of(body.trailers()?));
    Ok(late.or(early))
}

/// How long calls may go on after the stop.
const GRACE: Duration = Duration::from_secs(2);

const PATH: &str = "/tidegate.quantum.Echo/Say";
