//! Where connections come from: an address of ours that connects, accepts, or both.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use quantum_proto::Guuid;
use quantum_proto::config::Config;
use quantum_proto::connection::Connection as Machine;
use quantum_proto::connection::{Samples, Setup};
use quantum_proto::crypto::{ClientCrypto, Macs, ServerCrypto};
use quantum_proto::endpoint as proto;
use quantum_proto::streams::Role;
use tokio::sync::Notify;

use crate::connection::{Connection, Owner, Shared};
use crate::driver::Driver;
use crate::error::{BindError, ConnectError};
use crate::event_log::EventLog;
use crate::lane::{Lane, index};
use crate::metrics::{Figures, Measured};
use crate::socket;
use crate::tls::HmacMacs;

/// What an endpoint is given.
#[derive(Clone)]
pub struct EndpointConfig {
    /// Label `service` of its figures.
    pub service: String,
    /// Lets clients in; `None` for an endpoint that only connects.
    pub server: Option<Arc<dyn ServerCrypto>>,
    /// Connects; `None` for an endpoint that only accepts.
    pub client: Option<Arc<dyn ClientCrypto>>,
    /// Settings of the transport, changed later with [`Endpoint::configure`].
    pub transport: Config,
    /// Sockets, each with a task of its own, among which connections are spread, at most 256.
    /// `None`: one per core if it lets clients in and the system can spread, else one.
    pub sockets: Option<usize>,
    /// Connections at a time. Default 65,536. Beyond it clients are not answered.
    pub connections_max: usize,
    /// Handshakes of clients at a time above which each has to show a cookie first. Default 128.
    pub half_open_max: usize,
    /// Makes cookies and reset tokens; the same after a restart lets peers know at once that
    /// their connections are gone, see [`crate::tls::ServerTls::macs`]. `None`: drawn at random.
    pub macs: Option<HmacMacs>,
    /// File to which events are appended as JSON lines. `None`: nowhere.
    pub event_log: Option<PathBuf>,
}

/// One UDP address with its connections. Clones share it; when the last is dropped no more
/// connections begin, and those that are there live on.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<Gate>);

struct Gate {
    common: Arc<Common>,
    lanes: Arc<[Arc<Lane>]>,
    client: Option<Mutex<Arc<dyn ClientCrypto>>>,
    local: SocketAddr,
    connections_max: usize,
}

/// What all tasks of an endpoint share.
pub(crate) struct Common {
    service: String,
    roles: Vec<Role>,
    config: Mutex<Config>,
    /// From the configuration, for those who ask often.
    largest_datagram: AtomicUsize,
    measured: [Measured; 2],
    sends_failed: AtomicU64,
    pub(crate) log: EventLog,
    /// Connections that wait to be accepted.
    waiting: Mutex<VecDeque<Connection>>,
    came: Notify,
    is_closed: AtomicBool,
}

/// Connections that wait to be accepted; beyond it they are refused.
const WAITING_MAX: usize = 1_024;
const SOCKETS_MAX: usize = 256;

impl EndpointConfig {
    /// Defaults, neither connecting nor accepting yet.
    pub fn new(service: impl Into<String>) -> Self {
        let limits = proto::EndpointConfig::default();
        Self {
            service: service.into(),
            server: None,
            client: None,
            transport: Config::default(),
            sockets: None,
            connections_max: limits.connections_max,
            half_open_max: limits.half_open_max,
            macs: None,
            event_log: None,
        }
    }

    /// Lets clients in.
    #[must_use]
    pub fn with_server(mut self, server: impl ServerCrypto + 'static) -> Self {
        self.server = Some(Arc::new(server));
        self
    }

    /// Can connect.
    #[must_use]
    pub fn with_client(mut self, client: impl ClientCrypto + 'static) -> Self {
        self.client = Some(Arc::new(client));
        self
    }

    /// With these settings.
    #[must_use]
    pub fn with_transport(mut self, transport: Config) -> Self {
        self.transport = transport;
        self
    }

    fn socket_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match (self.sockets, &self.server) {
            (Some(count), _) => count,
            (None, Some(_)) => cores(),
            (None, None) => 1,
        };
        count.clamp(1, SOCKETS_MAX)
    }
}

impl Endpoint {
    /// Binds `addr` and starts a task per socket. To be called within a tokio runtime.
    ///
    /// The tasks end after [`Endpoint::close`], when the last clone and the last connection are
    /// gone, or when `tasks` stop.
    ///
    /// # Errors
    /// The address cannot be had, or the system lacks something.
    pub fn bind(
        addr: SocketAddr,
        config: EndpointConfig,
        tasks: &Tasks,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let sockets = socket::bind_group(addr, config.socket_count())
            .map_err(|source| BindError::Address { addr, source })?;
        let local = sockets[0]
            .local_addr()
            .map_err(|source| BindError::Address { addr, source })?;
        let log = match &config.event_log {
            Some(path) => EventLog::open(path)?,
            None => EventLog::default(),
        };
        let macs = match config.macs.clone() {
            Some(macs) => macs,
            None => HmacMacs::new(&random::<32>()?),
        };
        let limits = proto::EndpointConfig {
            connections_max: config.connections_max.div_ceil(sockets.len()),
            half_open_max: config.half_open_max.div_ceil(sockets.len()),
            ..proto::EndpointConfig::default()
        };
        let lane = |_| {
            let macs: Box<dyn Macs> = Box::new(macs.clone());
            let table = proto::Endpoint::new(limits, macs, config.server.clone());
            Arc::new(Lane::new(clock, table))
        };
        let lanes: Arc<[Arc<Lane>]> = sockets.iter().map(lane).collect();
        let client = config.client.is_some().then_some(Role::Client);
        let server = config.server.is_some().then_some(Role::Server);
        let common = Arc::new(Common {
            service: config.service,
            roles: client.into_iter().chain(server).collect(),
            largest_datagram: AtomicUsize::new(largest_datagram(&config.transport)),
            config: Mutex::new(config.transport),
            measured: [Measured::new(), Measured::new()],
            sends_failed: AtomicU64::new(0),
            log,
            waiting: Mutex::default(),
            came: Notify::new(),
            is_closed: AtomicBool::new(false),
        });
        for (index, socket) in sockets.into_iter().enumerate() {
            let driver = Driver::new(
                index,
                Arc::clone(&lanes),
                Arc::clone(&common),
                socket,
                tasks.stopping(),
            );
            let driver = driver.map_err(|source| BindError::Resource {
                what: "a timer",
                source,
            })?;
            tasks.spawn("quantum socket", driver);
        }
        Ok(Self(Arc::new(Gate {
            common,
            lanes,
            client: config.client.map(Mutex::new),
            local,
            connections_max: config.connections_max,
        })))
    }

    /// Connects to a server that must prove to be `server_name`. Dropped, it gives up.
    ///
    /// # Errors
    /// Nothing that was meant for the connection has left.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, ConnectError> {
        let connection = self.begin(addr, server_name)?;
        connection.0.0.connected().await?;
        Ok(connection)
    }

    /// Waits for the next connection of a client; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Connection> {
        let common = &self.0.common;
        loop {
            let came = common.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if let Some(connection) = common.waiting().pop_front() {
                return Some(connection);
            }
            if common.is_closed.load(Ordering::Acquire) {
                return None;
            }
            came.await;
        }
    }

    /// Changes the settings of all connections, present and future.
    pub fn configure(&self, config: &Config) {
        self.0.common.set_config(config);
        for connection in self.0.all() {
            {
                let mut state = connection.lock();
                let now = connection.lane.now();
                state.machine.configure(now, config);
            }
            connection.wake();
        }
    }

    /// Shows other certificates to clients that come from now on.
    pub fn set_server(&self, server: &Arc<dyn ServerCrypto>) {
        for lane in self.0.lanes.iter() {
            lane.residents().table.set_server(Some(Arc::clone(server)));
        }
    }

    /// Shows another certificate to servers, and trusts others, from the next connection on.
    /// Nothing for an endpoint that only accepts.
    pub fn set_client(&self, client: Arc<dyn ClientCrypto>) {
        if let Some(present) = &self.0.client {
            *present.lock().unwrap_or_else(PoisonError::into_inner) = client;
        }
    }

    /// Its address; the port is known here if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Lets no more connections in; those that are there live on.
    pub fn refuse_new(&self) {
        self.0.refuse_new();
    }

    /// Ends all connections at once and lets no more in; peers are told `code` and `text`.
    pub fn close(&self, code: u32, text: &str) {
        self.0.refuse_new();
        for connection in self.0.all() {
            connection.close(code, text);
        }
    }

    /// Waits until no connection is left, those that still say goodbye included.
    pub async fn drained(&self) {
        for lane in self.0.lanes.iter() {
            loop {
                let emptied = lane.emptied.notified();
                tokio::pin!(emptied);
                emptied.as_mut().enable();
                if lane.residents().table.is_empty() {
                    break;
                }
                emptied.await;
            }
        }
    }

    /// Its figures.
    pub fn figures(&self) -> Figures {
        Figures {
            common: Arc::clone(&self.0.common),
            lanes: Arc::clone(&self.0.lanes),
        }
    }

    /// Starts the handshake.
    fn begin(&self, addr: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let gate = &self.0;
        let client = gate.client.as_ref().ok_or(ConnectError::ServerOnly)?;
        let client = Arc::clone(&client.lock().unwrap_or_else(PoisonError::into_inner));
        let no_chance = |error: BindError| ConnectError::NoChance(error.to_string());
        let (guuid, lane) = loop {
            let bytes = random::<16>().map_err(no_chance)?;
            let lane = usize::from(bytes[15]) % gate.lanes.len();
            if let Some(guuid) = Guuid::new(bytes) {
                break (guuid, &gate.lanes[lane]);
            }
        };
        let mut residents = lane.residents();
        // Under the lock: the task, when it ends, closes only those that it finds here.
        if gate.common.is_closed.load(Ordering::Acquire) {
            return Err(ConnectError::EndpointClosed);
        }
        let setup = Setup {
            guuid,
            remote: addr,
            config: gate.common.config(),
            start: 0,
            reset_token: Some(residents.table.reset_token(guuid)),
            chance: chance().map_err(no_chance)?,
        };
        let mut options = Vec::new();
        setup.options().encode(&mut options);
        let handshake = client.start(guuid, server_name, &options)?;
        let handle = residents.table.insert(guuid, false);
        let handle = handle.map_err(|_| ConnectError::Full {
            limit: gate.connections_max,
        })?;
        let machine = Machine::client(lane.now(), &setup, handshake, client.initial(guuid));
        let shared = Shared::new(Arc::clone(lane), handle, Role::Client, machine);
        let shared = Arc::new(shared);
        residents.settle(handle, Arc::clone(&shared));
        drop(residents);
        gate.common.log.began(lane.now(), &shared, addr);
        shared.wake();
        Ok(Connection(Arc::new(Owner(shared))))
    }
}

impl Gate {
    fn refuse_new(&self) {
        self.common.stop_offering();
        for lane in self.lanes.iter() {
            lane.begin_close();
        }
    }

    fn all(&self) -> Vec<Arc<Shared>> {
        let lanes = self.lanes.iter();
        lanes
            .flat_map(|lane| lane.residents().all().cloned().collect::<Vec<_>>())
            .collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.refuse_new();
    }
}

impl Common {
    pub(crate) fn config(&self) -> Config {
        *self.config_mut()
    }

    fn set_config(&self, config: &Config) {
        *self.config_mut() = *config;
        let largest = largest_datagram(config);
        self.largest_datagram.store(largest, Ordering::Relaxed);
    }

    /// In bytes of UDP payload.
    pub(crate) fn largest_datagram(&self) -> usize {
        self.largest_datagram.load(Ordering::Relaxed)
    }

    /// Puts a connection where it can be accepted.
    pub(crate) fn offer(&self, connection: Connection) -> Result<(), Connection> {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX || self.is_closed.load(Ordering::Acquire) {
            return Err(connection);
        }
        waiting.push_back(connection);
        drop(waiting);
        self.came.notify_waiters();
        Ok(())
    }

    /// Nobody accepts any more; connections that wait for it are closed.
    pub(crate) fn stop_offering(&self) {
        self.is_closed.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting);
        self.came.notify_waiters();
    }

    pub(crate) fn measured(&self, role: Role, samples: &Samples) {
        self.measured[index(role)].take_in(samples);
    }

    pub(crate) fn connected(&self, role: Role, took: Duration) {
        self.measured[index(role)].handshake.record(took);
    }

    pub(crate) fn send_failed(&self) {
        self.sends_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sends_failed(&self) -> u64 {
        self.sends_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn measured_of(&self, role: Role) -> &Measured {
        &self.measured[index(role)]
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// What belongs to no connection counts once.
    pub(crate) fn counts_strangers(&self, role: Role) -> bool {
        self.roles.last() == Some(&role)
    }

    fn config_mut(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn largest_datagram(config: &Config) -> usize {
    usize::from(config.max_datagram).max(proto::FIRST_DATAGRAM)
}

/// The seed of one connection, which follows from that of no other.
pub(crate) fn chance() -> Result<[u64; 2], BindError> {
    let word = || random().map(u64::from_le_bytes);
    Ok([word()?, word()?])
}

fn random<const N: usize>() -> Result<[u8; N], BindError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| BindError::Resource {
        what: "randomness",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

impl std::fmt::Debug for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Common")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
