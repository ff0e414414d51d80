//! Quantum itself: a stream per call, with tonic or bare, and uploads.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use lifecycle::{CancellationToken, Clock, Tasks};
use quantum::grpc::{self, Channel, Limits, Target};
use quantum::identity::{Identity, Wanted};
use quantum::tls::{ClientTls, Clients, ServerTls};
use quantum::{Connection, End, Endpoint, EndpointConfig, Figures, Priority, RecvStream};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::service::Routes;

use super::echo::{EchoCaller, EchoClient, EchoServer, Echoes};
use super::load::Caller;
use super::rivals::Transport;

/// Who both ends are, and the figures of the endpoints that were made.
pub(crate) struct Quantum {
    identity: Identity,
    figures: Mutex<Vec<Figures>>,
    _folder: TempDir,
}

/// What both ends have seen, warm-up included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) recovered: u64,
    pub(crate) repairs: u64,
    pub(crate) retransmitted: u64,
    pub(crate) spurious: u64,
    /// From noticing that a packet is missing to having what was in it; 99 % stay below.
    pub(crate) recovery_p99: Option<Duration>,
}

impl Seen {
    pub(crate) fn describe(&self) -> String {
        let of_sent = |count: u64| 100.0 * count as f64 / self.sent.max(1) as f64;
        let recovery = match self.recovery_p99 {
            Some(p99) => format!("p99 of recovery within {p99:?}"),
            None => "nothing to recover".to_owned(),
        };
        format!(
            "{} packets, {:.2} % lost, {} recovered from {} repairs ({:.1} % of packets), {} sent \
             again, {} of them for nothing; {recovery}",
            self.sent,
            of_sent(self.lost),
            self.recovered,
            self.repairs,
            of_sent(self.repairs),
            self.retransmitted,
            self.spurious,
        )
    }
}

impl Quantum {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no folder for certificates")?;
        let wanted = Wanted {
            server_names: vec![NAME.to_owned()],
            client_uri: "spiffe://perf/caller".to_owned(),
            now: std::time::SystemTime::now(),
            lifetime: Duration::from_secs(24 * 3600),
        };
        let identity = Identity::generate(folder.path(), &wanted)?;
        Ok(Self {
            identity,
            figures: Mutex::default(),
            _folder: folder,
        })
    }

    /// What both ends have seen since this was asked last.
    pub(crate) fn seen(&self) -> Seen {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<_> = figures.drain(..).flat_map(|one| one.snapshots()).collect();
        let mut seen = Seen::default();
        let mut recovery: Option<quantum::HistogramSnapshot> = None;
        for end in ends {
            seen.sent += end.packets_sent;
            seen.lost += end.packets_lost;
            seen.recovered += end.fec_recoveries;
            seen.repairs += end.fec_repair_sent;
            seen.retransmitted += end.retransmissions;
            seen.spurious += end.spurious_retransmissions;
            match &mut recovery {
                None => recovery = Some(end.recovery),
                Some(both) => {
                    for (sum, more) in both.counts.iter_mut().zip(&end.recovery.counts) {
                        *sum += more;
                    }
                }
            }
        }
        let p99 = recovery.and_then(|both| both.quantile(0.99));
        seen.recovery_p99 =
            p99.map(|p99| Duration::try_from_secs_f64(p99).unwrap_or(Duration::MAX));
        seen
    }

    fn serving(&self, address: IpAddr, tasks: &Tasks) -> anyhow::Result<Endpoint> {
        let clients = Clients::Certified {
            authorities: self.identity.authority.clone(),
        };
        let tls = ServerTls::load(&self.identity.server, &clients)?;
        self.bind(address, self.config().with_server(tls), tasks)
    }

    async fn connecting(
        &self,
        from: IpAddr,
        to: SocketAddr,
        tasks: &Tasks,
    ) -> anyhow::Result<Connection> {
        let tls = ClientTls::load(&self.identity.authority, Some(&self.identity.client))?;
        let endpoint = self.bind(from, self.config().with_client(tls), tasks)?;
        let connection = endpoint.connect(to, NAME).await;
        connection.context("Quantum did not connect")
    }

    fn config(&self) -> EndpointConfig {
        EndpointConfig {
            // One thread at each end.
            sockets: Some(1),
            ..EndpointConfig::new("echo")
        }
    }

    fn bind(
        &self,
        address: IpAddr,
        config: EndpointConfig,
        tasks: &Tasks,
    ) -> anyhow::Result<Endpoint> {
        let endpoint = Endpoint::bind((address, 0).into(), config, tasks, Clock::start())?;
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.push(endpoint.figures());
        Ok(endpoint)
    }

    /// Takes in one upload.
    pub(crate) async fn receive(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        received: &AtomicU64,
    ) -> anyhow::Result<()> {
        let tasks = Tasks::new();
        let endpoint = self.serving(address, &tasks)?;
        // Whoever waits may have given up.
        let _ = listening.send(endpoint.local_addr());
        let connection = endpoint.accept().await.context("endpoint was closed")?;
        let (_send, mut receive) = connection.accept().await?;
        while let Some(chunk) = receive.read().await? {
            received.fetch_add(chunk.data.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Uploads without end, on one stream.
    pub(crate) async fn send(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<()> {
        let tasks = Tasks::new();
        let connection = self.connecting(from, to, &tasks).await?;
        let (mut send, _receive) = connection.open(Priority::Bulk).await?;
        let chunk = Bytes::from(vec![0x5A; 64 * 1024]);
        loop {
            send.write(chunk.clone(), End::More).await?;
        }
    }
}

/// tonic with a stream per call, Quantum's default.
pub(crate) struct Grpc<'a>(pub(crate) &'a Quantum);

impl Transport for Grpc<'_> {
    type Caller = GrpcCaller;

    async fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let tasks = Tasks::new();
        let endpoint = self.0.serving(address, &tasks)?;
        // Whoever waits may have given up.
        let _ = listening.send(endpoint.local_addr());
        let limits = Limits {
            // Calls in flight are what an open loop piles up; none shall be refused.
            calls: 100_000,
            // The client stops this server when it needs no more answers.
            grace: Duration::ZERO,
            ..Limits::default()
        };
        let routes = Routes::new(EchoServer::new(Echoes));
        grpc::serve(endpoint, routes, stop, limits, tasks).await;
        Ok(())
    }

    async fn connect(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<GrpcCaller> {
        let tasks = Tasks::new();
        let tls = ClientTls::load(&self.0.identity.authority, Some(&self.0.identity.client))?;
        let endpoint = self
            .0
            .bind(from, self.0.config().with_client(tls), &tasks)?;
        let target = Target {
            address: to.to_string(),
            server_name: NAME.to_owned(),
        };
        let channel = Channel::new(endpoint, target, tasks);
        channel.connected().await?;
        Ok(EchoCaller(EchoClient::new(channel)))
    }
}

/// Calls over a channel of Quantum's.
pub(crate) type GrpcCaller = EchoCaller<Channel>;

/// A bare stream per call, as the QUIC rival has it.
pub(crate) struct BareStreams<'a>(pub(crate) &'a Quantum);

impl Transport for BareStreams<'_> {
    type Caller = BareCaller;

    async fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let tasks = Tasks::new();
        let endpoint = self.0.serving(address, &tasks)?;
        // Whoever waits may have given up.
        let _ = listening.send(endpoint.local_addr());
        let connection = tokio::select! {
            connection = endpoint.accept() => connection.context("endpoint was closed")?,
            () = stop.cancelled() => return Ok(()),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                streams = connection.accept() => {
                    let Ok((mut send, receive)) = streams else { return Ok(()) };
                    // A call that breaks off is missed by its caller.
                    tokio::task::spawn(async move {
                        let body = read_all(receive).await?;
                        send.write(body.into(), End::Stream).await?;
                        anyhow::Ok(())
                    });
                }
            }
        }
    }

    async fn connect(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<BareCaller> {
        let tasks = Tasks::new();
        let connection = self.0.connecting(from, to, &tasks).await?;
        Ok(BareCaller {
            connection,
            _tasks: tasks,
        })
    }
}

/// A connection and the tasks that move it.
pub(crate) struct BareCaller {
    connection: Connection,
    _tasks: Tasks,
}

impl Caller for BareCaller {
    async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let length = body.len();
        let (mut send, receive) = self.connection.open(Priority::Unary).await?;
        send.write(body, End::Stream).await?;
        let answer = read_all(receive).await?;
        anyhow::ensure!(answer.len() == length, "an answer is not what was sent");
        Ok(())
    }
}

async fn read_all(mut stream: RecvStream) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.read().await? {
        all.extend_from_slice(&chunk.data);
    }
    Ok(all)
}

const NAME: &str = "echo";
