//! Connections of Quantum: one per origin, shared by all its calls.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Clock;
use quantum::grpc::staggered;

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
    /// As many as there are origins that were used of late.
    known: Mutex<HashMap<Arc<Origin>, Arc<Known>>>,
}

#[derive(Debug)]
struct Known {
    names: Names,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// One per address that is tried; once one has answered, that alone.
    channels: Vec<(SocketAddr, Peer)>,
    used_ms: u64,
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
        let known = self.known(origin);
        if let Some(channel) = known.standing(self.clock.mono_ms()) {
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

    /// Forgets those that have not been used for as long as their origin lets connections rest.
    /// Calls that are on one go on, and it ends with the last.
    pub(super) fn sweep(&self) {
        let now_ms = self.clock.mono_ms();
        let is_idle = |origin: &Arc<Origin>, known: &Arc<Known>| {
            // One that somebody holds is about to be used.
            Arc::strong_count(known) == 1
                && now_ms.saturating_sub(known.state().used_ms) > millis(origin.idle_timeout)
        };
        let idle: Vec<_> = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            all.extract_if(|origin, known| is_idle(origin, known))
                .collect()
        };
        // Outside of the lock: what closes may take its time.
        drop(idle);
    }

    fn known(&self, origin: &Arc<Origin>) -> Arc<Known> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(Arc::clone(origin)).or_insert_with(|| {
            Arc::new(Known {
                names: Names::new(),
                state: Mutex::new(State {
                    channels: Vec::new(),
                    used_ms: self.clock.mono_ms(),
                }),
            })
        });
        Arc::clone(known)
    }

    /// Each address is one that was checked, and connected to as it is.
    async fn connect(&self, origin: &Arc<Origin>, known: &Known) -> Result<Peer, DialError> {
        let addresses = known.names.resolve(origin, self.clock).await?;
        let channels = known.channels(&addresses, |address| {
            let name = origin.tls.server_name.as_deref();
            self.peers.channel(address.to_string(), name, &origin.host)
        });
        let attempts = channels.into_iter().map(|(address, channel)| async move {
            match channel.0.connected().await {
                Ok(_) => Ok((address, channel)),
                Err(error) => Err(DialError::Quantum(error.to_string().into())),
            }
        });
        let (address, channel) = staggered(attempts, DialError::TimedOut).await?;
        known.keep(address);
        Ok(channel)
    }
}

impl Known {
    /// The connection that stands.
    fn standing(&self, now_ms: u64) -> Option<Peer> {
        let mut state = self.state();
        state.used_ms = now_ms;
        let stands = |channel: &Peer| {
            let connection = channel.0.connection();
            connection.is_some_and(|it| it.close_reason().is_none())
        };
        let mut channels = state.channels.iter().map(|(_, channel)| channel);
        channels.find(|it| stands(it)).cloned()
    }

    /// Those to these addresses, so that those who come together make one connection.
    fn channels(
        &self,
        addresses: &[SocketAddr],
        make: impl Fn(SocketAddr) -> Peer,
    ) -> Vec<(SocketAddr, Peer)> {
        let mut state = self.state();
        let before = std::mem::take(&mut state.channels);
        let channel = |address: &SocketAddr| {
            let known = before.iter().find(|(known, _)| known == address);
            let channel = known.map_or_else(|| make(*address), |(_, channel)| channel.clone());
            (*address, channel)
        };
        state.channels = addresses.iter().take(ADDRESSES_MAX).map(channel).collect();
        state.channels.clone()
    }

    /// This one has answered: the others are not needed.
    fn keep(&self, address: SocketAddr) {
        self.state().channels.retain(|(other, _)| *other == address);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
