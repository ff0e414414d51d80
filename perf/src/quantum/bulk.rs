//! One-way uploads over one link: how much arrives, who gets how much, how long the queue is.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use lifecycle::CancellationToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::cell::runtime;
use super::netlab::link::Shape;
use super::netlab::{End, Lab};
use super::ours::Quantum;
use super::rivals::{bulk_socket, listen};

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Quantum, one stream.
    Quantum,
    /// The kernel's TCP with this congestion control.
    Tcp(&'static str),
}

impl Flow {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quantum => "quantum",
            Self::Tcp("bbr") => "tcp_bbr",
            Self::Tcp(_) => "tcp_cubic",
        }
    }

    async fn receive(
        self,
        quantum: &Quantum,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        received: &AtomicU64,
    ) -> anyhow::Result<()> {
        match self {
            Self::Quantum => quantum.receive(address, listening, received).await,
            Self::Tcp(congestion) => tcp_receive(congestion, address, listening, received).await,
        }
    }

    async fn send(self, quantum: &Quantum, from: IpAddr, to: SocketAddr) -> anyhow::Result<()> {
        match self {
            Self::Quantum => quantum.send(from, to).await,
            Self::Tcp(congestion) => tcp_send(congestion, from, to).await,
        }
    }
}

/// What flows came to on one link.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Of each flow's own bytes, in the order of the flows.
    pub(crate) mbit: Vec<f64>,
    /// The queue's greatest and mean length, in products of rate and round-trip time.
    pub(crate) queue_max: f64,
    pub(crate) queue_mean: f64,
    pub(crate) overflowed: u64,
}

impl Shares {
    /// What the first has of what the second has.
    pub(crate) fn ratio(&self) -> f64 {
        match self.mbit.as_slice() {
            [first, second, ..] => first / second,
            _ => f64::NAN,
        }
    }
}

/// Lets flows share a fresh link, and counts from when all have begun and warmed up.
pub(crate) fn share(
    quantum: &Quantum,
    flows: &[Flow],
    shape: &Shape,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<Shares> {
    let lab = Lab::new(shape, seed)?;
    let received: Vec<AtomicU64> = flows.iter().map(|_| AtomicU64::new(0)).collect();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = flows
            .iter()
            .zip(&received)
            .flat_map(|(&flow, received)| {
                let (listening, address) = oneshot::channel();
                let (lab, stop) = (&lab, &stop);
                let receiver = scope.spawn(move || {
                    lab.enter(End::Far)?;
                    let receive = flow.receive(quantum, lab.address(End::Far), listening, received);
                    until(stop, receive)
                });
                let sender = scope.spawn(move || {
                    lab.enter(End::Near)?;
                    let to = address.blocking_recv().context("receiver did not listen")?;
                    let from = lab.address(End::Near);
                    until(stop, flow.send(quantum, from, lab.dial(to)))
                });
                [(flow, receiver), (flow, sender)]
            })
            .collect();
        let measured = watch(&lab, shape, &received, duration, &stop);
        stop.cancel();
        for (flow, thread) in threads {
            thread
                .join()
                .map_err(|_| anyhow!("flow panicked"))?
                .with_context(|| format!("flow {} broke off", flow.name()))?;
        }
        measured
    })
}

fn watch(
    lab: &Lab,
    shape: &Shape,
    received: &[AtomicU64],
    duration: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<Shares> {
    let now = || -> Vec<u64> {
        let counts = received.iter().map(|count| count.load(Ordering::Relaxed));
        counts.collect()
    };
    let deadline = Instant::now() + BEGIN_WITHIN;
    while now().contains(&0) {
        ensure!(Instant::now() < deadline, "a flow did not begin");
        ensure!(!stop.is_cancelled(), "a flow broke off");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(WARM_UP);
    lab.mark();
    let (before, started) = (now(), Instant::now());
    std::thread::sleep(duration);
    let elapsed = started.elapsed().as_secs_f64();
    let [forth, _] = lab.counts();
    let mbit = now().into_iter().zip(before);
    Ok(Shares {
        mbit: mbit
            .map(|(after, before)| (after - before) as f64 * 8e-6 / elapsed)
            .collect(),
        queue_max: forth.queue_max as f64 / shape.bdp(),
        queue_mean: forth.queue_mean / shape.bdp(),
        overflowed: forth.overflowed,
    })
}

/// Runs one end until it fails or is told to stop; a failure stops the others.
fn until(
    stop: &CancellationToken,
    flow: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = flow => {
                stop.cancel();
                ended
            }
        }
    })
}

async fn tcp_receive(
    congestion: &str,
    address: IpAddr,
    listening: oneshot::Sender<SocketAddr>,
    received: &AtomicU64,
) -> anyhow::Result<()> {
    let listener = listen(address, congestion)?;
    // Whoever waits may have given up.
    let _ = listening.send(listener.local_addr()?);
    let (mut stream, _) = listener.accept().await?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => received.fetch_add(length as u64, Ordering::Relaxed),
            Err(error) => return Err(error).context("TCP broke off"),
        };
    }
}

async fn tcp_send(congestion: &str, from: IpAddr, to: SocketAddr) -> anyhow::Result<()> {
    let socket = bulk_socket(from, congestion)?;
    let mut stream = TcpSocket::from_std_stream(socket.into())
        .connect(to)
        .await
        .context("TCP did not connect")?;
    let chunk = vec![0x5A; CHUNK];
    loop {
        stream.write_all(&chunk).await.context("TCP broke off")?;
    }
}

const CHUNK: usize = 256 * 1024;

/// From the first bytes of all flows until they count.
const WARM_UP: Duration = Duration::from_secs(2);

const BEGIN_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantum::netlab::link::Loss;

    #[test]
    fn two_flows_fill_a_link() {
        let shape = Shape {
            rtt: Duration::from_millis(4),
            rate: 40_000_000,
            queue_bdp: 2.0,
            loss: Loss::Independent(0.0),
        };
        if Lab::new(&shape, 1).unwrap().only_datagrams().is_some() {
            return;
        }
        let flows = [Flow::Tcp("cubic"), Flow::Tcp("cubic")];
        let shares = share(
            &Quantum::new().unwrap(),
            &flows,
            &shape,
            1,
            Duration::from_secs(1),
        )
        .unwrap();
        let sum: f64 = shares.mbit.iter().sum();
        // 36 to 39 of 40 when nobody else uses the machine.
        assert!(sum > 20.0 && sum < 40.0, "{shares:?}");
        assert!(
            shares.queue_max > 0.5 && shares.queue_mean > 0.0,
            "{shares:?}"
        );
    }
}
