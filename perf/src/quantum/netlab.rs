//! A laboratory for transports: a link of known rate, delay, queue and loss between two ends
//! on this machine.
//!
//! With root's rights the ends are two network namespaces, so the link carries TCP as well as
//! UDP, with the kernel's own stack at both; otherwise they are two UDP sockets of a relay.
//! Chance comes from a seed, one stream of it per direction.

pub(crate) mod link;
mod namespace;
mod relay;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use self::link::{Counts, Shape};
use self::namespace::Namespace;
use self::relay::{Port, Relay};

/// A link with its two ends.
#[derive(Debug)]
pub(crate) struct Lab {
    ends: Ends,
    relay: Relay,
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The one that dials.
    Near,
    /// The one that listens.
    Far,
}

#[derive(Debug)]
enum Ends {
    Namespaces {
        near: Namespace,
        far: Namespace,
    },
    Sockets {
        /// Where the relay takes what goes to the far end.
        door: SocketAddr,
        /// Who listens at the far end.
        listener: Arc<Mutex<Option<SocketAddr>>>,
        /// Why there are no namespaces.
        reason: String,
    },
}

impl Lab {
    /// Sets up a link that is empty and without history.
    pub(crate) fn new(shape: &Shape, seed: u64) -> anyhow::Result<Self> {
        let (ends, ports) = match namespaces() {
            Ok(made) => made,
            Err(error) => sockets(format!("{error:#}"))?,
        };
        let relay = Relay::start(shape, seed, ports)?;
        Ok(Self { ends, relay })
    }

    /// Why the link does not carry TCP, if it does not.
    pub(crate) fn only_datagrams(&self) -> Option<&str> {
        match &self.ends {
            Ends::Namespaces { .. } => None,
            Ends::Sockets { reason, .. } => Some(reason),
        }
    }

    /// Puts the calling thread at an end: sockets that it makes from now on are there.
    pub(crate) fn enter(&self, end: End) -> anyhow::Result<()> {
        match (&self.ends, end) {
            (Ends::Namespaces { near, .. }, End::Near) => near.enter(),
            (Ends::Namespaces { far, .. }, End::Far) => far.enter(),
            (Ends::Sockets { .. }, _) => Ok(()),
        }
    }

    /// The address that sockets of an end are bound to.
    pub(crate) fn address(&self, end: End) -> IpAddr {
        match (&self.ends, end) {
            (Ends::Namespaces { .. }, End::Near) => NEAR.into(),
            (Ends::Namespaces { .. }, End::Far) => FAR.into(),
            (Ends::Sockets { .. }, _) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// What to dial at the near end for a listener at the far end. Without namespaces there is
    /// one listener at a time.
    pub(crate) fn dial(&self, listening: SocketAddr) -> SocketAddr {
        match &self.ends {
            Ends::Namespaces { .. } => listening,
            Ends::Sockets { door, listener, .. } => {
                *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
                *door
            }
        }
    }

    /// Counts begin anew.
    pub(crate) fn mark(&self) {
        self.relay.mark();
    }

    /// Counts since the mark, from the near end to the far one and back.
    pub(crate) fn counts(&self) -> [Counts; 2] {
        self.relay.counts()
    }
}

fn namespaces() -> anyhow::Result<(Ends, [Port; 2])> {
    let (near, near_port) = Namespace::new(NEAR)?;
    let (far, far_port) = Namespace::new(FAR)?;
    let ports = [Port::Tun(near_port), Port::Tun(far_port)];
    Ok((Ends::Namespaces { near, far }, ports))
}

fn sockets(reason: String) -> anyhow::Result<(Ends, [Port; 2])> {
    let socket = || {
        let socket =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("relay's socket was not bound")?;
        socket.set_nonblocking(true)?;
        anyhow::Ok(socket)
    };
    let (near, far) = (socket()?, socket()?);
    let door = near.local_addr()?;
    let listener = Arc::new(Mutex::new(None));
    let ports = [
        Port::Udp {
            socket: near,
            peer: Arc::default(),
            learns: true,
        },
        Port::Udp {
            socket: far,
            peer: listener.clone(),
            learns: false,
        },
    ];
    let ends = Ends::Sockets {
        door,
        listener,
        reason,
    };
    Ok((ends, ports))
}

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

#[cfg(test)]
mod tests;
