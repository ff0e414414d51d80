//! A client's and a server's endpoint on this machine, with certificates of their own.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lifecycle::{Clock, Tasks};
use quantum::identity::{Identity, Wanted};
use quantum::tls::{ClientTls, Clients, ServerTls};
use quantum::{Config, Connection, Endpoint, EndpointConfig};
use testkit::{LinkConfig, LossyLink};

pub(crate) struct Pair {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    link: Option<LossyLink>,
    server_config: EndpointConfig,
    client_config: EndpointConfig,
    _keys: tempfile::TempDir,
}

#[derive(Default)]
struct Options<'a> {
    transport: Config,
    loss: Option<f64>,
    log: Option<&'a Path>,
    sockets: Option<usize>,
    connections_max: Option<usize>,
}

impl Pair {
    pub(crate) async fn start(transport: Config) -> Self {
        Self::new(Options {
            transport,
            ..Options::default()
        })
    }

    pub(crate) async fn lossy(transport: Config, loss: f64) -> Self {
        Self::new(Options {
            transport,
            loss: Some(loss),
            ..Options::default()
        })
    }

    pub(crate) async fn with_log(transport: Config, log: &Path) -> Self {
        Self::new(Options {
            transport,
            log: Some(log),
            ..Options::default()
        })
    }

    pub(crate) async fn with_sockets(count: usize) -> Self {
        Self::new(Options {
            sockets: Some(count),
            ..Options::default()
        })
    }

    pub(crate) async fn with_limit(connections: usize) -> Self {
        Self::new(Options {
            connections_max: Some(connections),
            ..Options::default()
        })
    }

    fn new(options: Options<'_>) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let folder = keys.path().join("keys");
        let wanted = Wanted {
            server_names: vec!["localhost".to_owned()],
            client_uri: "spiffe://test/client".to_owned(),
            now: SystemTime::now(),
            lifetime: Duration::from_secs(3_600),
        };
        let identity = Identity::generate(&folder, &wanted).unwrap();
        let clients = Clients::Certified {
            authorities: identity.authority.clone(),
        };
        let server_tls = ServerTls::load(&identity.server, &clients).unwrap();
        let client_tls = ClientTls::load(&identity.authority, Some(&identity.client)).unwrap();
        let (tasks, clock) = (Tasks::new(), Clock::start());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server_config = EndpointConfig::new("test").with_transport(options.transport);
        server_config.macs = Some(server_tls.macs(b"test"));
        let mut server_config = server_config.with_server(server_tls);
        server_config.sockets = options.sockets;
        let server = Endpoint::bind(any, server_config.clone(), &tasks, clock).unwrap();
        let mut config = EndpointConfig::new("test")
            .with_client(client_tls)
            .with_transport(options.transport);
        config.event_log = options.log.map(Path::to_owned);
        config.connections_max = options.connections_max.unwrap_or(config.connections_max);
        let client = Endpoint::bind(any, config.clone(), &tasks, clock).unwrap();
        let link = options.loss.map(|loss| {
            LossyLink::start(LinkConfig {
                loss,
                delay: Duration::from_millis(2),
                ..LinkConfig::to(server.local_addr())
            })
            .unwrap()
        });
        Self {
            client,
            server,
            tasks,
            clock,
            link,
            server_config,
            client_config: config,
            _keys: keys,
        }
    }

    /// Where clients find the server.
    pub(crate) fn address(&self) -> SocketAddr {
        let link = self.link.as_ref();
        link.map_or_else(|| self.server.local_addr(), LossyLink::address)
    }

    pub(crate) fn link(&self) -> &LossyLink {
        self.link.as_ref().unwrap()
    }

    /// Puts a server in the place of the present one that knows its keys and no connection.
    pub(crate) fn restart_server(&self) -> Endpoint {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = self.server_config.clone();
        let fresh = Endpoint::bind(any, config, &self.tasks, self.clock).unwrap();
        self.link().set_server(fresh.local_addr());
        fresh
    }

    pub(crate) async fn connect(&self) -> Connection {
        let connecting = self.client.connect(self.address(), "localhost");
        connecting.await.unwrap()
    }

    /// A connection from an endpoint that nobody else has, run by these tasks.
    pub(crate) async fn connect_from(&self, tasks: &Tasks) -> Connection {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = self.client_config.clone();
        let endpoint = Endpoint::bind(any, config, tasks, self.clock).unwrap();
        let connecting = endpoint.connect(self.address(), "localhost");
        connecting.await.unwrap()
    }
}

/// How long anything may take on a busy machine.
pub(crate) fn patience() -> Duration {
    testkit::PATIENCE
}

/// Fails a test that hangs.
pub(crate) async fn timely<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(2 * patience(), what).await;
    done.expect("test takes too long")
}

/// Waits for a condition; [`timely`] is its deadline.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let mut often = tokio::time::interval(Duration::from_millis(2));
    while !condition() {
        often.tick().await;
    }
}
