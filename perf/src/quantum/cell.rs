//! One transport on one link under one load: a cell of the tables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use lifecycle::CancellationToken;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use super::load::{Around, Calls, Plan, closed_loop, open_loop};
use super::netlab::link::{Counts, Shape};
use super::netlab::{End, Lab};
use super::rivals::Transport;
use crate::proxy::pin;

/// What a cell came to.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) calls: Calls,
    /// Bytes on the wire in both directions, with all headers, by bytes of request and answer.
    pub(crate) overhead: f64,
}

/// An open loop over a fresh link.
pub(crate) fn measure(
    transport: &impl Transport,
    shape: &Shape,
    seed: u64,
    plan: &Plan,
) -> anyhow::Result<Cell> {
    let lab = Lab::new(shape, seed)?;
    let mut spent = Spent {
        lab: &lab,
        wire: None,
    };
    let (calls, _) = at_both_ends(transport, Place::Link(&lab), async |caller| {
        open_loop(&caller, plan, &mut spent).await
    })?;
    let sent: u64 = spent
        .wire
        .unwrap_or_default()
        .iter()
        .map(|way| way.bytes)
        .sum();
    let payload = 2 * plan.size as u64 * calls.offered;
    Ok(Cell {
        overhead: sent as f64 / payload.max(1) as f64,
        calls,
    })
}

/// What calls cost where the network costs next to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Echo {
    pub(crate) per_second: f64,
    /// Calls for each second of processor time that the server's thread took.
    pub(crate) per_server_second: f64,
    /// Processor time of both threads for each call, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A closed loop over the loopback device, client and server each on a core of its own.
pub(crate) fn echo(
    transport: &impl Transport,
    size: usize,
    in_flight: usize,
    duration: Duration,
) -> anyhow::Result<Echo> {
    let cores = pin::Cores::pick()?;
    let started = Instant::now();
    let ((latency, client), server) =
        at_both_ends(transport, Place::Loopback(cores), async |caller| {
            let latency = closed_loop(&caller, size, in_flight, duration).await?;
            Ok((latency, thread_seconds()))
        })?;
    let elapsed = started.elapsed().as_secs_f64();
    let calls = latency.len();
    Ok(Echo {
        per_second: calls as f64 / elapsed,
        per_server_second: calls as f64 / server,
        cpu_us: 1e6 * (server + client) / calls.max(1) as f64,
        p50_ms: latency.value_at_quantile(0.5) as f64 / 1e6,
        p99_ms: latency.value_at_quantile(0.99) as f64 / 1e6,
    })
}

/// Where the two ends are.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Link(&'a Lab),
    Loopback(pin::Cores),
}

impl Place<'_> {
    /// Puts the calling thread there.
    fn enter(self, end: End) -> anyhow::Result<()> {
        match (self, end) {
            (Self::Link(lab), end) => lab.enter(end),
            (Self::Loopback(cores), End::Near) => pin::stay_on(cores.others),
            (Self::Loopback(cores), End::Far) => pin::stay_on(cores.subject),
        }
    }

    fn address(self, end: End) -> IpAddr {
        match self {
            Self::Link(lab) => lab.address(end),
            Self::Loopback(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn dial(self, listening: SocketAddr) -> SocketAddr {
        match self {
            Self::Link(lab) => lab.dial(listening),
            Self::Loopback(_) => listening,
        }
    }
}

/// Serves at the far end and lets `client` call from the near one, each on a thread with a
/// runtime of its own. Returns what the client came to, and the seconds of processor time that
/// the server's thread took.
fn at_both_ends<T: Transport, R: Send>(
    transport: &T,
    place: Place<'_>,
    client: impl AsyncFnOnce(T::Caller) -> anyhow::Result<R> + Send,
) -> anyhow::Result<(R, f64)> {
    let stop = CancellationToken::new();
    let (listening, address) = oneshot::channel();
    std::thread::scope(|scope| {
        let stopping = stop.clone();
        let server = scope.spawn(move || {
            place.enter(End::Far)?;
            let address = place.address(End::Far);
            runtime()?.block_on(transport.serve(address, listening, stopping))?;
            anyhow::Ok(thread_seconds())
        });
        let client = scope.spawn(move || {
            // Whatever happens here, the server shall not wait for it.
            let _stop = stop.drop_guard();
            place.enter(End::Near)?;
            let address = address.blocking_recv().context("server did not listen")?;
            runtime()?.block_on(async {
                let connect = transport.connect(place.address(End::Near), place.dial(address));
                let caller = tokio::time::timeout(CONNECT_WITHIN, connect)
                    .await
                    .map_err(|_| anyhow!("no connection within {CONNECT_WITHIN:?}"))??;
                client(caller).await
            })
        });
        let client = client.join().map_err(|_| anyhow!("client panicked"))?;
        let server = server.join().map_err(|_| anyhow!("server panicked"))?;
        // The server's error is the cause of the client's.
        let seconds = server?;
        Ok((client?, seconds))
    })
}

/// A runtime on the calling thread alone, so that its sockets are where the thread is.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
}

/// Processor time of the calling thread so far.
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Takes the link's counts around the calls that count.
struct Spent<'a> {
    lab: &'a Lab,
    wire: Option<[Counts; 2]>,
}

impl Around for Spent<'_> {
    fn begin(&mut self) {
        self.lab.mark();
    }

    fn end(&mut self) {
        self.wire = Some(self.lab.counts());
    }
}

/// A handshake that has not come through by then does not.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
