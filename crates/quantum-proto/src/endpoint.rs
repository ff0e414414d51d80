//! Which connection a datagram belongs to, and what becomes of those that belong to none.
//!
//! A connection costs memory and a handshake costs work, and anybody can write any address on a
//! datagram. So nothing is answered with more bytes than came, a first packet must be large, and
//! while many handshakes are under way a client has to show first that it receives at its
//! address: it gets a *cookie*, for which nothing is remembered here, and sends it again with its
//! first packet.
//!
//! Packets of connections that nobody here knows any more, as after a restart, are answered with
//! a *stateless reset*: a token that only this endpoint can make and that the peer was told in the
//! handshake. Both cookies and tokens are keyed hashes; the time is part of the cookie's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::crypto::{Keys, Macs, ServerCrypto};
use crate::frame::{Frame, Frames, Options, write_options};
use crate::packet::{
    self, Flags, Header, Packet, RESET_LEN, RESET_TOKEN_LEN, Sacks, Sealed, TRAILER_LEN,
};
use crate::{Guuid, Time};
use drops::Drops;
pub use drops::Reason;
use limit::Limit;

mod drops;
mod limit;

/// Bytes of the first datagram of a client at least.
pub const FIRST_DATAGRAM: usize = 1_200;

/// Limits of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Connections at a time, those that we opened included. Beyond it new ones are dropped.
    pub connections_max: usize,
    /// Handshakes of clients at a time. Beyond it new ones are dropped, cookie or not.
    pub handshakes_max: usize,
    /// Handshakes of clients at a time above which each new client needs a cookie.
    pub half_open_max: usize,
    /// A cookie is good for at least this long and at most twice as long.
    pub cookie_lifetime: Duration,
    /// Stateless resets per second; beyond it unknown packets are dropped.
    pub resets_per_second: u32,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            handshakes_max: 4_096,
            half_open_max: 128,
            cookie_lifetime: Duration::from_secs(120),
            resets_per_second: 100,
        }
    }
}

/// Names a connection in the owner's table: small numbers, used again after
/// [`Endpoint::remove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// What to do with a datagram.
#[derive(Debug)]
pub enum Verdict {
    /// It is this connection's: `Connection::handle`, or `Connection::handle_reset`.
    Connection(Handle),
    /// A client wants to connect: [`Endpoint::insert`] a connection and hand it the packet.
    New(Incoming),
    /// To be sent to where the datagram came from.
    Respond(Bytes),
    /// Nothing.
    Drop(Reason),
}

/// A client that wants to connect.
#[derive(Debug)]
pub struct Incoming {
    /// The name that it gave the connection.
    pub guuid: Guuid,
    /// Where it says it is.
    pub remote: SocketAddr,
    /// It has shown with a cookie that it receives there.
    pub validated: bool,
    /// Keys of its first packets.
    pub initial: Keys,
}

/// The table of connections; see the module. [`Endpoint::handle`] each datagram that has the form
/// of a packet, and tell of each connection that begins ([`Endpoint::insert`]), is established
/// ([`Endpoint::established`]) and ends ([`Endpoint::remove`]).
pub struct Endpoint {
    config: EndpointConfig,
    macs: Box<dyn Macs>,
    /// Without it no client is let in.
    server: Option<Arc<dyn ServerCrypto>>,
    /// Only looked up, never walked, so its order does not matter.
    handles: HashMap<Guuid, Handle>,
    slots: Vec<Option<Slot>>,
    free: Vec<Handle>,
    handshakes: usize,
    resets: Limit,
    drops: Drops,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    guuid: Guuid,
    shaking: bool,
}

/// Purposes of keyed hashes.
const COOKIE: u8 = 1;
const RESET: u8 = 2;
const COOKIE_LEN: usize = 16;
/// The counter of all packets with a cookie: no connection comes so far, so no packet of one can
/// be taken for its copy.
const COOKIE_COUNTER: u64 = u64::MAX;

impl Endpoint {
    /// An endpoint without connections. `macs` must be the same after a restart for resets to be
    /// believed. `server` lets clients in.
    pub fn new(
        config: EndpointConfig,
        macs: Box<dyn Macs>,
        server: Option<Arc<dyn ServerCrypto>>,
    ) -> Self {
        Self {
            config,
            macs,
            server,
            handles: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            handshakes: 0,
            resets: Limit::default(),
            drops: Drops::default(),
        }
    }

    /// Says what to do with a packet that came from `remote`. The packet stays with the caller.
    pub fn handle(&mut self, now: Time, remote: SocketAddr, packet: &Packet) -> Verdict {
        let verdict = match packet {
            Packet::Reset { guuid, .. } => match self.handles.get(guuid) {
                Some(handle) => Verdict::Connection(*handle),
                None => Verdict::Drop(Reason::UnknownReset),
            },
            Packet::Sealed(sealed) => match self.handles.get(&sealed.header.guuid) {
                Some(handle) => Verdict::Connection(*handle),
                None if sealed.header.flags.contains(Flags::SYN) => {
                    self.first_packet(now, remote, sealed)
                }
                None => self.unknown(now, sealed),
            },
        };
        if let Verdict::Drop(reason) = verdict {
            self.drops.count(reason);
        }
        verdict
    }

    /// Takes up a connection. `shaking` says that it is a client's and its handshake is not done.
    ///
    /// # Errors
    /// There are as many as allowed, or there is one of this name.
    pub fn insert(&mut self, guuid: Guuid, shaking: bool) -> Result<Handle, InsertError> {
        if self.handles.len() >= self.config.connections_max {
            return Err(InsertError::Full {
                max: self.config.connections_max,
            });
        }
        if self.handles.contains_key(&guuid) {
            return Err(InsertError::Taken { guuid });
        }
        let slot = Some(Slot { guuid, shaking });
        let handle = match self.free.pop() {
            Some(handle) => {
                self.slots[handle.0 as usize] = slot;
                handle
            }
            None => {
                let next = u32::try_from(self.slots.len());
                let next = next.map_err(|_| InsertError::Full {
                    max: self.slots.len(),
                })?;
                self.slots.push(slot);
                Handle(next)
            }
        };
        self.handles.insert(guuid, handle);
        self.handshakes += usize::from(shaking);
        Ok(handle)
    }

    /// The handshake of that connection is done.
    pub fn established(&mut self, handle: Handle) {
        if let Some(Some(slot)) = self.slots.get_mut(handle.0 as usize)
            && std::mem::take(&mut slot.shaking)
        {
            self.handshakes -= 1;
        }
    }

    /// The connection is over; its handle is free.
    pub fn remove(&mut self, handle: Handle) {
        let slot = self.slots.get_mut(handle.0 as usize);
        if let Some(slot) = slot.and_then(Option::take) {
            self.handles.remove(&slot.guuid);
            self.handshakes -= usize::from(slot.shaking);
            self.free.push(handle);
        }
    }

    /// The token that the connection tells its peer, for the case that we forget it.
    pub fn reset_token(&self, guuid: Guuid) -> [u8; RESET_TOKEN_LEN] {
        first_half(&self.macs.mac(RESET, &[guuid.as_bytes()]))
    }

    /// Takes over changed limits; what is there stays.
    pub fn configure(&mut self, config: EndpointConfig) {
        self.config = config;
    }

    /// Lets clients in with other certificates from now on, or no more of them.
    pub fn set_server(&mut self, server: Option<Arc<dyn ServerCrypto>>) {
        self.server = server;
    }

    /// What lets clients in.
    pub fn server(&self) -> Option<&Arc<dyn ServerCrypto>> {
        self.server.as_ref()
    }

    /// Connections at present.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// There is no connection.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Handshakes of clients at present.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// Counts a datagram that the caller dropped.
    pub fn dropped(&mut self, reason: Reason) {
        self.drops.count(reason);
    }

    /// Datagrams dropped since the beginning, by reason.
    pub fn drops(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.drops.iter()
    }

    /// A packet with SYN of a connection that is not there. The cheapest refusals come first.
    fn first_packet(&mut self, now: Time, remote: SocketAddr, sealed: &Sealed) -> Verdict {
        let Some(server) = &self.server else {
            return Verdict::Drop(Reason::NotAccepting);
        };
        if sealed.header.flags != Flags::SYN {
            return Verdict::Drop(Reason::UnknownHandshake);
        }
        if sealed.len() < FIRST_DATAGRAM {
            return Verdict::Drop(Reason::ShortFirst);
        }
        if self.handles.len() >= self.config.connections_max
            || self.handshakes >= self.config.handshakes_max
        {
            return Verdict::Drop(Reason::Full);
        }
        let guuid = sealed.header.guuid;
        let initial = server.initial(guuid);
        // The connection opens it again, so this works on a copy.
        let Ok(payload) = sealed.clone().open(initial.remote.as_ref()) else {
            return Verdict::Drop(Reason::Forged);
        };
        let hello = match first_frames(payload) {
            Ok(hello) => hello,
            Err(reason) => return Verdict::Drop(reason),
        };
        let validated = hello
            .cookie
            .is_some_and(|cookie| self.is_good_cookie(now, remote, guuid, &cookie));
        if !validated && self.handshakes >= self.config.half_open_max {
            let cookie = self.cookie(self.slot(now), remote, guuid);
            return Verdict::Respond(cookie_packet(guuid, &cookie, &initial));
        }
        Verdict::New(Incoming {
            guuid,
            remote,
            validated,
            initial,
        })
    }

    /// A packet of a connection that is not there, which ours may have been before a restart.
    fn unknown(&mut self, now: Time, sealed: &Sealed) -> Verdict {
        // Shorter than what came: two endpoints that know nothing cannot keep each other busy.
        if sealed.len() <= RESET_LEN {
            return Verdict::Drop(Reason::Unknown);
        }
        if !self.resets.take(now, self.config.resets_per_second) {
            return Verdict::Drop(Reason::ResetsLimited);
        }
        let guuid = sealed.header.guuid;
        let mut out = BytesMut::with_capacity(RESET_LEN);
        packet::write_reset(guuid, &self.reset_token(guuid), &mut out);
        Verdict::Respond(out.freeze())
    }

    fn slot(&self, now: Time) -> u64 {
        let lifetime = self.config.cookie_lifetime.as_nanos().max(1);
        u64::try_from(now.elapsed().as_nanos() / lifetime).unwrap_or(u64::MAX)
    }

    /// Its key changes with the time slot, which is part of what is hashed.
    fn cookie(&self, slot: u64, remote: SocketAddr, guuid: Guuid) -> [u8; COOKIE_LEN] {
        let address = match remote.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        first_half(&self.macs.mac(
            COOKIE,
            &[
                &slot.to_be_bytes(),
                &address.octets(),
                &remote.port().to_be_bytes(),
                guuid.as_bytes(),
            ],
        ))
    }

    fn is_good_cookie(&self, now: Time, remote: SocketAddr, guuid: Guuid, shown: &[u8]) -> bool {
        let slot = self.slot(now);
        let mut slots = [Some(slot), slot.checked_sub(1)].into_iter().flatten();
        slots.any(|slot| is_equal(&self.cookie(slot, remote, guuid), shown))
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("connections", &self.handles.len())
            .field("handshakes", &self.handshakes)
            .finish_non_exhaustive()
    }
}

/// Why a connection was not taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// There are as many as allowed.
    #[error("there are {max} connections already")]
    Full {
        /// How many are allowed.
        max: usize,
    },
    /// There is one of this name.
    #[error("there is a connection {guuid} already")]
    Taken {
        /// The name.
        guuid: Guuid,
    },
}

struct Hello {
    cookie: Option<Bytes>,
}

/// What a client's first packet holds: a beginning of the handshake, perhaps a cookie.
fn first_frames(payload: Bytes) -> Result<Hello, Reason> {
    let (mut hello, mut begins) = (Hello { cookie: None }, false);
    for frame in Frames::new(payload) {
        match frame {
            Ok(Frame::Crypto { offset: 0, data }) => begins |= !data.is_empty(),
            Ok(Frame::Options(tlvs)) => {
                let options = Options::decode(&tlvs).map_err(|_| Reason::Malformed)?;
                hello.cookie = options.cookie;
            }
            Ok(_) => {}
            Err(_) => return Err(Reason::Malformed),
        }
    }
    if begins {
        Ok(hello)
    } else {
        Err(Reason::NoBeginning)
    }
}

fn cookie_packet(guuid: Guuid, cookie: &[u8; COOKIE_LEN], initial: &Keys) -> Bytes {
    let header = Header {
        flags: Flags::SYN.with(Flags::ACK),
        guuid,
        sequence: 0,
        ack: 0,
        sacks: Sacks::default(),
    };
    let mut out = BytesMut::with_capacity(128);
    header.write(0, &mut out);
    let options = Options {
        cookie: Some(Bytes::copy_from_slice(cookie)),
        ..Options::default()
    };
    let mut tlvs = Vec::with_capacity(2 + COOKIE_LEN);
    options.encode(&mut tlvs);
    write_options(&mut out, &tlvs);
    packet::seal(
        &mut out,
        0,
        header.len(),
        COOKIE_COUNTER,
        initial.local.as_ref(),
    );
    debug_assert!(out.len() + TRAILER_LEN < FIRST_DATAGRAM, "never amplifies");
    out.freeze()
}

fn first_half(mac: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&mac[..16]);
    half
}

/// Takes the same time whatever differs.
fn is_equal(ours: &[u8; COOKIE_LEN], shown: &[u8]) -> bool {
    shown.len() == ours.len()
        && ours
            .iter()
            .zip(shown)
            .fold(0, |differing, (one, other)| differing | (one ^ other))
            == 0
}

#[cfg(test)]
mod tests;
