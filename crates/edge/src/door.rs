//! Who is let in: caps, rates and memory, decided before work is spent on a client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::CancellationToken;

use crate::live;

/// Most addresses whose rate is remembered at once. Then those that have all of their
/// burst again are forgotten, and if that does not halve them, all are: who has that
/// many addresses is not held up by a rate of each.
const RATED_ADDRESSES_MAX: usize = 100_000;

/// Counts who is in.
#[derive(Debug, Default)]
pub struct Door {
    connections: AtomicUsize,
    requests: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    rate: Mutex<Bucket>,
    rate_by_address: Mutex<HashMap<IpAddr, Bucket>>,
    rate_refusals: AtomicU64,
    resident: AtomicU64,
    is_leaving: AtomicBool,
    closing: CancellationToken,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address is on the deny list, or not on the allow list.
    #[error("address is not admitted")]
    Address,
    /// The process holds as many connections as it may.
    #[error("connection limit is reached")]
    Connections,
    /// The address holds as many connections as it may.
    #[error("connection limit of the address is reached")]
    ConnectionsOfAddress,
    /// Handshakes come faster than they may.
    #[error("handshake rate is exceeded")]
    Rate,
    /// The process uses as much memory as it may.
    #[error("memory limit is reached")]
    Memory,
    /// The process is about to end.
    #[error("server is shutting down")]
    Draining,
}

impl Refusal {
    /// What the client is answered.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Address => http::StatusCode::FORBIDDEN,
            Self::Connections | Self::Memory | Self::Draining => {
                http::StatusCode::SERVICE_UNAVAILABLE
            }
            Self::ConnectionsOfAddress | Self::Rate => http::StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// For the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connections => "connection_limit",
            Self::ConnectionsOfAddress => "connection_limit_per_address",
            Self::Rate => "handshake_rate",
            Self::Memory => "memory",
            Self::Draining => "draining",
        }
    }
}

/// A place in the process's counts; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    door: Arc<Door>,
    address: Option<IpAddr>,
}

/// A request of the HTTP proxy that is under way; counted until it is dropped.
#[derive(Debug)]
pub struct Underway {
    door: Arc<Door>,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.door.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.door.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut counts = lock(&self.door.by_address);
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
            if counts.capacity() > 4 * counts.len() + 1_024 {
                let twice = 2 * counts.len();
                counts.shrink_to(twice);
            }
        }
    }
}

impl Door {
    /// Lets one client in, or says why not.
    pub fn admit(
        self: &Arc<Self>,
        live: &live::Live,
        address: IpAddr,
        now_ms: u64,
    ) -> Result<Pass, Refusal> {
        let door = &live.door;
        if !live.addresses.admits(address) {
            return Err(Refusal::Address);
        }
        if self.is_closed() {
            return Err(Refusal::Draining);
        }
        if self.is_out_of_memory(door.memory) {
            return Err(Refusal::Memory);
        }
        let place = group(address);
        if !lock(&self.rate).take(door.handshake_rate, door.handshake_burst, now_ms)
            || !self.take_rate_of(place, door, now_ms)
        {
            self.rate_refusals.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Rate);
        }
        if self.connections.fetch_add(1, Ordering::Relaxed) >= limit(door.connections) {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Connections);
        }
        // From here on the pass gives the count back, whatever happens.
        let mut pass = Pass {
            door: Arc::clone(self),
            address: None,
        };
        if door.connections_per_address > 0 {
            let mut counts = lock(&self.by_address);
            let count = counts.entry(place).or_default();
            if *count >= door.connections_per_address {
                return Err(Refusal::ConnectionsOfAddress);
            }
            *count += 1;
            pass.address = Some(place);
        }
        Ok(pass)
    }

    /// The process is about to end: whoever can go elsewhere is told to.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed) || self.is_closed()
    }

    /// Lets nobody in any more: sockets that were accepted before may still ask.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Whether nobody is let in any more.
    pub fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until nobody is let in any more.
    pub async fn closed(&self) {
        self.closing.cancelled().await;
    }

    /// Whether the process uses more than `limit` bytes (0: no limit).
    pub fn is_out_of_memory(&self, limit: u64) -> bool {
        limit > 0 && self.resident.load(Ordering::Relaxed) > limit
    }

    /// Notes how many bytes of memory the process holds.
    pub fn note_resident(&self, bytes: u64) {
        self.resident.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of memory last noted.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// How the rate limits of handshakes stand.
    pub fn rates(&self, door: &live::Door, now_ms: u64) -> Rates {
        let buckets = lock(&self.rate_by_address);
        let (rate, burst) = (
            door.handshake_rate_per_address,
            door.handshake_burst_per_address,
        );
        let tokens: u64 = buckets
            .values()
            .map(|bucket| bucket.left(rate, burst, now_ms))
            .sum();
        Rates {
            addresses: buckets.len(),
            tokens_average: tokens.checked_div(buckets.len() as u64).unwrap_or(0),
            refused: self.rate_refusals.load(Ordering::Relaxed),
        }
    }

    /// A request of the HTTP proxy begins: who drains waits for its end.
    pub fn request_begins(self: &Arc<Self>) -> Underway {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Underway {
            door: Arc::clone(self),
        }
    }

    /// Requests of the HTTP proxy that are under way.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that are in.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn take_rate_of(&self, place: IpAddr, door: &live::Door, now_ms: u64) -> bool {
        if door.handshake_rate_per_address == 0 {
            return true;
        }
        let mut buckets = lock(&self.rate_by_address);
        if buckets.len() >= RATED_ADDRESSES_MAX {
            buckets.retain(|_, bucket| !bucket.is_full_again(now_ms));
            if buckets.len() > RATED_ADDRESSES_MAX / 2 {
                buckets.clear();
            }
        }
        buckets.entry(place).or_default().take(
            door.handshake_rate_per_address,
            door.handshake_burst_per_address,
            now_ms,
        )
    }
}

/// How the rate limits of handshakes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Addresses whose rate is remembered.
    pub addresses: usize,
    /// Handshakes that each of them may make at once, on average.
    pub tokens_average: u64,
    /// Handshakes refused since the start.
    pub refused: u64,
}

/// A leaky bucket in one number (GCRA): when the next token would be due, in µs.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bucket {
    next_us: u64,
}

impl Bucket {
    /// Takes a token if there is one; a rate of 0 has no end of them.
    pub(crate) fn take(&mut self, per_second: u32, burst: u32, now_ms: u64) -> bool {
        if per_second == 0 {
            return true;
        }
        let interval_us = (1_000_000 / u64::from(per_second)).max(1);
        let now_us = now_ms * 1_000;
        let next_us = self.next_us.max(now_us) + interval_us;
        if next_us > now_us + interval_us * u64::from(burst.max(1)) {
            return false;
        }
        self.next_us = next_us;
        true
    }

    /// Tokens that are left.
    fn left(self, per_second: u32, burst: u32, now_ms: u64) -> u64 {
        let interval_us = 1_000_000_u64
            .checked_div(per_second.into())
            .unwrap_or(0)
            .max(1);
        let owed_us = self.next_us.saturating_sub(now_ms * 1_000);
        u64::from(burst.max(1)).saturating_sub(owed_us.div_ceil(interval_us))
    }

    fn is_full_again(self, now_ms: u64) -> bool {
        self.next_us <= now_ms * 1_000
    }
}

/// Whose limit an address counts towards: an IPv6 client owns a /64.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn limit(configured: usize) -> usize {
    if configured == 0 {
        usize::MAX
    } else {
        configured
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_burst_and_refills_at_its_rate() {
        let mut bucket = Bucket::default();
        let taken = (0..10).filter(|_| bucket.take(10, 3, 1_000)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(10, 3, 1_050));
        assert!(bucket.take(10, 3, 1_100));
        assert!(!bucket.take(10, 3, 1_100));
        assert_eq!(bucket.left(10, 3, 1_100), 0);
        assert_eq!(bucket.left(10, 3, 1_250), 1);
        assert_eq!(bucket.left(10, 3, 9_000), 3);
        assert!((0..1_000).all(|_| bucket.take(0, 0, 1_100)));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let (one, two): (IpAddr, IpAddr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::ffff:2".parse().unwrap(),
        );
        assert_eq!(group(one), group(two));
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_ne!(group(one), group(other));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(group(mapped), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
