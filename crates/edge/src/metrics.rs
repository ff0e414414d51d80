//! What the edge counts.
//!
//! Workers count in a [`Tally`] of their own and settle it once per turn, so that
//! the hot path does not share a cache line with anybody.

mod live;
mod totals;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use protocol::code::Disconnect;
use protocol::codec::Encoding;
use router::{Flavor, Framing};

use crate::worker::Census;
pub(crate) use live::LiveMetrics;
pub use totals::Totals;

/// A closed set of reasons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A close code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u32,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// How a client is connected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    transport: &'static str,
    encoding: &'static str,
}

/// The edge's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    websocket_active: Gauge,
    websocket_total: Counter,
    pulses: Counter,
    received: Counter,
    sent: Counter,
    push_duration: Option<Histogram>,
    pub(crate) push_failed: Counter,
    connections: Family<Kind, Gauge>,
    states: Family<State, Gauge>,
    handshakes_pending: Gauge,
    refused: Family<Reason, Counter>,
    tokens_refused: Family<Reason, Counter>,
    frame_errors: Family<Reason, Counter>,
    disconnects: Family<Code, Counter>,
    dropped: Family<Reason, Counter>,
    bytes_received: Counter,
    bytes_sent: Counter,
    queue_bytes: Gauge,
    pub(crate) session_panics: Counter,
    pub(crate) worker_panics: Counter,
    resident: Gauge,
    per_connection: Gauge<f64, AtomicU64>,
    pub(crate) live: LiveMetrics,
    reported: Mutex<Reported>,
}

/// What the log has been told already, by reason.
#[derive(Debug, Default)]
struct Reported {
    handshakes: HashMap<&'static str, u64>,
    tokens: HashMap<&'static str, u64>,
    frames: HashMap<&'static str, u64>,
}

impl Metrics {
    /// Registers the edge's metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            push_duration: Some(Histogram::new(PUSH_BUCKETS)),
            ..Self::default()
        };
        metrics.register_seed(registry);
        metrics.register_own(registry);
        metrics.live.register(registry, &metrics.websocket_active);
        metrics.make_series();
        metrics
    }

    /// Makes the series of all closed label sets: a family without any is not exposed,
    /// and a counter that appears with its first event has no rate for it.
    fn make_series(&self) {
        for reason in REFUSALS {
            drop(self.refused.get_or_create(&Reason { reason }));
        }
        for reason in TOKEN_REFUSALS {
            drop(self.tokens_refused.get_or_create(&Reason { reason }));
        }
        for reason in FRAME_ERRORS {
            drop(self.frame_errors.get_or_create(&Reason { reason }));
        }
        for reason in DROPS {
            drop(self.dropped.get_or_create(&Reason { reason }));
        }
        for code in Disconnect::ALL.iter().map(|disconnect| disconnect.code) {
            drop(self.disconnects.get_or_create(&Code {
                code: u32::from(code),
            }));
        }
        for state in STATES {
            drop(self.states.get_or_create(&State { state }));
        }
        for (transport, encoding) in KINDS {
            drop(self.connections.get_or_create(&Kind {
                transport,
                encoding,
            }));
        }
    }

    /// The names of the Resonance seed (`contracts`: im 3.9).
    fn register_seed(&self, registry: &mut Registry) {
        registry.register(
            "gateway_websocket_connections_active",
            "WebSocket connections that are open",
            self.websocket_active.clone(),
        );
        registry.register(
            "gateway_websocket_connections",
            "WebSocket connections that were accepted",
            self.websocket_total.clone(),
        );
        registry.register(
            "gateway_messages_pulse",
            "Heartbeats: pings sent to clients",
            self.pulses.clone(),
        );
        registry.register(
            "gateway_messages_received",
            "Frames received from clients",
            self.received.clone(),
        );
        registry.register(
            "gateway_messages_sent",
            "Replies, pushes and publications sent to clients",
            self.sent.clone(),
        );
        if let Some(duration) = &self.push_duration {
            registry.register(
                "gateway_push_duration_seconds",
                "Time a worker takes to write what one turn of its loop has to deliver",
                duration.clone(),
            );
        }
        registry.register(
            "gateway_push_failed",
            "Publications of clients that the bus refused",
            self.push_failed.clone(),
        );
    }

    fn register_own(&self, registry: &mut Registry) {
        registry.register(
            "tidegate_connections",
            "Client connections by transport and encoding",
            self.connections.clone(),
        );
        registry.register(
            "tidegate_connection_states",
            "Client connections by where they are in their life",
            self.states.clone(),
        );
        registry.register(
            "tidegate_handshakes_pending",
            "Accepted sockets that are not connections yet",
            self.handshakes_pending.clone(),
        );
        registry.register(
            "tidegate_handshakes_refused",
            "Handshakes and requests refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "tidegate_tokens_refused",
            "Connection and subscription tokens refused, by reason",
            self.tokens_refused.clone(),
        );
        registry.register(
            "tidegate_frame_errors",
            "Connections closed for what they sent below the client protocol, by reason",
            self.frame_errors.clone(),
        );
        registry.register(
            "tidegate_disconnects",
            "Connections closed by the server, by close code",
            self.disconnects.clone(),
        );
        registry.register(
            "tidegate_publications_dropped",
            "Publications not delivered to a slow client, by what was done about it",
            self.dropped.clone(),
        );
        registry.register(
            "tidegate_received_bytes",
            "Bytes read from client connections, TLS included",
            self.bytes_received.clone(),
        );
        registry.register(
            "tidegate_sent_bytes",
            "Bytes written to client connections, TLS excluded",
            self.bytes_sent.clone(),
        );
        registry.register(
            "tidegate_queue_bytes",
            "Bytes waiting to be written to clients",
            self.queue_bytes.clone(),
        );
        registry.register(
            "tidegate_session_panics",
            "Sessions closed because of a defect of the server",
            self.session_panics.clone(),
        );
        registry.register(
            "tidegate_worker_panics",
            "Messages and tasks dropped because of a defect of the server",
            self.worker_panics.clone(),
        );
        registry.register(
            "tidegate_memory_resident_bytes",
            "Memory of the process that is resident",
            self.resident.clone(),
        );
        registry.register(
            "tidegate_memory_bytes_per_connection",
            "Resident memory divided by client connections",
            self.per_connection.clone(),
        );
    }

    pub(crate) fn connected(&self, flavor: Flavor) {
        if is_websocket(flavor) {
            self.websocket_active.inc();
            self.websocket_total.inc();
        }
        self.connections.get_or_create(&kind(flavor)).inc();
    }

    pub(crate) fn gone(&self, flavor: Flavor) {
        if is_websocket(flavor) {
            self.websocket_active.dec();
        }
        self.connections.get_or_create(&kind(flavor)).dec();
    }

    /// Counts a handshake or request that was refused, for one of [`REFUSALS`].
    pub(crate) fn refused(&self, reason: &'static str) {
        debug_assert!(REFUSALS.contains(&reason), "{reason} is not listed");
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a token that was refused, for one of [`TOKEN_REFUSALS`].
    pub(crate) fn token_refused(&self, reason: &'static str) {
        debug_assert!(TOKEN_REFUSALS.contains(&reason), "{reason} is not listed");
        self.tokens_refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a connection that broke the rules below the client protocol, for one of
    /// [`FRAME_ERRORS`].
    pub(crate) fn frame_error(&self, reason: &'static str) {
        debug_assert!(FRAME_ERRORS.contains(&reason), "{reason} is not listed");
        self.frame_errors.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a connection that the server closes. The code is the server's or an
    /// operator's, never the client's, which would make the label an open set.
    pub(crate) fn disconnected(&self, code: u16) {
        self.disconnects
            .get_or_create(&Code {
                code: u32::from(code),
            })
            .inc();
    }

    /// WebSocket connections that are open.
    pub(crate) fn websockets(&self) -> i64 {
        self.websocket_active.get()
    }

    pub(crate) fn handshake_begins(&self) {
        self.handshakes_pending.inc();
    }

    pub(crate) fn handshake_ends(&self) {
        self.handshakes_pending.dec();
    }

    /// Notes what the workers' connections sum up to.
    pub(crate) fn note_census(&self, censuses: &[Census]) {
        let note = |gauge: &Gauge, of: fn(&Census) -> usize| {
            gauge.set(i64::try_from(censuses.iter().map(of).sum::<usize>()).unwrap_or(i64::MAX));
        };
        let state = |state| self.states.get_or_create_owned(&State { state });
        note(&state("connecting"), |census| census.connecting);
        note(&state("connected"), |census| census.connected);
        note(&state("closing"), |census| census.closing);
        note(&self.queue_bytes, |census| census.queue_bytes);
        let longest = censuses.iter().map(|census| census.queue_longest).max();
        self.live.note_queue(longest.unwrap_or(0));
        let subscriptions = censuses.iter().map(|census| census.subscriptions).sum();
        self.live.note_subscriptions(subscriptions);
    }

    /// Logs how often clients were refused since the last time, one line per reason: a
    /// client that causes refusals at will does not fill the log.
    pub(crate) fn report_refusals(&self) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let Reported {
            handshakes,
            tokens,
            frames,
        } = &mut *reported;
        for (reason, count) in fresh(&self.refused, &REFUSALS, handshakes) {
            tracing::info!(reason, count, "handshakes or requests were refused");
        }
        for (reason, count) in fresh(&self.tokens_refused, &TOKEN_REFUSALS, tokens) {
            tracing::info!(reason, count, "tokens were refused");
        }
        for (reason, count) in fresh(&self.frame_errors, &FRAME_ERRORS, frames) {
            tracing::info!(reason, count, "connections were closed for what they sent");
        }
    }

    /// Notes the memory in use.
    pub fn note_memory(&self, resident: u64, connections: usize) {
        self.resident
            .set(i64::try_from(resident).unwrap_or(i64::MAX));
        let each = if connections == 0 {
            0.0
        } else {
            resident as f64 / connections as f64
        };
        self.per_connection.set(each);
    }
}

/// What a worker has counted since it last settled.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) deliveries: u64,
    pub(crate) pulses: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) dropped_slow: u64,
    pub(crate) dropped_oldest: u64,
    pub(crate) dropped_conflated: u64,
    /// Messages that live-data clients were too slow for.
    pub(crate) live_dropped: u64,
    /// Live-data clients that became too slow.
    pub(crate) live_slow: u64,
    /// Messages of live-data clients that mean nothing.
    pub(crate) live_ignored: u64,
    /// How long delivering took this turn, in seconds.
    pub(crate) push_seconds: Option<f64>,
}

impl Tally {
    pub(crate) fn settle(&mut self, metrics: &Metrics) {
        let tally = std::mem::take(self);
        let add = |counter: &Counter, count: u64| {
            if count > 0 {
                counter.inc_by(count);
            }
        };
        add(&metrics.received, tally.messages_received);
        add(&metrics.sent, tally.messages_sent + tally.deliveries);
        add(&metrics.pulses, tally.pulses);
        metrics.live.settle(&tally);
        add(&metrics.bytes_received, tally.bytes_received);
        add(&metrics.bytes_sent, tally.bytes_sent);
        let dropped = [
            tally.dropped_slow,
            tally.dropped_oldest,
            tally.dropped_conflated,
        ];
        for (reason, count) in DROPS.into_iter().zip(dropped) {
            if count > 0 {
                metrics
                    .dropped
                    .get_or_create(&Reason { reason })
                    .inc_by(count);
            }
        }
        if let (Some(seconds), Some(duration)) = (tally.push_seconds, &metrics.push_duration) {
            duration.observe(seconds);
            metrics.live.note_latency(seconds);
        }
    }
}

/// What has been counted since it was last reported, by reason.
fn fresh(
    family: &Family<Reason, Counter>,
    reasons: &[&'static str],
    reported: &mut HashMap<&'static str, u64>,
) -> Vec<(&'static str, u64)> {
    let since = |&reason: &&'static str| {
        let count = family.get_or_create(&Reason { reason }).get();
        let before = reported.insert(reason, count).unwrap_or(0);
        (count > before).then_some((reason, count - before))
    };
    reasons.iter().filter_map(since).collect()
}

fn is_websocket(flavor: Flavor) -> bool {
    matches!(flavor.framing, Framing::WebSocket { .. })
}

fn kind(flavor: Flavor) -> Kind {
    Kind {
        transport: match flavor.framing {
            Framing::WebSocket { .. } => "websocket",
            Framing::Stream => "http_stream",
            Framing::Events => "sse",
        },
        encoding: match flavor.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        },
    }
}

const PUSH_BUCKETS: [f64; 10] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

const STATES: [&str; 3] = ["connecting", "connected", "closing"];

const KINDS: [(&str, &str); 5] = [
    ("websocket", "json"),
    ("websocket", "protobuf"),
    ("http_stream", "json"),
    ("http_stream", "protobuf"),
    ("sse", "json"),
];

/// What is done about publications a slow client has no room for.
const DROPS: [&str; 3] = ["disconnected", "dropped_oldest", "conflated"];

const TOKEN_REFUSALS: [&str; 4] = ["expired", "invalid", "revoked", "unavailable"];

/// Why handshakes and requests are refused.
const REFUSALS: [&str; 46] = [
    // The socket, before any request.
    "accept",
    "proxy_header",
    "tls",
    "handshake_timeout",
    "write_timeout",
    // The request as such.
    "header_size",
    "request",
    "connection_lost",
    "path",
    "method",
    "origin",
    "body",
    "body_size",
    "body_timeout",
    // The door.
    "address",
    "connection_limit",
    "connection_limit_per_address",
    "handshake_rate",
    "memory",
    "draining",
    // The WebSocket handshake.
    "http_version",
    "not_upgrade",
    "connection",
    "host",
    "key",
    "version",
    "duplicate",
    "subprotocol",
    "upgrade",
    "watch",
    // Tokens.
    "token_in_query",
    "token_missing",
    "token_unavailable",
    "token_expired",
    "token_invalid",
    // The relay.
    "client_id",
    "message",
    "signature",
    "relay",
    // Live data, and tokens that name their subjects.
    "bus",
    "subjects",
    // Emulated transports.
    "cf_connect",
    "emulation",
    "emulation_node",
    "busy",
    "no_worker",
];

/// What ends connections below the client protocol.
const FRAME_ERRORS: [&str; 21] = [
    "reserved_bits",
    "reserved_opcode",
    "fragmented_control",
    "oversized_control",
    "length_not_minimal",
    "length_overflow",
    "unmasked",
    "masked",
    "unexpected_continuation",
    "expected_continuation",
    "close_truncated",
    "close_code",
    "close_reason_utf8",
    "text_utf8",
    "frame_too_large",
    "message_too_large",
    "inflated_too_large",
    "inflate_ratio",
    "deflate_corrupt",
    "control_frame_rate",
    "tls",
];
