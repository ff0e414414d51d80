//! One connection: everything that happens between two endpoints, as a state machine.
//!
//! **How to drive it.** Hand it what arrives with [`Connection::handle`], and after that, after
//! any call that writes, reads or closes, and whenever [`Connection::timeout`] has come (then
//! first [`Connection::handle_timeout`]), take out all that it has to say: datagrams with
//! [`Connection::poll_transmit`] until `None`, then events with [`Connection::poll`] until
//! `None`. `now` never goes back from one call to the next.
//!
//! **Life.** A handshake proves both sides to each other and brings the peer's limits; then
//! streams carry data; CLOSE, a stateless reset, silence or a broken rule end it. After
//! [`Event::Closed`] nothing comes any more, and [`Connection::is_drained`] says when it may be
//! dropped: until then it repeats its CLOSE to a peer that has not heard it.
//!
//! **What is sent.** `outbound` builds one datagram at a time, in this order: what the handshake
//! needs; proofs of a path; probes; what was lost; repairs; new data; a probe of the path's size;
//! an acknowledgement alone. Acknowledgements ride on everything else where there is room.
//! Congestion window and pacing hold back what is in flight, never acknowledgements.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::congestion::{Bbr, Delivered, Pacer, Settings};
use crate::crypto::{Handshake, Keys, Peer};
use crate::fec::{Decoder, Encoder};
use crate::frame::{Frame, Options};
use crate::packet::Numbering;
use crate::received::Received;
use crate::recovery::{Outcome, Recovery};
use crate::streams::{Limits, Role, StreamEvent, Streams};
use crate::{Guuid, Time};
use assembly::Assembly;
use keyring::Keyring;
use path::{Mtu, Path};
use shaking::Shaking;
use sources::Sources;

mod assembly;
mod gaps;
mod handshaking;
mod inbound;
mod keyring;
mod outbound;
mod path;
mod shaking;
mod sources;
mod stats;
mod timers;

pub use path::BASE_DATAGRAM;
pub use stats::{Samples, Stats};

/// What a new connection is given.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Its name. The client draws it at random, the server takes it from the first packet.
    pub guuid: Guuid,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// Settings; later changes come through [`Connection::configure`].
    pub config: Config,
    /// Where our sequence numbers begin, as announced in `options`; 0 unless the wrap is tested.
    pub start: u32,
    /// What the peer may present to show that we have forgotten the connection.
    pub reset_token: Option<[u8; 16]>,
    /// A secret drawn for this connection alone: tokens that prove a path follow from it.
    pub chance: [u64; 2],
}

impl Setup {
    /// What our side says in the handshake, as the crypto session has to carry it.
    pub fn options(&self) -> Options {
        Options {
            packet_window: self.config.packet_window,
            largest_datagram: self.config.max_datagram,
            fec_schemes: 0b110,
            cookie: None,
            reset_token: self.reset_token,
            first_sequence: self.start,
            connection_window: self.config.connection_window,
            stream_window: self.config.stream_window,
            max_streams: self.config.max_streams,
            ack_delay_max: u32::try_from(Received::ack_delay_max().as_micros()).unwrap_or(u32::MAX),
            idle_timeout: u32::try_from(self.config.idle_timeout.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

/// What a connection tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done: the peer is who it says, and streams may be opened.
    Connected,
    /// The peer's address is another one now.
    Moved(SocketAddr),
    /// Something happened to the streams.
    Stream(StreamEvent),
    /// It is over; streams are gone.
    Closed(Closed),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// We closed it.
    #[error("connection was closed here with code {code}: {text}")]
    Here {
        /// See [`crate::codes::close`].
        code: u32,
        /// For people.
        text: String,
    },
    /// The peer closed it.
    #[error("peer closed the connection with code {code}: {text}")]
    There {
        /// See [`crate::codes::close`].
        code: u32,
        /// For people; the peer's words.
        text: String,
    },
    /// Nothing came for the idle timeout.
    #[error("nothing came from the peer for {waited:?}")]
    Silent {
        /// The idle timeout.
        waited: Duration,
    },
    /// The handshake took too long.
    #[error("handshake was not done within {waited:?}")]
    HandshakeTimedOut {
        /// The handshake timeout.
        waited: Duration,
    },
    /// The peer knows nothing of this connection any more.
    #[error("peer has forgotten the connection")]
    Reset,
}

/// One or several datagrams of equal size to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes appended to the buffer.
    pub size: usize,
    /// The size of each datagram if there are several; the last may be shorter.
    pub segment: Option<usize>,
    /// Whether to mark them as ECN-capable, ECT(0).
    pub ecn: bool,
}

/// One connection; see the module.
pub struct Connection {
    role: Role,
    guuid: Guuid,
    config: Config,
    phase: Phase,
    chance: Chance,

    path: Path,
    /// Where the peer was before it moved, until the new address has proved itself.
    moved_from: Option<Path>,
    mtu: Mtu,

    session: Box<dyn Handshake>,
    shaking: Option<Shaking>,
    keyring: Option<Keyring>,
    /// Application packets that overtook the end of the handshake.
    early: Vec<inbound::Arrived>,
    early_bytes: usize,
    peer_reset_token: Option<[u8; 16]>,

    /// The counter of the next packet that we send.
    counter: u64,
    ours: Numbering,
    theirs: Numbering,
    sources: Sources,
    recovery: Recovery,
    outcome: Outcome,
    bbr: Bbr,
    pacer: Pacer,
    encoder: Encoder,
    /// Repairs under way: counter, first and last sequence covered.
    repairs: VecDeque<(u64, u64, u64)>,
    peer_packet_window: u64,
    /// CE marks that the peer has told us of, and those that BBR has not heard of yet.
    ce_told: u32,
    ce_new: u64,
    /// The SACK blocks that came last.
    peer_sacks: Vec<(u64, u64)>,
    /// A source part that is being sent in pieces, and how far that is.
    piece_at: Option<(u64, usize)>,
    /// What the last attempt to send ran into.
    blocked: outbound::Blocked,

    received: Received,
    decoder: Decoder,
    pieces: VecDeque<(u64, Assembly)>,
    gaps: gaps::Gaps,
    streams: Streams,

    wishes: outbound::Wishes,
    timers: timers::Timers,
    closing: Option<(u32, String)>,
    events: VecDeque<Event>,
    stats: Stats,
    samples: Samples,
    delivered: Vec<Delivered>,
    lost: Vec<Delivered>,
    frames: Vec<Frame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shaking,
    Open,
    /// CLOSE is being said.
    Closing,
    /// Nothing is said any more.
    Over,
}

/// Window of the peer until it says otherwise (S5).
const PACKET_WINDOW_INITIAL: u64 = 256;

impl Connection {
    /// Begins a connection as the client: the first datagram is ready to be taken.
    ///
    /// `handshake` was started with [`Setup::options`], `initial` are the keys of the GUUID.
    pub fn client(now: Time, setup: &Setup, handshake: Box<dyn Handshake>, initial: Keys) -> Self {
        let path = Path::new(setup.remote, true);
        let mut connection = Self::new(now, Role::Client, setup, path, handshake, initial);
        connection.advance_handshake(now);
        connection
    }

    /// Begins a connection as the server, for a first packet that is handed in next.
    ///
    /// `validated` says that the client's address has proved itself with a cookie.
    pub fn server(
        now: Time,
        setup: &Setup,
        handshake: Box<dyn Handshake>,
        initial: Keys,
        validated: bool,
    ) -> Self {
        let path = Path::new(setup.remote, validated);
        Self::new(now, Role::Server, setup, path, handshake, initial)
    }

    fn new(
        now: Time,
        role: Role,
        setup: &Setup,
        path: Path,
        session: Box<dyn Handshake>,
        initial: Keys,
    ) -> Self {
        let config = setup.config;
        let mut chance = Chance::new(setup.chance);
        let mtu = Mtu::new(now, config.max_datagram);
        let bbr = Bbr::new(now, settings(&config, mtu.current()), chance.next());
        let pacer = Pacer::new(now, bbr.pacing_rate(), u64::from(mtu.current()));
        let limits = Limits {
            stream_window: config.stream_window,
            connection_window: config.connection_window,
            send_buffer: config.send_buffer,
            max_streams: config.max_streams,
        };
        Self {
            role,
            guuid: setup.guuid,
            config,
            phase: Phase::Shaking,
            chance,
            path,
            moved_from: None,
            mtu,
            session,
            shaking: Some(Shaking::new(initial)),
            keyring: None,
            early: Vec::new(),
            early_bytes: 0,
            peer_reset_token: None,
            counter: 0,
            ours: Numbering::new(setup.start),
            theirs: Numbering::new(0),
            sources: Sources::new(),
            recovery: Recovery::new(),
            outcome: Outcome::default(),
            bbr,
            pacer,
            encoder: Encoder::new(&config),
            repairs: VecDeque::new(),
            peer_packet_window: PACKET_WINDOW_INITIAL,
            ce_told: 0,
            ce_new: 0,
            peer_sacks: Vec::new(),
            piece_at: None,
            blocked: outbound::Blocked::No,
            received: Received::new(u64::from(config.packet_window)),
            decoder: Decoder::new(),
            pieces: VecDeque::new(),
            gaps: gaps::Gaps::default(),
            streams: Streams::new(role, limits),
            wishes: outbound::Wishes::default(),
            timers: timers::Timers::new(now, &config),
            closing: None,
            events: VecDeque::new(),
            stats: Stats::default(),
            samples: Samples::default(),
            delivered: Vec::new(),
            lost: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Takes over changed settings; windows only grow, and what the peer was told in the
    /// handshake (packet window, idle timeout, datagram size) stays as it was.
    pub fn configure(&mut self, now: Time, config: &Config) {
        self.config = *config;
        self.encoder.configure(config);
        self.bbr.set(settings(config, self.mtu.current()));
        self.pacer.set_rate(now, self.bbr.pacing_rate());
        self.streams.configure(Limits {
            stream_window: config.stream_window,
            connection_window: config.connection_window,
            send_buffer: config.send_buffer,
            max_streams: config.max_streams,
        });
    }

    /// Ends the connection at once: CLOSE is sent with `code` and `text`, streams are gone.
    ///
    /// What waits to be sent is dropped, and so is what the peer has received and its application
    /// has not read, acknowledged or not. Whoever wants data to be heard waits for an answer first.
    pub fn close(&mut self, now: Time, code: u32, text: &str) {
        if matches!(self.phase, Phase::Closing | Phase::Over) {
            return;
        }
        self.closing = Some((code, text.to_owned()));
        self.wishes.close = true;
        // A server that missed the end of the handshake opens nothing else.
        self.wishes.close_handshake = self.shaking.is_some();
        self.end(
            now,
            Phase::Closing,
            Closed::Here {
                code,
                text: text.to_owned(),
            },
        );
    }

    /// Asks the peer for a sign of life; its acknowledgement is an RTT sample.
    pub fn ping(&mut self) {
        self.wishes.ping = true;
    }

    /// Changes to new application keys now instead of after millions of packets. Does nothing
    /// before the peer has acknowledged a packet with the present ones: it could not follow twice.
    pub fn renew_keys(&mut self) {
        let session = &mut self.session;
        let acked = self.recovery.largest_acked();
        if let Some(keyring) = self.keyring.as_mut().filter(|it| it.may_renew(acked)) {
            keyring.renew(&mut || session.next_keys());
        }
    }

    /// Streams: open, accept, write, read. Nothing else may be done with it.
    pub fn streams_mut(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.phase != Phase::Open {
            return None;
        }
        self.streams.poll().map(Event::Stream)
    }

    /// Its name.
    pub fn guuid(&self) -> Guuid {
        self.guuid
    }

    /// Where the peer is now; changes when it moves.
    pub fn remote(&self) -> SocketAddr {
        self.path.remote
    }

    /// Who the peer has proved to be; `None` before the handshake and for anonymous clients.
    pub fn peer(&self) -> Option<Peer> {
        self.session.peer()
    }

    /// The handshake is done and nothing has ended it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Nothing is left to say: it may be dropped.
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Tells the owner, forgets the streams.
    fn end(&mut self, now: Time, phase: Phase, closed: Closed) {
        if matches!(self.phase, Phase::Closing | Phase::Over) {
            return;
        }
        self.phase = phase;
        self.streams.close();
        self.timers.over_at = now + (self.pto() * 3).min(CLOSING_MAX);
        self.events.push_back(Event::Closed(closed));
    }

    /// A rule was broken: the peer is told which, if that is still possible.
    fn fail(&mut self, now: Time, code: u32, text: &str) {
        self.close(now, code, text);
    }

    fn pto(&self) -> Duration {
        self.recovery.pto()
    }
}

/// CLOSE is repeated no longer than this.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// Numbers that follow from a secret, and not from each other: a peer that is shown one of them,
/// as the token of a path, learns nothing of the next (SipHash of a count, keyed by the secret).
#[derive(Debug)]
struct Chance {
    secret: [u64; 2],
    count: u64,
}

impl Chance {
    fn new(secret: [u64; 2]) -> Self {
        Self { secret, count: 0 }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        let mut hash = DefaultHasher::new();
        for word in [self.secret[0], self.secret[1], self.count] {
            hash.write_u64(word);
        }
        hash.finish()
    }
}

fn settings(config: &Config, datagram: u16) -> Settings {
    Settings {
        startup_gain: config.bbr_startup_gain,
        max_cwnd: u64::from(config.max_cwnd) * u64::from(datagram),
        mss: u64::from(datagram),
    }
}

#[cfg(test)]
mod tests;
