//! A link that loses and delays datagrams, between a client and a server on this machine.
//!
//! Clients send to [`LossyLink::address`]; the server sees each of them at a port of its own.
//! What is lost follows from the seed and from the order of the datagrams, each direction for
//! itself. Needs no privileges, so it runs wherever tests do; for measurements there is
//! `perf -- quantum`.

use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How the link behaves.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig {
    /// Where datagrams of clients go.
    pub server: SocketAddr,
    /// The share of datagrams that is lost, 0 to 1, in each direction.
    pub loss: f64,
    /// How many are lost in a row, on average; 1 for losses that know nothing of each other.
    pub burst: f64,
    /// How long a datagram takes in one direction.
    pub delay: Duration,
    /// Decides what is lost.
    pub seed: u64,
}

/// What has happened on a link so far, both directions together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Datagrams handed on.
    pub delivered: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Datagrams lost.
    pub lost: u64,
}

/// A running link; ends when dropped.
#[derive(Debug)]
pub struct LossyLink {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    config: Mutex<LinkConfig>,
    stop: AtomicBool,
    rebind: AtomicBool,
    delivered: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
}

struct Relay {
    shared: Arc<Shared>,
    front: UdpSocket,
    /// Towards the server, one socket per client.
    backs: Vec<Back>,
    by_client: HashMap<SocketAddr, usize>,
    under_way: BinaryHeap<UnderWay>,
    number: u64,
    fates: [Fate; 2],
}

struct Back {
    socket: UdpSocket,
    client: SocketAddr,
}

/// Ordered so that a heap gives the earliest first.
#[derive(PartialEq, Eq)]
struct UnderWay {
    due: Instant,
    number: u64,
    back: usize,
    up: bool,
    datagram: Vec<u8>,
}

struct Fate {
    random: u64,
    in_burst: bool,
}

/// Clients that a link knows; datagrams of others are lost.
const CLIENTS_MAX: usize = 256;
/// Datagrams under way; beyond it they are lost.
const UNDER_WAY_MAX: usize = 65_536;

impl LinkConfig {
    /// A link to that server which loses nothing and takes no time.
    pub fn to(server: SocketAddr) -> Self {
        Self {
            server,
            loss: 0.0,
            burst: 1.0,
            delay: Duration::ZERO,
            seed: 1,
        }
    }
}

impl LossyLink {
    /// Starts a link on a free port of 127.0.0.1.
    pub fn start(config: LinkConfig) -> anyhow::Result<Self> {
        let front = socket()?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            stop: AtomicBool::new(false),
            rebind: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let mut relay = Relay {
            shared: Arc::clone(&shared),
            front,
            backs: Vec::new(),
            by_client: HashMap::new(),
            under_way: BinaryHeap::new(),
            number: 0,
            fates: [0, 1].map(|direction| Fate {
                random: config.seed.wrapping_mul(2).wrapping_add(direction),
                in_burst: false,
            }),
        };
        let thread = std::thread::Builder::new().name("lossy-link".to_owned());
        let thread = thread.spawn(move || relay.run())?;
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the share that is lost; 1 cuts the link.
    pub fn set_loss(&self, loss: f64) {
        self.shared.config().loss = loss;
    }

    /// From now on datagrams of clients go there.
    pub fn set_server(&self, server: SocketAddr) {
        self.shared.config().server = server;
    }

    /// From now on the server sees known clients at other ports, as after a router has forgotten
    /// them.
    pub fn rebind(&self) {
        self.shared.rebind.store(true, Ordering::Relaxed);
    }

    /// What has happened so far.
    pub fn counts(&self) -> LinkCounts {
        LinkCounts {
            delivered: self.shared.delivered.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
        }
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn config(&self) -> std::sync::MutexGuard<'_, LinkConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    fn run(&mut self) {
        let mut buffer = vec![0; 65_535];
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait();
            if self.shared.rebind.swap(false, Ordering::Relaxed) {
                for back in &mut self.backs {
                    if let Ok(fresh) = socket() {
                        back.socket = fresh;
                    }
                }
            }
            let now = Instant::now();
            while let Ok((len, client)) = self.front.recv_from(&mut buffer) {
                if let Some(back) = self.back_of(client) {
                    self.send_off(now, back, true, &buffer[..len]);
                }
            }
            for back in 0..self.backs.len() {
                while let Ok((len, _)) = self.backs[back].socket.recv_from(&mut buffer) {
                    self.send_off(now, back, false, &buffer[..len]);
                }
            }
            self.deliver();
        }
    }

    /// Until something comes or is due, or for a while, so that a stop is seen.
    fn wait(&self) {
        let longest = Duration::from_millis(50);
        let due = self.under_way.peek().map(|first| first.due);
        let wait = due.map_or(longest, |due| due.saturating_duration_since(Instant::now()));
        let wait = wait.min(longest);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let sockets = self.backs.iter().map(|back| &back.socket);
        let sockets = std::iter::once(&self.front).chain(sockets);
        let mut polled: Vec<_> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let _ = poll(&mut polled, Some(&timeout));
    }

    fn back_of(&mut self, client: SocketAddr) -> Option<usize> {
        if let Some(back) = self.by_client.get(&client) {
            return Some(*back);
        }
        if self.backs.len() >= CLIENTS_MAX {
            return None;
        }
        let socket = socket().ok()?;
        self.backs.push(Back { socket, client });
        self.by_client.insert(client, self.backs.len() - 1);
        Some(self.backs.len() - 1)
    }

    fn send_off(&mut self, now: Instant, back: usize, up: bool, datagram: &[u8]) {
        let config = *self.shared.config();
        let is_lost = self.fates[usize::from(up)].is_lost(config.loss, config.burst);
        if is_lost || self.under_way.len() >= UNDER_WAY_MAX {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.number += 1;
        self.under_way.push(UnderWay {
            due: now + config.delay,
            number: self.number,
            back,
            up,
            datagram: datagram.to_vec(),
        });
    }

    fn deliver(&mut self) {
        let server = self.shared.config().server;
        let now = Instant::now();
        while self.under_way.peek().is_some_and(|first| first.due <= now) {
            let Some(UnderWay {
                back, up, datagram, ..
            }) = self.under_way.pop()
            else {
                return;
            };
            // Counted before it leaves, so that whoever has received it finds it counted.
            self.shared.delivered.fetch_add(1, Ordering::Relaxed);
            let bytes = datagram.len() as u64;
            self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            let back = &self.backs[back];
            // What the system refuses to send is lost, as on any link.
            let _ = if up {
                back.socket.send_to(&datagram, server)
            } else {
                self.front.send_to(&datagram, back.client)
            };
        }
    }
}

impl Fate {
    /// Gilbert's model: within a burst everything is lost.
    fn is_lost(&mut self, loss: f64, burst: f64) -> bool {
        let loss = loss.clamp(0.0, 1.0);
        let burst = burst.max(1.0);
        let chance = self.chance();
        self.in_burst = if burst <= 1.0 || loss >= 1.0 {
            chance < loss
        } else if self.in_burst {
            chance >= 1.0 / burst
        } else {
            chance < loss / (burst * (1.0 - loss))
        };
        self.in_burst
    }

    /// Uniform in 0..1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn socket() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).context("no UDP port is free")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_as_many_and_as_long_as_asked_for() {
        for (loss, burst) in [(0.05, 1.0), (0.02, 3.0), (0.1, 5.0)] {
            let mut fate = Fate {
                random: 7,
                in_burst: false,
            };
            let fates: Vec<bool> = (0..200_000).map(|_| fate.is_lost(loss, burst)).collect();
            let lost = fates.iter().filter(|lost| **lost).count() as f64;
            let bursts = fates.windows(2).filter(|two| !two[0] && two[1]).count() as f64;
            assert!(
                (lost / 200_000.0 / loss - 1.0).abs() < 0.1,
                "{loss} {burst}"
            );
            assert!((lost / bursts / burst - 1.0).abs() < 0.15, "{loss} {burst}");
        }
    }

    #[test]
    fn datagrams_cross_in_both_directions_and_late() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        }
        let link = LossyLink::start(LinkConfig {
            delay: Duration::from_millis(10),
            ..LinkConfig::to(server.local_addr().unwrap())
        })
        .unwrap();
        let begun = Instant::now();
        client.send_to(b"there", link.address()).unwrap();
        let mut buffer = [0; 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"there");
        server.send_to(b"and back", from).unwrap();
        let (len, _) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"and back");
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(link.counts().delivered, 2);
    }
}
