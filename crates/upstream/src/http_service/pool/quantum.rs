//! Connections of Quantum: one per origin and address, shared by all its calls.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Clock;

use super::{DialError, Link, Miss};
use crate::http_service::Origin;
use crate::http_service::dial::Names;
use crate::quantum_peer::{Peer, Peers};

/// Leave to make a call over Quantum.
#[derive(Debug)]
pub struct QuantumLink {
    pub(in crate::http_service) channel: Peer,
    /// Why a connection was made, if it was.
    pub miss: Option<Miss>,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Trunks {
    peers: Peers,
    clock: Clock,
    /// As many as there are origins: routes name them.
    known: Mutex<HashMap<Arc<Origin>, Arc<Known>>>,
}

#[derive(Debug)]
struct Known {
    names: Names,
    trunk: Mutex<Option<(SocketAddr, Peer)>>,
}

impl Trunks {
    pub(super) fn new(peers: Peers, clock: Clock) -> Self {
        Self {
            peers,
            clock,
            known: Mutex::default(),
        }
    }

    /// A connection to the origin: the one that stands, or a new one within the dial timeout.
    pub(super) async fn take(&self, origin: &Arc<Origin>) -> Result<Link, DialError> {
        let known = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let known = all.entry(Arc::clone(origin)).or_insert_with(|| {
                Arc::new(Known {
                    names: Names::new(),
                    trunk: Mutex::default(),
                })
            });
            Arc::clone(known)
        };
        if let Some(channel) = known.standing() {
            return Ok(Link::Quantum(QuantumLink {
                channel,
                miss: None,
            }));
        }
        let connecting = tokio::time::timeout(origin.dial_timeout, self.connect(origin, &known));
        let channel = connecting.await.map_err(|_elapsed| DialError::TimedOut)??;
        Ok(Link::Quantum(QuantumLink {
            channel,
            miss: Some(Miss::Cold),
        }))
    }

    /// Each address is one that was checked, and connected to as it is.
    async fn connect(&self, origin: &Arc<Origin>, known: &Known) -> Result<Peer, DialError> {
        let addresses = known.names.resolve(origin, self.clock).await?;
        let mut last = DialError::TimedOut;
        for address in addresses.iter().copied() {
            let channel = known.channel(address, || {
                let name = origin.tls.server_name.as_ref().unwrap_or(&origin.host);
                self.peers.channel(address.to_string(), name.clone())
            });
            match channel.0.connected().await {
                Ok(_) => {
                    known.keep(address, channel.clone());
                    return Ok(channel);
                }
                Err(error) => last = DialError::Quantum(error.to_string().into()),
            }
        }
        Err(last)
    }
}

impl Known {
    /// The connection that stands.
    fn standing(&self) -> Option<Peer> {
        let trunk = self.trunk.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, channel) = trunk.as_ref()?;
        let connection = channel.0.connection()?;
        connection.close_reason().is_none().then(|| channel.clone())
    }

    /// That to an address, so that those who come together make one connection.
    fn channel(&self, address: SocketAddr, make: impl FnOnce() -> Peer) -> Peer {
        let mut trunk = self.trunk.lock().unwrap_or_else(PoisonError::into_inner);
        match &*trunk {
            Some((known, channel)) if *known == address => channel.clone(),
            Some(_) => make(),
            None => {
                let channel = make();
                *trunk = Some((address, channel.clone()));
                channel
            }
        }
    }

    fn keep(&self, address: SocketAddr, channel: Peer) {
        let mut trunk = self.trunk.lock().unwrap_or_else(PoisonError::into_inner);
        *trunk = Some((address, channel));
    }
}
