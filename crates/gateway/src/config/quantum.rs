//! Settings of Quantum, the transport over UDP towards services.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{Node, Value};
use super::error::ConfigError;
use super::grpc::{PeerFiles, PeerTls};
use super::{Config, ReadFile};

/// Quantum, the transport over UDP towards services (`quantum://…` in `grpc.services` and in
/// routes). All keys but `tls` and `event_log` change while connections live; new contents of the
/// files of `tls` are taken up by new connections. Keys may be written with `-` as well
/// (`fec-ratio`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantum {
    /// Repair packets per packet within a flight, from 0 to 1; 0 turns error correction off.
    pub fec_ratio: f64,
    /// How repairs are made.
    pub fec_mode: FecMode,
    /// Bits per second that repairs of tails and of single packets may take, beside
    /// `fec_ratio`.
    pub fec_tail_rate: u64,
    /// How much faster than the bandwidth that it measures a new connection sends, from 1 to
    /// 4.
    pub bbr_startup_gain: f64,
    /// Most packets in flight, per connection.
    #[schemars(range(min = 4, max = 1_048_576))]
    pub max_cwnd: u32,
    /// A connection without any packet from the peer for so long is closed.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub idle_timeout: Duration,
    /// After so much silence of our own the peer is reminded of us; 0 means never.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub keep_alive: Duration,
    /// A handshake that takes longer has failed.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub handshake_timeout: Duration,
    /// Bytes that a peer may send of one call before they are read.
    #[schemars(range(min = 16_384, max = 268_435_456))]
    pub stream_window: u32,
    /// The same, of all calls of a connection.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub connection_window: u32,
    /// The largest datagram that is tried, in bytes of UDP payload.
    #[schemars(range(min = 1200, max = 65_507))]
    pub max_datagram: u16,
    /// Who is trusted and what is shown: by routes, and by services without a `tls` of their
    /// own.
    pub tls: PeerTls,
    /// File for the events of connections as lines of JSON, for debugging; empty writes
    /// none.
    pub event_log: PathBuf,
    /// The files, as they were when the configuration was loaded.
    #[serde(skip)]
    #[schemars(skip)]
    pub files: PeerFiles,
}

/// How repairs are made of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FecMode {
    /// Combinations over a window that slides.
    #[default]
    Sliding,
    /// Reed-Solomon over groups of at most ten.
    Block,
    /// None.
    Off,
}

impl Default for Quantum {
    fn default() -> Self {
        Self {
            fec_ratio: 0.3,
            fec_mode: FecMode::Sliding,
            fec_tail_rate: 2_000_000,
            bbr_startup_gain: 2.77,
            max_cwnd: 65_536,
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            max_datagram: 1_472,
            tls: PeerTls::default(),
            event_log: PathBuf::new(),
            files: PeerFiles::default(),
        }
    }
}

/// Writes keys of the section that have `-` in them with `_`. One that is there in both
/// spellings is an error.
pub(super) fn respell(root: &mut Node) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let Value::Map(sections) = &mut root.value else {
        return errors;
    };
    let section = sections.iter_mut().find(|entry| entry.key == "quantum");
    let Some(Value::Map(entries)) = section.map(|entry| &mut entry.node.value) else {
        return errors;
    };
    let mut twice = Vec::new();
    for index in 0..entries.len() {
        let Some(entry) = entries.get(index) else {
            continue;
        };
        if !entry.key.contains('-') {
            continue;
        }
        let spelled = entry.key.replace('-', "_");
        if entries.iter().any(|other| other.key == spelled) {
            let key = format!("quantum.{}", entry.key);
            let problem = format!("is quantum.{spelled} too; expected one of the two");
            errors.push(ConfigError::new(entry.key_place.clone(), key, problem));
            // Told once: it is no unknown key as well.
            twice.push(index);
        } else if let Some(entry) = entries.get_mut(index) {
            entry.key = spelled;
        }
    }
    for index in twice.into_iter().rev() {
        entries.remove(index);
    }
    errors
}

/// Reads the files, and tells each key that is wrong, and why.
pub(super) fn settle(
    quantum: &mut Quantum,
    read: ReadFile<'_>,
    refuse: &mut dyn FnMut(&str, String),
) {
    if !(0.0..=1.0).contains(&quantum.fec_ratio) {
        refuse(
            "quantum.fec_ratio",
            format!("{} is not from 0 to 1", quantum.fec_ratio),
        );
    }
    if !(1.0..=4.0).contains(&quantum.bbr_startup_gain) {
        let problem = format!("{} is not from 1 to 4", quantum.bbr_startup_gain);
        refuse("quantum.bbr_startup_gain", problem);
    }
    for (key, time) in [
        ("quantum.idle_timeout", quantum.idle_timeout),
        ("quantum.handshake_timeout", quantum.handshake_timeout),
    ] {
        if !(SHORTEST..=LONGEST).contains(&time) {
            refuse(key, "must be at least 100ms and at most 1h".to_owned());
        }
    }
    if quantum.connection_window < quantum.stream_window {
        let problem = "must be at least quantum.stream_window";
        refuse("quantum.connection_window", problem.to_owned());
    }
    let tls = &quantum.tls;
    tls.check("quantum.tls", refuse);
    let is_begun = [&tls.ca, &tls.certificate, &tls.key]
        .iter()
        .any(|path| !path.as_os_str().is_empty());
    if is_begun && !tls.is_mutual() {
        let problem = "needs ca, certificate and key: both sides of Quantum show who they are";
        refuse("quantum.tls", problem.to_owned());
    }
    let keys = PeerTls::keys("quantum.tls");
    quantum.files = PeerFiles::read(&tls.named(&keys), read, refuse);
    tls.check_files("quantum.tls", &quantum.files, refuse);
}

/// Routes of the file that lead over Quantum while there is no identity to show. Returns keys and
/// what is wrong with them.
pub(super) fn routes_without_identity(config: &Config) -> Vec<(String, String)> {
    let records = config.proxy.file_routes.records();
    // One that can't be read is missing there: that is told already, and places would be wrong.
    if config.quantum.tls.is_mutual() || records.len() != config.proxy.routes.len() {
        return Vec::new();
    }
    let is_quantum = |url: &str| {
        let scheme = url.get(..SCHEME.len());
        scheme.is_some_and(|it| it.eq_ignore_ascii_case(SCHEME))
    };
    let leads_there = records.iter().enumerate().filter(|(_, record)| {
        let mut upstreams = record.upstreams.iter();
        upstreams.any(|it| is_quantum(&it.url))
    });
    let problem = "needs ca, certificate and key in quantum.tls: both sides of Quantum show who \
                   they are";
    leads_there
        .map(|(index, _)| {
            let key = format!("proxy.routes[{index}].upstreams");
            (key, problem.to_owned())
        })
        .collect()
}

const SCHEME: &str = "quantum://";
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3_600);
