//! gRPC services and the methods that are bound to them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use router::services::{Binding, Form, MetadataKey, Services};
use upstream::grpc::{MetadataMap, Service, Settings, Transport};
use upstream::quantum_peer::{self, Peers, PeersError, Snapshot};

use super::chain;
use crate::config::{
    Config, FecMode, GrpcMethod, GrpcService, MessageForm, PeerFiles, PeerTls, Quantum,
};

/// The label `service` of what routes go through.
const OWN: &str = "routes";

/// The services that there are. What a reload does not change goes on with its connections,
/// breakers and counts.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Inner>);

struct Inner {
    tasks: Tasks,
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    services: Vec<(GrpcService, Service)>,
    bound: Option<Arc<Services>>,
    peers: Vec<(Identity, Peers)>,
    /// Those of `quantum.tls`.
    own: Option<Peers>,
}

/// Who we are to peers; each has a socket of its own.
#[derive(Clone)]
struct Identity {
    tls: PeerTls,
    /// What the files were when they were read last.
    files: PeerFiles,
}

impl Identity {
    fn pair(&self) -> (PathBuf, PathBuf) {
        (self.tls.certificate.clone(), self.tls.key.clone())
    }
}

impl Keeper {
    /// Without services yet.
    pub(super) fn new(tasks: Tasks, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            tasks,
            clock,
            kept: Mutex::default(),
        }))
    }

    /// Makes the services and binds the methods, as they are configured; within the runtime.
    ///
    /// # Errors
    ///
    /// Which service can't be made, and why. What there was stays.
    pub(super) fn build(&self, config: &Config) -> Result<Arc<Services>, String> {
        let clock = self.0.clock;
        let mut kept = self.lock();
        let mut peers = Vec::new();
        let own = match config.quantum.tls.is_mutual() {
            true => {
                let identity = Identity {
                    tls: config.quantum.tls.clone(),
                    files: config.quantum.files.clone(),
                };
                Some(self.peers_of(identity, OWN, config, &kept.peers, &mut peers)?)
            }
            false => None,
        };
        let mut services = Vec::with_capacity(config.grpc.services.len());
        for wanted in &config.grpc.services {
            let calls_quantum = wanted
                .targets()
                .iter()
                .any(|target| target.transport == Transport::Quantum);
            let through = match wanted.tls.is_mutual() {
                true if calls_quantum => {
                    let identity = Identity {
                        tls: wanted.tls.clone(),
                        files: wanted.files.clone(),
                    };
                    let name = &wanted.name;
                    Some(self.peers_of(identity, name, config, &kept.peers, &mut peers)?)
                }
                _ => own.clone(),
            };
            let known = kept.services.iter().find(|(known, _)| known == wanted);
            let service = match known {
                // With another identity it has other connections.
                Some((_, service)) if !calls_quantum || wanted.tls.is_mutual() => service.clone(),
                Some((_, service)) if config.quantum.tls.is_mutual() => service.clone(),
                _ => make(wanted, through, clock)?,
            };
            services.push((wanted.clone(), service));
        }
        let bindings = config.rpc.grpc.iter().filter_map(|method| {
            let service = services
                .iter()
                .find(|(known, _)| known.name == method.service);
            service.map(|(_, service)| bind(method, service.clone()))
        });
        let bindings = bindings.collect::<Result<Vec<_>, _>>()?;
        let log = config.grpc.log_calls;
        let bound = Arc::new(Services::new(bindings, kept.bound.as_deref(), log, clock));
        let transport = transport(&config.quantum);
        for (_, peers) in &peers {
            peers.configure(&transport);
        }
        *kept = Kept {
            services,
            bound: Some(Arc::clone(&bound)),
            peers,
            own,
        };
        Ok(bound)
    }

    /// What routes with `quantum://` go through; `None` without an identity to show.
    pub(super) fn own_peers(&self) -> Option<Peers> {
        self.lock().own.clone()
    }

    /// Says goodbye to the peers.
    pub(super) async fn close(&self, within: Duration) {
        let peers: Vec<Peers> = self
            .lock()
            .peers
            .iter()
            .map(|(_, peers)| peers.clone())
            .collect();
        let closing = peers.iter().map(|peers| peers.close(within));
        futures_util::future::join_all(closing).await;
    }

    /// The services, for metrics.
    pub(super) fn services(&self) -> Vec<Service> {
        let kept = self.lock();
        kept.services
            .iter()
            .map(|(_, service)| service.clone())
            .collect()
    }

    /// The methods, for metrics.
    pub(super) fn bound(&self) -> Option<Arc<Services>> {
        self.lock().bound.clone()
    }

    /// What is counted of Quantum.
    pub(super) fn quantum(&self) -> Vec<Snapshot> {
        let figures: Vec<_> = self
            .lock()
            .peers
            .iter()
            .map(|(_, it)| it.figures())
            .collect();
        figures
            .iter()
            .flat_map(quantum_peer::Figures::snapshots)
            .collect()
    }

    /// Those of an identity: known before, made for another service, or new. If its files have
    /// another content now, connections from now on are made with that.
    fn peers_of(
        &self,
        identity: Identity,
        name: &str,
        config: &Config,
        known: &[(Identity, Peers)],
        made: &mut Vec<(Identity, Peers)>,
    ) -> Result<Peers, String> {
        let here = made
            .iter()
            .chain(known)
            .find(|(other, _)| other.tls == identity.tls);
        let refuse = |error: PeersError| format!("quantum for {name:?}: {}", chain(&error));
        let peers = match here {
            Some((before, peers)) => {
                if before.files != identity.files {
                    let renewed = peers.renew(&identity.tls.ca, Some(identity.pair()));
                    renewed.map_err(refuse)?;
                }
                peers.clone()
            }
            None => {
                let event_log = &config.quantum.event_log;
                let settings = quantum_peer::Settings {
                    service: name.to_owned(),
                    ca: identity.tls.ca.clone(),
                    identity: Some(identity.pair()),
                    server_name: Some(identity.tls.server_name.clone()).filter(|it| !it.is_empty()),
                    transport: transport(&config.quantum),
                    event_log: Some(event_log.clone()).filter(|it| !it.as_os_str().is_empty()),
                };
                let bound = Peers::bind(settings, &self.0.tasks, self.0.clock);
                bound.map_err(refuse)?
            }
        };
        if !made.iter().any(|(other, _)| other.tls == identity.tls) {
            made.push((identity, peers.clone()));
        }
        Ok(peers)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings of the transport.
fn transport(quantum: &Quantum) -> quantum_peer::Config {
    quantum_peer::Config {
        fec_ratio: quantum.fec_ratio,
        fec_mode: match quantum.fec_mode {
            FecMode::Sliding => quantum_peer::FecMode::Sliding,
            FecMode::Block => quantum_peer::FecMode::Block,
            FecMode::Off => quantum_peer::FecMode::Off,
        },
        fec_tail_rate: quantum.fec_tail_rate,
        bbr_startup_gain: quantum.bbr_startup_gain,
        max_cwnd: quantum.max_cwnd,
        idle_timeout: quantum.idle_timeout,
        keep_alive: quantum.keep_alive,
        handshake_timeout: quantum.handshake_timeout,
        stream_window: quantum.stream_window,
        connection_window: quantum.connection_window,
        max_datagram: quantum.max_datagram,
        ..quantum_peer::Config::default()
    }
}

fn make(wanted: &GrpcService, peers: Option<Peers>, clock: Clock) -> Result<Service, String> {
    let refuse = |problem: String| format!("grpc.services {:?}: {problem}", wanted.name);
    let settings = Settings {
        name: wanted.name.as_str().into(),
        targets: wanted.targets(),
        tls: wanted.tls.material(&wanted.files),
        policy: wanted.policy.compile().map_err(refuse)?,
        breaker: wanted.policy.breaker().map_err(refuse)?,
        descriptors: wanted.descriptors(),
        message_max: wanted.message_size_max,
        connect_within: wanted.connect_timeout,
        peers,
    };
    Service::new(settings, clock, seed()).map_err(|error| refuse(chain(&error)))
}

fn bind(method: &GrpcMethod, service: Service) -> Result<Binding, String> {
    let refuse = |what: &str| format!("rpc.grpc {:?}: {what}", method.method);
    let mut metadata = MetadataMap::new();
    for (key, value) in &method.metadata {
        let key = key_of(key).ok_or_else(|| refuse("metadata key can't be used"))?;
        let value = value
            .parse()
            .map_err(|_| refuse("metadata can't be used"))?;
        metadata.insert(key, value);
    }
    let user_key = match method.user_metadata.as_str() {
        "" => None,
        key => Some(key_of(key).ok_or_else(|| refuse("user_metadata can't be used"))?),
    };
    Ok(Binding {
        method: method.method.as_str().into(),
        service,
        path: method
            .path()
            .parse()
            .map_err(|_| refuse("call can't be used"))?,
        form: match method.form {
            MessageForm::Json => Form::Json,
            MessageForm::Protobuf => Form::Protobuf,
        },
        timeout: method.timeout,
        idempotent: method.idempotent,
        pass_messages: method.pass_messages,
        metadata,
        user_key,
    })
}

fn key_of(key: &str) -> Option<MetadataKey> {
    MetadataKey::from_bytes(key.as_bytes()).ok()
}

/// Different in each process, or gateways would choose and come back together.
fn seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
