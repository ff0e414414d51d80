//! What gRPC services and Quantum say of themselves when somebody asks for the metrics.
//!
//! The names of the contract (sync 4.9) begin with `quantum_` and are there where Quantum is
//! used; those of services and of the methods bound to them begin with `tidegate_`.

use std::fmt::Error;
use std::sync::{Arc, OnceLock};

use policy::BreakerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use router::services::CODES;
use upstream::guard::GuardState;
use upstream::quantum_peer::{HistogramSnapshot, Snapshot};

use super::services::Keeper;

/// Reads what services and Quantum know about themselves.
#[derive(Clone, Default)]
pub(super) struct ServiceFigures(Arc<OnceLock<Keeper>>);

/// Every figure once, at zero, for the reference.
#[derive(Debug)]
pub(super) struct Sample;

/// All of them at one time.
#[derive(Default)]
struct Reading {
    quantum: Vec<Snapshot>,
    methods: Vec<Method>,
    services: Vec<Service>,
}

struct Method {
    name: String,
    by_code: [u64; CODES],
    refused: u64,
    micros: u64,
}

struct Service {
    name: String,
    guard: Option<GuardState>,
    /// Address, breaker, and how often it opened.
    endpoints: Vec<(String, BreakerState, u64)>,
}

impl ServiceFigures {
    /// From now on these are shown.
    pub(super) fn show(&self, keeper: &Keeper) {
        self.0.get_or_init(|| keeper.clone());
    }
}

impl std::fmt::Debug for ServiceFigures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServiceFigures")
            .finish_non_exhaustive()
    }
}

impl Collector for ServiceFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        match self.0.get() {
            Some(keeper) => encode(&mut encoder, &Reading::of(keeper)),
            None => Ok(()),
        }
    }
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let reading = Reading {
            quantum: vec![zero()],
            methods: vec![Method {
                name: "example".to_owned(),
                by_code: [0; CODES],
                refused: 0,
                micros: 0,
            }],
            services: vec![Service {
                name: "example".to_owned(),
                guard: None,
                endpoints: vec![("grpc://example:1".to_owned(), BreakerState::Closed, 0)],
            }],
        };
        encode(&mut encoder, &reading)
    }
}

impl Reading {
    fn of(keeper: &Keeper) -> Self {
        let bound = keeper.bound();
        let methods = bound.iter().flat_map(|bound| bound.figures());
        let mut methods: Vec<_> = methods
            .map(|(binding, figures)| Method {
                name: binding.method.to_string(),
                by_code: figures.by_code(),
                refused: figures.refused(),
                micros: figures.micros(),
            })
            .collect();
        methods.sort_by(|one, other| one.name.cmp(&other.name));
        let services = keeper.services();
        let services = services.iter().map(|service| Service {
            name: service.name().to_owned(),
            guard: Some(service.guard_state()),
            endpoints: service
                .endpoints()
                .into_iter()
                .map(|endpoint| (endpoint.target, endpoint.breaker, endpoint.opened))
                .collect(),
        });
        Self {
            quantum: keeper.quantum(),
            methods,
            services: services.collect(),
        }
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, reading: &Reading) -> Result<(), Error> {
    if !reading.quantum.is_empty() {
        quantum(encoder, &reading.quantum)?;
    }
    if !reading.methods.is_empty() {
        methods(encoder, &reading.methods)?;
    }
    if !reading.services.is_empty() {
        services(encoder, &reading.services)?;
    }
    Ok(())
}

/// A name, what it says, and how it is read.
type Row<S, T> = (&'static str, &'static str, fn(&S) -> T);

/// The same, of a histogram.
type HistogramRow = (
    &'static str,
    &'static str,
    fn(&Snapshot) -> &HistogramSnapshot,
);

const QUANTUM_COUNTERS: &[Row<Snapshot, u64>] = &[
    ("quantum_packets_sent", "Packets sent", |it| it.packets_sent),
    ("quantum_packets_received", "Packets received", |it| {
        it.packets_received
    }),
    (
        "quantum_packets_lost",
        "Packets lost, those that a repair gave back included",
        |it| it.packets_lost,
    ),
    (
        "quantum_fec_recoveries",
        "Packets that repairs gave back",
        |it| it.fec_recoveries,
    ),
    ("quantum_retransmissions", "Packets sent again", |it| {
        it.retransmissions
    }),
    ("quantum_fec_repair_sent", "Repair packets sent", |it| {
        it.fec_repair_sent
    }),
    (
        "quantum_fec_unrecoverable",
        "Losses that repairs came for and could not give back",
        |it| it.fec_unrecoverable,
    ),
    (
        "quantum_spurious_retransmissions",
        "Packets sent again that had arrived",
        |it| it.spurious_retransmissions,
    ),
    (
        "quantum_decrypt_failures",
        "Packets whose seal was broken",
        |it| it.decrypt_failures,
    ),
    (
        "quantum_connections_ended",
        "Connections that have ended",
        |it| it.connections_ended,
    ),
    ("quantum_sent_bytes", "Bytes sent, in UDP payload", |it| {
        it.sent_bytes
    }),
    (
        "quantum_received_bytes",
        "Bytes received, in UDP payload",
        |it| it.received_bytes,
    ),
    (
        "quantum_fec_repair_bytes",
        "Bytes of repairs sent, in UDP payload",
        |it| it.fec_repair_bytes,
    ),
];

const QUANTUM_GAUGES: &[Row<Snapshot, u64>] = &[
    (
        "quantum_cwnd_bytes",
        "Congestion windows of all connections",
        |it| it.cwnd,
    ),
    (
        "quantum_inflight_bytes",
        "Bytes in flight on all connections",
        |it| it.inflight,
    ),
    (
        "quantum_pacing_rate_bytes",
        "Bytes per second that all connections may send",
        |it| it.pacing_rate,
    ),
    ("quantum_connections", "Connections", |it| it.connections),
    (
        "quantum_memory_bytes",
        "Bytes held for sending, reading and recovery",
        |it| it.memory,
    ),
];

const QUANTUM_HISTOGRAMS: &[HistogramRow] = &[
    ("quantum_rtt_seconds", "Round-trip times", |it| &it.rtt),
    (
        "quantum_recovery_seconds",
        "How long a hole stayed open that a repair closed",
        |it| &it.recovery,
    ),
    (
        "quantum_handshake_seconds",
        "How long handshakes took",
        |it| &it.handshake,
    ),
];

fn quantum(encoder: &mut DescriptorEncoder<'_>, all: &[Snapshot]) -> Result<(), Error> {
    let labels = |it: &Snapshot| {
        [
            ("service", it.service.clone()),
            ("role", it.role.to_owned()),
        ]
    };
    for (name, help, get) in QUANTUM_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in all {
            ConstCounter::new(get(one)).encode(family.encode_family(&labels(one))?)?;
        }
    }
    for (name, help, get) in QUANTUM_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in all {
            ConstGauge::new(whole(get(one))).encode(family.encode_family(&labels(one))?)?;
        }
    }
    for (name, help, get) in QUANTUM_HISTOGRAMS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for one in all {
            let histogram = get(one);
            let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
            // The encoder adds them up as it goes.
            let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
            let count = histogram.counts.iter().sum();
            family
                .encode_family(&labels(one))?
                .encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)?;
        }
    }
    let help = "Connections by the state of their congestion control";
    let mut family =
        encoder.encode_descriptor("quantum_bbr_state", help, None, MetricType::Gauge)?;
    for one in all {
        for (state, count) in one.bbr_state {
            let [service, role] = labels(one);
            let labels = [service, role, ("state", state.to_owned())];
            ConstGauge::new(whole(count)).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Packets and events that were dropped, by reason";
    let mut family =
        encoder.encode_descriptor("quantum_dropped", help, None, MetricType::Counter)?;
    for one in all {
        for (reason, count) in &one.dropped {
            let [service, role] = labels(one);
            let labels = [service, role, ("reason", (*reason).to_owned())];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn methods(encoder: &mut DescriptorEncoder<'_>, all: &[Method]) -> Result<(), Error> {
    let help = "Calls of rpc methods that services answer, by the gRPC status of the answer";
    let mut family =
        encoder.encode_descriptor("tidegate_calls", help, None, MetricType::Counter)?;
    for one in all {
        for (status, count) in STATUSES.iter().zip(one.by_code) {
            let labels = [("method", one.name.as_str()), ("status", *status)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Calls of rpc methods whose data did not fit the service's schema";
    let mut family =
        encoder.encode_descriptor("tidegate_calls_refused", help, None, MetricType::Counter)?;
    for one in all {
        let labels = [("method", one.name.as_str())];
        ConstCounter::new(one.refused).encode(family.encode_family(&labels)?)?;
    }
    let help = "Time that calls of rpc methods took, all together";
    let mut family =
        encoder.encode_descriptor("tidegate_calls_seconds", help, None, MetricType::Counter)?;
    for one in all {
        let labels = [("method", one.name.as_str())];
        let seconds = one.micros as f64 / 1e6;
        ConstCounter::new(seconds).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

const GUARD_COUNTERS: &[Row<GuardState, u64>] = &[
    (
        "tidegate_service_tries",
        "Tries of calls to services",
        |it| it.counts.tries,
    ),
    (
        "tidegate_service_retries",
        "Tries after the first of a call",
        |it| it.counts.retries,
    ),
    (
        "tidegate_service_timeouts",
        "Tries that had no answer in time",
        |it| it.counts.timeouts,
    ),
    (
        "tidegate_service_retries_forbidden",
        "Tries that the budget forbade",
        |it| it.counts.budget_spent,
    ),
];

const GUARD_GAUGES: &[Row<GuardState, u64>] = &[
    ("tidegate_service_in_flight", "Calls under way", |it| {
        u64::from(it.gate.in_flight)
    }),
    (
        "tidegate_service_queued",
        "Calls that wait for a slot",
        |it| u64::from(it.gate.waiting),
    ),
];

/// Who refused, and how that is read.
type Refusals = (&'static str, fn(&GuardState) -> u64);

const GUARD_REFUSALS: &[Refusals] = &[
    ("deadline", |it| it.counts.refused_deadline),
    ("concurrency", |it| it.counts.refused_concurrency),
    ("rate", |it| it.counts.refused_rate),
];

fn services(encoder: &mut DescriptorEncoder<'_>, all: &[Service]) -> Result<(), Error> {
    let read = |one: &Service, get: fn(&GuardState) -> u64| one.guard.as_ref().map_or(0, get);
    for (name, help, get) in GUARD_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in all {
            let labels = [("service", one.name.as_str())];
            ConstCounter::new(read(one, *get)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, get) in GUARD_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in all {
            let labels = [("service", one.name.as_str())];
            ConstGauge::new(whole(read(one, *get))).encode(family.encode_family(&labels)?)?;
        }
    }
    let (name, help) = (
        "tidegate_service_refused",
        "Calls refused, by the policy that did",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for one in all {
        for (by, get) in GUARD_REFUSALS {
            let labels = [("service", one.name.as_str()), ("by", *by)];
            ConstCounter::new(read(one, *get)).encode(family.encode_family(&labels)?)?;
        }
    }
    let name = "tidegate_service_breaker_state";
    let help = "Breakers of endpoints: 0 closed, 1 open, 2 half-open";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (one, (endpoint, breaker, _)) in each(all) {
        let state = match breaker {
            BreakerState::Closed => 0_i64,
            BreakerState::Open { .. } => 1,
            BreakerState::HalfOpen => 2,
        };
        let labels = [
            ("service", one.name.as_str()),
            ("endpoint", endpoint.as_str()),
        ];
        ConstGauge::new(state).encode(family.encode_family(&labels)?)?;
    }
    let name = "tidegate_service_breaker_opened";
    let help = "Times that breakers of endpoints opened";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (one, (endpoint, _, opened)) in each(all) {
        let labels = [
            ("service", one.name.as_str()),
            ("endpoint", endpoint.as_str()),
        ];
        ConstCounter::new(*opened).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn each(all: &[Service]) -> impl Iterator<Item = (&Service, &(String, BreakerState, u64))> {
    all.iter()
        .flat_map(|one| one.endpoints.iter().map(move |endpoint| (one, endpoint)))
}

fn zero() -> Snapshot {
    let histogram = || HistogramSnapshot {
        bounds: &[1.0],
        counts: vec![0, 0],
        sum: 0.0,
    };
    Snapshot {
        service: "example".to_owned(),
        role: "client",
        packets_sent: 0,
        packets_received: 0,
        packets_lost: 0,
        rtt: histogram(),
        cwnd: 0,
        inflight: 0,
        fec_recoveries: 0,
        retransmissions: 0,
        fec_repair_sent: 0,
        fec_unrecoverable: 0,
        spurious_retransmissions: 0,
        recovery: histogram(),
        pacing_rate: 0,
        bbr_state: ["startup", "drain", "probe_bw", "probe_rtt"].map(|state| (state, 0)),
        handshake: histogram(),
        decrypt_failures: 0,
        dropped: vec![("replayed", 0)],
        connections: 0,
        connections_ended: 0,
        sent_bytes: 0,
        received_bytes: 0,
        fec_repair_bytes: 0,
        memory: 0,
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// gRPC statuses by their numbers.
const STATUSES: [&str; CODES] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];
