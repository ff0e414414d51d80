//! The sockets, and what is said about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use edge::front;
use tokio::net::TcpListener;
use tracing::info;

use super::{AssemblyError, live};
use crate::config::Config;

/// The sockets, bound.
pub(super) struct Bound {
    pub(super) main: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) relay: Option<TcpListener>,
    pub(super) live: Option<TcpListener>,
}

impl Bound {
    pub(super) fn bind(config: &Config) -> Result<Self, AssemblyError> {
        let refuse = |listener, address| {
            move |source| AssemblyError::Bind {
                listener,
                address,
                source,
            }
        };
        let wanted = config.listeners.main.address;
        // One listener per worker where the system spreads connections over them.
        let count = if cfg!(target_os = "linux") {
            live::workers(config)
        } else {
            1
        };
        // A shared port would be shared with another process as well, which has another
        // bus: half of the clients would miss the other half's messages. So it is taken
        // alone once, to see that nobody else has it.
        drop(front::bind(wanted, false).map_err(refuse("main", wanted))?);
        let first = front::bind(wanted, count > 1).map_err(refuse("main", wanted))?;
        // Port 0 is chosen once, for all.
        let address = first.local_addr().map_err(refuse("main", wanted))?;
        let mut main = vec![first];
        for _ in 1..count {
            main.push(front::bind(address, true).map_err(refuse("main", address))?);
        }
        let wanted = config.listeners.admin.address;
        let admin = front::bind(wanted, false).map_err(refuse("admin", wanted))?;
        let relay = match config.listeners.relay.address {
            Some(wanted) if config.relay.is_on() => {
                Some(front::bind(wanted, false).map_err(refuse("relay", wanted))?)
            }
            _ => None,
        };
        let live = match config.listeners.live.address {
            Some(wanted) if config.live.is_on() => {
                Some(front::bind(wanted, false).map_err(refuse("live", wanted))?)
            }
            _ => None,
        };
        Ok(Self {
            main,
            admin,
            relay,
            live,
        })
    }

    /// Says what is bound, and returns what there is to say once everything runs.
    pub(super) fn announce(&self, config: &Config) -> String {
        let mut welcome = "ready".to_owned();
        let address = |listener: Option<&TcpListener>| {
            listener.and_then(|listener| listener.local_addr().ok())
        };
        if let Some(main) = address(self.main.first()) {
            let is_tls = config.listeners.main.tls.is_some();
            info!(listener = "main", address = %main, tls = is_tls, "listening");
            if config.demo.is_on() {
                let scheme = if is_tls { "https" } else { "http" };
                // An address that stands for all is none that a browser can open.
                let host = match main.ip() {
                    ip if !ip.is_unspecified() => ip,
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                let url = SocketAddr::new(host, main.port());
                welcome = format!(
                    "ready; open {scheme}://{url}/ in a browser to try it, and \
                     {scheme}://{url}/market/ for live data; the console is at /console/ of \
                     the admin listener, with a token from `tidegate admin-token --name me`"
                );
            }
        }
        if let Some(relay) = address(self.relay.as_ref()) {
            info!(listener = "relay", address = %relay, "listening");
        }
        if let Some(live) = address(self.live.as_ref()) {
            info!(listener = "live", address = %live, "listening");
        }
        if let Some(admin) = address(Some(&self.admin)) {
            let is_tls = config.listeners.admin.tls.is_some();
            info!(listener = "admin", address = %admin, tls = is_tls, "listening");
        }
        welcome
    }
}
