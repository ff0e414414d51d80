//! The thread that moves packets from one end of the link to the other, each when it is due.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::link::{Counts, Direction, Shape};
use super::namespace::run_before_others;

/// Where packets leave the stack of one end and enter it.
#[derive(Debug)]
pub(super) enum Port {
    Tun(File),
    /// Datagrams only; each counts with the headers that it would have.
    Udp {
        socket: UdpSocket,
        /// Who gets what comes out here.
        peer: Arc<Mutex<Option<SocketAddr>>>,
        /// Whether the peer is whoever sent last (the end that dials).
        learns: bool,
    },
}

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    wire: Arc<Wire>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Both directions: from the first port to the second, and back.
#[derive(Debug)]
struct Wire {
    directions: [Mutex<Direction>; 2],
    started: Instant,
    stopping: AtomicBool,
    /// Wakes the thread for the stop.
    wake: OwnedFd,
}

impl Relay {
    pub(super) fn start(shape: &Shape, seed: u64, ports: [Port; 2]) -> anyhow::Result<Self> {
        let direction = |salt| Mutex::new(Direction::new(shape, seed ^ salt));
        let wire = Arc::new(Wire {
            directions: [direction(0), direction(0x5EED_5EED_5EED_5EED)],
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .context("no eventfd")?,
        });
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll")?;
        let watch = |fd: BorrowedFd<'_>| {
            epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN)
                .context("link is not watched")
        };
        watch(wire.wake.as_fd())?;
        for port in &ports {
            watch(port.as_fd())?;
        }
        let run = Run {
            wire: wire.clone(),
            epoll,
            ports,
            flights: Default::default(),
            spare: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || run.run())
            .context("no thread for the link")?;
        Ok(Self {
            wire,
            thread: Some(thread),
        })
    }

    /// Counts begin anew.
    pub(super) fn mark(&self) {
        for direction in 0..2 {
            let now = self.wire.now();
            self.wire.direction(direction).mark(now);
        }
    }

    /// Counts since the mark, from the first port to the second and back.
    pub(super) fn counts(&self) -> [Counts; 2] {
        [0, 1].map(|direction| {
            let now = self.wire.now();
            self.wire.direction(direction).counts(now)
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wire.stopping.store(true, Ordering::Release);
        // A full counter wakes the thread as well.
        let _ = rustix::io::write(&self.wire.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the link is down and the run shows it.
            let _ = thread.join();
        }
    }
}

impl Wire {
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn direction(&self, index: usize) -> MutexGuard<'_, Direction> {
        self.directions[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet on its way.
struct Flying {
    due: u64,
    packet: Vec<u8>,
}

struct Run {
    wire: Arc<Wire>,
    epoll: OwnedFd,
    ports: [Port; 2],
    /// Per direction, in the order in which they are due, as all have the same delay. As long
    /// as the queue and the way are.
    flights: [VecDeque<Flying>; 2],
    spare: Vec<Vec<u8>>,
}

impl Run {
    fn run(mut self) {
        // Waits end when they are due, not up to 50 µs later; if not, the figures say so.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        run_before_others();
        let mut buffer = vec![0; 65_536];
        let mut events = Vec::with_capacity(4);
        while !self.wire.stopping.load(Ordering::Acquire) {
            let mut is_idle = true;
            for direction in 0..2 {
                is_idle &= !self.take_in(direction, &mut buffer);
                self.give_out(direction);
            }
            if is_idle && self.wait(&mut events).is_err() {
                return;
            }
        }
    }

    /// Takes packets from where the direction begins; whether there may be more.
    fn take_in(&mut self, direction: usize, buffer: &mut [u8]) -> bool {
        for _ in 0..BATCH {
            let Ok(length) = self.ports[direction].take(buffer) else {
                return false;
            };
            let packet = &buffer[..length];
            let Some(bytes) = self.ports[direction].bytes_on_the_wire(packet) else {
                continue;
            };
            let now = self.wire.now();
            let Some(due) = self.wire.direction(direction).enter(now, bytes) else {
                continue;
            };
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(packet);
            self.flights[direction].push_back(Flying { due, packet: copy });
        }
        true
    }

    fn give_out(&mut self, direction: usize) {
        let end = 1 - direction;
        loop {
            let now = self.wire.now();
            let flights = &mut self.flights[direction];
            let Some(first) = flights.pop_front_if(|first| first.due <= now) else {
                return;
            };
            // A stack that takes no more loses the packet, as a real one does.
            let _ = self.ports[end].give(&first.packet);
            if self.spare.len() < SPARE_MAX {
                self.spare.push(first.packet);
            }
        }
    }

    /// Rests until a packet comes or is due.
    fn wait(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let dues = self.flights.iter().filter_map(VecDeque::front);
        let wait = match dues.map(|first| first.due).min() {
            Some(due) => Duration::from_nanos(due.saturating_sub(self.wire.now())),
            None => Duration::from_secs(3600),
        };
        if wait < SPIN {
            std::hint::spin_loop();
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: (wait - SPIN).subsec_nanos().into(),
        };
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Port {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tun(device) => device.read(buffer),
            Self::Udp {
                socket,
                peer,
                learns,
            } => {
                let (length, from) = socket.recv_from(buffer)?;
                if *learns {
                    *peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                }
                Ok(length)
            }
        }
    }

    /// None for what is not part of the experiment (IPv6 looking for routers).
    fn bytes_on_the_wire(&self, packet: &[u8]) -> Option<usize> {
        match self {
            Self::Tun(_) => {
                let is_version_4 = packet.first().is_some_and(|first| first >> 4 == 4);
                is_version_4.then_some(packet.len())
            }
            Self::Udp { .. } => Some(packet.len() + UDP_HEADERS),
        }
    }

    fn give(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(device) => device.write_all(packet),
            Self::Udp { socket, peer, .. } => {
                let to = *peer.lock().unwrap_or_else(PoisonError::into_inner);
                let to = to.ok_or(ErrorKind::NotConnected)?;
                socket.send_to(packet, to).map(|_| ())
            }
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tun(device) => device.as_fd(),
            Self::Udp { socket, .. } => socket.as_fd(),
        }
    }
}

/// Packets taken from one end before the other has its turn.
const BATCH: usize = 32;

/// Buffers kept for later packets.
const SPARE_MAX: usize = 1024;

/// A wait shorter than this is not worth going to sleep.
const SPIN: Duration = Duration::from_micros(10);

/// IPv4 and UDP.
const UDP_HEADERS: usize = 28;
