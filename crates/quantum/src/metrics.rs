//! Figures of an endpoint: the seed's eight, and those that explain them.
//!
//! Connections count for themselves; what they have counted is put together when somebody asks.
//! So a packet costs no shared counter, and nothing is labelled by connection.

use std::sync::Arc;

use quantum_proto::congestion::State;
use quantum_proto::connection::Samples;
use quantum_proto::endpoint::Reason;
use quantum_proto::streams::Role;

use crate::endpoint::Common;
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::lane::{Lane, add, index};

/// The figures of one endpoint; a clone shows the same.
#[derive(Debug, Clone)]
pub struct Figures {
    pub(crate) common: Arc<Common>,
    pub(crate) lanes: Arc<[Arc<Lane>]>,
}

/// Figures of one role at one moment. Each field says under which name it is exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Label `service`.
    pub service: String,
    /// Label `role`: `client` or `server`.
    pub role: &'static str,
    /// `quantum_packets_sent_total`.
    pub packets_sent: u64,
    /// `quantum_packets_received_total`.
    pub packets_received: u64,
    /// `quantum_packets_lost_total`; those that a repair gave back are among them.
    pub packets_lost: u64,
    /// `quantum_rtt_seconds`.
    pub rtt: HistogramSnapshot,
    /// `quantum_cwnd_bytes`, of all connections together.
    pub cwnd: u64,
    /// `quantum_inflight_bytes`, of all connections together.
    pub inflight: u64,
    /// `quantum_fec_recoveries_total`.
    pub fec_recoveries: u64,
    /// `quantum_retransmissions_total`.
    pub retransmissions: u64,
    /// `quantum_fec_repair_sent_total`.
    pub fec_repair_sent: u64,
    /// `quantum_fec_unrecoverable_total`.
    pub fec_unrecoverable: u64,
    /// `quantum_spurious_retransmissions_total`.
    pub spurious_retransmissions: u64,
    /// `quantum_recovery_seconds`: how long a hole stayed open that a repair closed.
    pub recovery: HistogramSnapshot,
    /// `quantum_pacing_rate_bytes`, per second, of all connections together.
    pub pacing_rate: u64,
    /// `quantum_bbr_state`: connections by label `state`.
    pub bbr_state: [(&'static str, u64); 4],
    /// `quantum_handshake_seconds`.
    pub handshake: HistogramSnapshot,
    /// `quantum_decrypt_failures_total`.
    pub decrypt_failures: u64,
    /// `quantum_dropped_total` by label `reason`. What belonged to no connection counts for the
    /// server, if the endpoint is one.
    pub dropped: Vec<(&'static str, u64)>,
    /// `quantum_connections`: now.
    pub connections: u64,
    /// `quantum_connections_ended_total`.
    pub connections_ended: u64,
    /// `quantum_sent_bytes_total`, of UDP payload.
    pub sent_bytes: u64,
    /// `quantum_received_bytes_total`, of UDP payload.
    pub received_bytes: u64,
    /// `quantum_fec_repair_bytes_total`, of UDP payload.
    pub fec_repair_bytes: u64,
    /// `quantum_memory_bytes`: held for sending, retransmission, reading and recovery.
    pub memory: u64,
}

/// What connections of one role measure, as it comes.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) rtt: Histogram,
    pub(crate) recovery: Histogram,
    pub(crate) handshake: Histogram,
}

/// From loopback to a satellite.
const RTT_BOUNDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15,
    0.2, 0.3, 0.5, 1.0, 2.0,
];
/// Around the 10 ms that recovery may take.
const RECOVERY_BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.011, 0.012, 0.015, 0.02, 0.05,
    0.1,
];
const HANDSHAKE_BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

impl Measured {
    pub(crate) fn new() -> Self {
        Self {
            rtt: Histogram::new(RTT_BOUNDS),
            recovery: Histogram::new(RECOVERY_BOUNDS),
            handshake: Histogram::new(HANDSHAKE_BOUNDS),
        }
    }

    pub(crate) fn take_in(&self, samples: &Samples) {
        samples.rtt.iter().for_each(|it| self.rtt.record(*it));
        let recovery = samples.recovery.iter();
        recovery.for_each(|it| self.recovery.record(*it));
    }
}

impl Figures {
    /// The figures of each role that the endpoint has.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let roles = self.common.roles().iter();
        roles.map(|role| self.of(*role)).collect()
    }

    /// The figures of the connections in which we are `role`.
    pub fn of(&self, role: Role) -> Snapshot {
        let mut sum = quantum_proto::connection::Stats::default();
        let (mut cwnd, mut inflight, mut pacing_rate, mut memory) = (0, 0, 0, 0);
        let (mut connections, mut connections_ended) = (0, 0);
        let mut bbr_state = STATES.map(|state| (state, 0));
        let mut strangers = vec![0; Reason::ALL.len()];
        for lane in self.lanes.iter() {
            let present: Vec<_> = {
                let residents = lane.residents();
                add(&mut sum, &residents.retired[index(role)]);
                connections_ended += residents.ended[index(role)];
                for (count, (_, more)) in strangers.iter_mut().zip(residents.table.drops()) {
                    *count += more;
                }
                residents.all().cloned().collect()
            };
            for connection in present.iter().filter(|it| it.role == role) {
                let stats = connection.lock().machine.stats();
                add(&mut sum, &stats);
                cwnd += stats.cwnd;
                inflight += stats.inflight;
                pacing_rate += stats.pacing_rate;
                memory += stats.memory as u64;
                connections += 1;
                let label = state_label(stats.state);
                if let Some(entry) = bbr_state.iter_mut().find(|entry| entry.0 == label) {
                    entry.1 += 1;
                }
            }
        }
        let mut dropped = vec![
            ("replayed", sum.dropped_replayed),
            ("no_key", sum.dropped_no_key),
            ("beyond_window", sum.dropped_beyond_window),
        ];
        if self.common.counts_strangers(role) {
            dropped.extend(Reason::ALL.iter().map(|it| it.label()).zip(strangers));
            dropped.push(("send_failed", self.common.sends_failed()));
            dropped.push(("event_log", self.common.log.dropped()));
        }
        let measured = self.common.measured_of(role);
        Snapshot {
            service: self.common.service().to_owned(),
            role: role_label(role),
            packets_sent: sum.packets_sent,
            packets_received: sum.packets_received,
            packets_lost: sum.packets_lost,
            rtt: measured.rtt.snapshot(),
            cwnd,
            inflight,
            fec_recoveries: sum.fec_recoveries,
            retransmissions: sum.retransmissions,
            fec_repair_sent: sum.fec_repairs_sent,
            fec_unrecoverable: sum.fec_unrecoverable,
            spurious_retransmissions: sum.spurious,
            recovery: measured.recovery.snapshot(),
            pacing_rate,
            bbr_state,
            handshake: measured.handshake.snapshot(),
            decrypt_failures: sum.decrypt_failures,
            dropped,
            connections,
            connections_ended,
            sent_bytes: sum.bytes_sent,
            received_bytes: sum.bytes_received,
            fec_repair_bytes: sum.fec_repair_bytes,
            memory,
        }
    }
}

const STATES: [&str; 4] = ["startup", "drain", "probe_bw", "probe_rtt"];

pub(crate) fn state_label(state: State) -> &'static str {
    match state {
        State::Startup => STATES[0],
        State::Drain => STATES[1],
        State::ProbeBw(_) => STATES[2],
        State::ProbeRtt => STATES[3],
    }
}

pub(crate) fn role_label(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}
