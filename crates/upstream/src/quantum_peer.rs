//! Quantum towards services: one socket of ours, and a channel per peer.
//!
//! [`Peers`] is what all connections of one identity come from. Both `grpc.services` and
//! routes with `quantum://` use it; calls travel one stream each.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use quantum::grpc::{Channel, Target};
use quantum::tls::{ClientTls, IdentityFiles};
use quantum::{Endpoint, EndpointConfig};

pub use quantum::{Config, FecMode, Figures, HistogramSnapshot, Snapshot};

/// What connections of one identity are made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Label `service` of the figures.
    pub service: String,
    /// File with the certificates of the authorities that peers' certificates lead to.
    pub ca: PathBuf,
    /// Files with our certificate and its key; `None` shows none, which few servers take.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that peers must prove to have, where nothing else is said; `None` is the host.
    pub server_name: Option<String>,
    /// Of the transport.
    pub transport: Config,
    /// File to which events are written.
    pub event_log: Option<PathBuf>,
}

/// Quantum can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// Certificates or key are of no use.
    #[error("tls could not be set up")]
    Tls(#[from] quantum::tls::TlsError),
    /// There is no socket.
    #[error("socket could not be bound")]
    Bind(#[from] quantum::BindError),
}

/// What carries calls to one peer. Clones share its connection.
#[derive(Clone)]
pub(crate) struct Peer(pub(crate) Channel);

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Peer")
            .field(self.0.target())
            .finish()
    }
}

/// What all connections of one identity come from. Clones share it.
#[derive(Debug, Clone)]
pub struct Peers {
    endpoint: Endpoint,
    server_name: Option<String>,
    tasks: Tasks,
}

impl Peers {
    /// Binds a socket of both families, or of IPv4 where there is no IPv6. To be called within
    /// the runtime.
    ///
    /// # Errors
    ///
    /// If files or socket can't be had.
    pub fn bind(settings: Settings, tasks: &Tasks, clock: Clock) -> Result<Self, PeersError> {
        let tls = client(&settings.ca, settings.identity)?;
        let mut config = EndpointConfig::new(settings.service)
            .with_client(tls)
            .with_transport(settings.transport);
        config.event_log = settings.event_log;
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let bound = Endpoint::bind(both, config.clone(), tasks, clock);
        let endpoint = match bound {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::debug!(%error, "there is no IPv6");
                let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                Endpoint::bind(v4, config, tasks, clock)?
            }
        };
        Ok(Self {
            endpoint,
            server_name: settings.server_name,
            tasks: tasks.clone(),
        })
    }

    /// Reads the files anew: authorities and identity of connections from now on. Those that
    /// stand go on with what they agreed.
    ///
    /// # Errors
    ///
    /// If files are of no use; then all stays as it was.
    pub fn renew(&self, ca: &Path, identity: Option<(PathBuf, PathBuf)>) -> Result<(), PeersError> {
        self.endpoint.set_client(Arc::new(client(ca, identity)?));
        Ok(())
    }

    /// A channel to a peer that must prove to be `server_name`, or else what the settings say, or
    /// else `host`; it connects with the first call.
    pub(crate) fn channel(&self, address: String, server_name: Option<&str>, host: &str) -> Peer {
        let server_name = server_name.or(self.server_name.as_deref()).unwrap_or(host);
        let target = Target {
            address,
            server_name: server_name.to_owned(),
        };
        let channel = Channel::new(self.endpoint.clone(), target, self.tasks.clone());
        Peer(channel)
    }

    /// Changes the settings of all connections, present and future.
    pub fn configure(&self, config: &Config) {
        self.endpoint.configure(config);
    }

    /// What is counted.
    pub fn figures(&self) -> Figures {
        self.endpoint.figures()
    }

    /// Ends all connections, and waits until the peers were told; at most so long.
    pub async fn close(&self, within: Duration) {
        self.endpoint
            .close(quantum::codes::close::DONE, "gateway is stopping");
        if tokio::time::timeout(within, self.endpoint.drained())
            .await
            .is_err()
        {
            tracing::debug!("quantum connections were still there at the end");
        }
    }
}

fn client(ca: &Path, identity: Option<(PathBuf, PathBuf)>) -> Result<ClientTls, PeersError> {
    let identity = identity.map(|(chain, key)| IdentityFiles { chain, key });
    Ok(ClientTls::load(ca, identity.as_ref())?)
}
