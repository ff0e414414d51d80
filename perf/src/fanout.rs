//! One channel with many subscribers.
//!
//! Saturation: publications go out as fast as they are taken; what counts is
//! deliveries per CPU-second of the server, the servers taking turns. Paced:
//! a fixed schedule, the same whatever the server does; what counts is the time
//! from when a publication was due to each receipt. The paced phase is repeated
//! beside subscribers that stopped reading, if asked for, and beside other
//! traffic on a server that speaks TLS.
//!
//! With `--bus nats` another comparison is made ([`nats`]).

mod nats;
mod paced;
mod saturation;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use self::paced::Latency;
use self::saturation::Leg;
use crate::Subjects;
use crate::busy::{self, Beside};
use crate::client::{ClientId, Engine, GroupId, Opening};
use crate::frame;
use crate::idle::HANDSHAKES_AT_ONCE;
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, say};
use crate::server_process::{Secure, Server, Setup, tidegate_executable};
use crate::token::Mint;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What the gateway's bus is; with `nats`, two gateways are compared with nats-server's own
    /// WebSocket clients.
    #[arg(long, value_enum, default_value = "memory")]
    bus: BusKind,
    /// Subscribers of the one channel (5,000 unless said otherwise); over NATS those of each
    /// gateway (500).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: Option<u32>,
    /// Over NATS: how often per second a message is published on each subject.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Bytes of a publication's payload.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..=65_000))]
    size: u32,
    /// So many of the subscribers stop reading in a further phase.
    #[arg(long, default_value_t = 0)]
    stalled: u32,
    /// Seconds that each phase measures.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// How often each server has its turn in the saturation phase.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Publications under way at saturation: sent, but not yet received by all.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(2..=512))]
    window: u64,
    /// Lets the subscribers of the busy phase, and all that runs beside them, speak TLS.
    #[arg(long)]
    busy_secure: bool,
    /// TLS connections opened per second beside the busy phase.
    #[arg(long, default_value_t = 500)]
    busy_handshakes: u32,
    /// Megabytes of plain HTTP responses fetched per second beside the busy phase.
    #[arg(long, default_value_t = 50)]
    busy_megabytes: u32,
    /// Which file of the server these responses are.
    #[arg(long, default_value = "/playground.js")]
    busy_path: String,
    /// Drives a third server: the reference broadcaster, but with coalesced writes.
    #[arg(long, conflicts_with = "peers_only")]
    coalescing_reference: bool,
    #[command(flatten)]
    subjects: Subjects,
}

/// What carries publications to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BusKind {
    /// The bus within the gateway.
    Memory,
    /// A real nats-server.
    Nats,
}

/// A server with its clients.
struct Side {
    server: Server,
    group: GroupId,
    subscribers: u64,
    publishers: Vec<ClientId>,
    /// Reported separately, since they belong to the same server, not the same channel.
    stalled: Option<Stalled>,
    commands: u64,
}

/// Subscribers that will stop reading, and who fills their queues.
struct Stalled {
    group: GroupId,
    clients: Vec<ClientId>,
    publisher: ClientId,
    publishers: GroupId,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.bus == BusKind::Nats {
        return nats::run(options);
    }
    say(&proc::describe());
    ensure!(
        options.stalled < options.subscribers(),
        "at least one subscriber has to read"
    );
    let sides = options.own_sides() + options.subjects.peer.len();
    let needed = sides as u64 * u64::from(options.subscribers()) + 200;
    ensure!(
        proc::files_max() >= needed,
        "{sides} servers at once need {needed} files; the limit is {}",
        proc::files_max(),
    );
    let duration = Duration::from_secs(options.duration);
    let machine = Machine::now();
    let mut void = Void::default();
    let mut engine = Engine::new()?;
    let executable = match options.subjects.peers_only {
        true => None,
        false => Some(tidegate_executable(options.subjects.tidegate.as_deref())?),
    };

    let mut sides = open_sides(&mut engine, executable.as_deref(), options)?;

    // The servers take turns, so that whatever else moves on this machine moves for all.
    let mut legs: Vec<Vec<Leg>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (side, legs) in sides.iter_mut().zip(&mut legs) {
            legs.push(saturation::run(
                &mut engine,
                side,
                options,
                duration,
                &mut void,
            )?);
        }
    }
    print_saturation(&sides, &legs);

    let mut latencies = paced_phases(&mut engine, &mut sides, options.size, duration)?;
    void.when(machine.steal_percent_since() > 2.0, || {
        format!(
            "{:.1} % of CPU time was stolen",
            machine.steal_percent_since()
        )
    });
    for side in &sides {
        for warning in side.server.warnings() {
            say(&format!("{} logged: {warning}", side.server.name));
        }
        let tally = engine.tally(side.group);
        void.when(tally.lost + tally.refused > 0, || {
            format!(
                "{}: {} clients lost, {} publications refused ({})",
                side.server.name,
                tally.lost,
                tally.refused,
                tally.complaints.join("; "),
            )
        });
    }
    drop((sides, engine));

    if let Some(executable) = &executable {
        let setup = Setup {
            secure: match options.busy_secure {
                true => Secure::Main,
                false => Secure::Admin,
            },
            ping_interval_seconds: 25,
            demo: true,
        };
        let server = Server::tidegate(executable, setup)?;
        latencies.extend(run_busy(server, options, duration, &mut void)?);
    }
    print_latencies(&latencies, &mut void);
    print_line(options, &legs, &latencies, &void);
    Ok(())
}

/// Starts the servers and connects all clients of each.
fn open_sides(
    engine: &mut Engine,
    executable: Option<&Path>,
    options: &Options,
) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    if let Some(executable) = executable {
        let setup = Setup {
            secure: Secure::None,
            ping_interval_seconds: 25,
            demo: false,
        };
        let server = Server::tidegate(executable, setup)?;
        sides.push(Side::open(engine, server, options, options.stalled)?);
        sides.push(Side::open(engine, Server::reference(25)?, options, 0)?);
        if options.coalescing_reference {
            sides.push(Side::open(
                engine,
                Server::coalescing_reference(25)?,
                options,
                0,
            )?);
        }
    }
    for peer in &options.subjects.peer {
        let server = Server::peer(peer, &options.subjects.peer_secret)?;
        sides.push(Side::open(engine, server, options, options.stalled)?);
    }
    Ok(sides)
}

/// The paced phases of all servers, one server after the other.
fn paced_phases(
    engine: &mut Engine,
    sides: &mut [Side],
    size: u32,
    duration: Duration,
) -> anyhow::Result<Vec<(String, Latency)>> {
    let mut latencies = Vec::new();
    for side in sides {
        for publishers in [1, PUBLISHERS] {
            let label = format!("{}, {publishers} publishing", side.server.name);
            let latency = paced::run(engine, side, publishers, size, duration)?;
            latencies.push((label, latency));
        }
        if let Some(stalled) = side.stalled.take() {
            let label = format!("{}, {} stalled", side.server.name, stalled.clients.len());
            let latency = paced::run_beside_stalled(engine, side, &stalled, size, duration)?;
            latencies.push((label, latency));
        }
    }
    Ok(latencies)
}

/// The paced phase beside handshakes and plain HTTP.
///
/// A listener speaks TLS or does not. So that subscribers stay plain, and the
/// generator's decryption out of the figures, the TLS handshakes go to the
/// listener of operators and as many plain ones, upgrade and token included, to
/// the listener of the subscribers. Or else everything is TLS on one port.
fn run_busy(
    server: Server,
    options: &Options,
    duration: Duration,
    void: &mut Void,
) -> anyhow::Result<Vec<(String, Latency)>> {
    let mut engine = Engine::new()?;
    let address = server.address.clone();
    let mint = Mint::new(&server.secret)?;
    let mut places = vec![busy::Place {
        address: address.clone(),
        is_websocket: true,
    }];
    if !options.busy_secure
        && let Some(mut admin) = server.admin.clone()
    {
        "/healthz".clone_into(&mut admin.path);
        places.push(busy::Place {
            address: admin,
            is_websocket: false,
        });
    }
    let mut side = Side::open(&mut engine, server, options, 0)?;
    let load = busy::Load {
        handshakes_per_second: options.busy_handshakes,
        megabytes_per_second: options.busy_megabytes,
        path: &options.busy_path,
    };
    let split = if options.busy_secure {
        " by TLS"
    } else {
        ", half by TLS"
    };
    let mut latencies = Vec::new();
    for publishers in [1, PUBLISHERS] {
        let cpu = proc::cpu_seconds(side.server.pid)?;
        let (latency, beside) = busy::beside(&places, &address, &mint, load, || {
            paced::run(&mut engine, &mut side, publishers, options.size, duration)
        })?;
        let latency = latency?;
        let cpu = proc::cpu_seconds(side.server.pid)? - cpu;
        let Beside {
            handshakes,
            failed,
            skipped,
            fetched_bytes,
            responses,
            seconds,
            complaints,
        } = beside;
        say(&format!(
            "busy, {publishers} publishing: {:.0} handshakes/s{split}, {:.1} MB/s of HTTP in {:.0} \
             responses/s, server CPU {:.0} %",
            handshakes as f64 / seconds,
            fetched_bytes as f64 / seconds / 1e6,
            responses as f64 / seconds,
            100.0 * cpu / seconds,
        ));
        void.when(failed > 0 || !complaints.is_empty(), || {
            format!(
                "busy: {failed} handshakes failed ({})",
                complaints.join("; ")
            )
        });
        void.when(skipped > handshakes / 20, || {
            format!("busy: {skipped} handshakes were skipped, too many were under way")
        });
        latencies.push((format!("tidegate busy, {publishers} publishing"), latency));
    }
    for warning in side.server.warnings() {
        say(&format!("{} logged: {warning}", side.server.name));
    }
    let tally = engine.tally(side.group);
    void.when(tally.lost > 0, || {
        format!(
            "busy: {} clients lost ({})",
            tally.lost,
            tally.complaints.join("; ")
        )
    });
    Ok(latencies)
}

impl Options {
    /// Subscribers of the one channel.
    fn subscribers(&self) -> u32 {
        self.subscribers.unwrap_or(5000)
    }

    /// Servers started here at the same time.
    fn own_sides(&self) -> usize {
        match self.subjects.peers_only {
            true => 0,
            false => 2 + usize::from(self.coalescing_reference),
        }
    }
}

impl Side {
    fn open(
        engine: &mut Engine,
        server: Server,
        options: &Options,
        stalled: u32,
    ) -> anyhow::Result<Self> {
        let mint = Mint::new(&server.secret)?;
        let channel: Arc<str> = CHANNEL.into();
        let subscribers = (options.subscribers() - stalled) as usize;
        let group = engine.group(server.address.clone());
        engine.open_all(group, subscribers, HANDSHAKES_AT_ONCE, |number| {
            Ok(Opening::stay(
                mint.token(number)?,
                Some(Arc::clone(&channel)),
            ))
        })?;
        let publishers = engine.open_all(group, PUBLISHERS, HANDSHAKES_AT_ONCE, |number| {
            Ok(Opening::stay(mint.token(subscribers + number)?, None))
        })?;
        let stalled = match stalled as usize {
            0 => None,
            count => {
                let group = engine.group(server.address.clone());
                let clients = engine.open_all(group, count, HANDSHAKES_AT_ONCE, |number| {
                    let token = mint.token(subscribers + PUBLISHERS + number)?;
                    let mut opening = Opening::stay(token, Some(Arc::clone(&channel)));
                    opening.channels.push(FLOOD_CHANNEL.into());
                    opening.narrow = true;
                    Ok(opening)
                })?;
                let publishers = engine.group(server.address.clone());
                let flooding = engine.open_all(publishers, 1, 1, |_| {
                    Ok(Opening::stay(
                        mint.token(subscribers + PUBLISHERS + count)?,
                        None,
                    ))
                })?;
                Some(Stalled {
                    group,
                    clients,
                    publisher: flooding[0],
                    publishers,
                })
            }
        };
        let subscribers = subscribers as u64;
        Ok(Self {
            server,
            group,
            subscribers,
            publishers,
            stalled,
            commands: 10,
        })
    }

    /// Appends a frame that publishes `size` bytes, due at `due` nanoseconds of the engine.
    fn publication(&mut self, out: &mut Vec<u8>, channel: &str, size: u32, due: u64) {
        self.commands += 1;
        let padding = "x".repeat((size as usize).saturating_sub(PAYLOAD_OVERHEAD));
        let command = format!(
            r#"{{"id":{},"publish":{{"channel":"{channel}","data":{{"t":"{due:016x}","p":"{padding}"}}}}}}"#,
            self.commands,
        );
        frame::text(out, command.as_bytes());
    }
}

fn print_saturation(sides: &[Side], legs: &[Vec<Leg>]) {
    say("");
    say("Saturation, each line the rounds in order:");
    let mut table = Table::new(&[
        "server",
        "deliveries/s",
        "deliveries per CPU-second",
        "server CPU %",
        "generator CPU %",
    ]);
    for (side, legs) in sides.iter().zip(legs) {
        let each =
            |figure: &dyn Fn(&Leg) -> String| legs.iter().map(figure).collect::<Vec<_>>().join(" ");
        table.row(vec![
            side.server.name.clone(),
            each(&|leg| grouped(leg.deliveries as f64 / leg.seconds)),
            each(&|leg| grouped(leg.deliveries as f64 / leg.cpu_seconds)),
            each(&|leg| format!("{:.0}", 100.0 * leg.cpu_seconds / leg.seconds)),
            each(&|leg| format!("{:.0}", leg.generator_percent)),
        ]);
    }
    table.print();
}

fn print_latencies(latencies: &[(String, Latency)], void: &mut Void) {
    say("");
    say("Milliseconds from the time a publication was due to each receipt:");
    let mut table = Table::new(&[
        "phase",
        "p50",
        "p99",
        "p99.9",
        "max",
        "receipts",
        "missing",
        "sent late %",
        "server CPU %",
        "generator CPU %",
        "others' CPU %",
    ]);
    for (label, latency) in latencies {
        let quantile = |q: f64| format!("{:.2}", latency.milliseconds(q));
        table.row(vec![
            label.clone(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            grouped(latency.receipts() as f64),
            latency.missing.to_string(),
            format!("{:.1}", latency.late_percent),
            format!("{:.0}", latency.server_percent),
            format!("{:.0}", latency.generator_percent),
            format!("{:.0}", latency.foreign_percent),
        ]);
        void.when(latency.missing > 0, || {
            format!("{label}: {} not received", latency.missing)
        });
        void.when(latency.late_percent > 1.0, || {
            format!(
                "{label}: {:.1} % of the schedule was missed",
                latency.late_percent
            )
        });
        void.when(latency.foreign_percent > 10.0, || {
            format!(
                "{label}: other processes took {:.0} % of the machine",
                latency.foreign_percent
            )
        });
        void.when(latency.generator_percent > 80.0, || {
            format!(
                "{label}: the generator used {:.0} % of its core",
                latency.generator_percent
            )
        });
    }
    table.print();
}

fn print_line(options: &Options, legs: &[Vec<Leg>], latencies: &[(String, Latency)], void: &Void) {
    void.print();
    let tidegate = !options.subjects.peers_only;
    let rate = |side: usize| {
        let legs = legs.get(side)?;
        let deliveries: u64 = legs.iter().map(|leg| leg.deliveries).sum();
        let cpu_seconds: f64 = legs.iter().map(|leg| leg.cpu_seconds).sum();
        Some(deliveries as f64 / cpu_seconds)
    };
    let (ours, reference) = if tidegate {
        (rate(0), rate(1))
    } else {
        (None, None)
    };
    let ratio = |ours: f64, other: f64| ours / other;
    // Worst of the phases whose label begins and ends so.
    let p99 = |start: &str, end: &str| {
        latencies
            .iter()
            .filter(|(label, _)| label.starts_with(start) && label.ends_with(end))
            .map(|(_, latency)| latency.milliseconds(0.99))
            .reduce(f64::max)
    };
    let mut line = JsonLine::new("fanout");
    line.figure("deliveries_per_cpu_second", ours.map(f64::round))
        .figure(
            "reference_deliveries_per_cpu_second",
            reference.map(f64::round),
        )
        .figure(
            "ratio",
            ours.zip(reference).map(|(ours, other)| ratio(ours, other)),
        )
        .figure("p99_ms", p99("tidegate,", "publishing"))
        .figure("p99_busy_ms", p99("tidegate busy", "publishing"));
    if options.stalled > 0 {
        line.figure("p99_stalled_ms", p99("tidegate,", "stalled"));
    }
    line.figure("reference_p99_ms", p99("reference,", "publishing"));
    if options.coalescing_reference {
        let coalescing = rate(2);
        line.figure(
            "coalescing_reference_deliveries_per_cpu_second",
            coalescing.map(f64::round),
        )
        .figure(
            "coalescing_ratio",
            ours.zip(coalescing).map(|(a, b)| ratio(a, b)),
        );
    }
    for (index, peer) in options.subjects.peer.iter().enumerate() {
        let name = peer.name();
        let at = options.own_sides() + index;
        line.figure(
            &format!("{name}_deliveries_per_cpu_second"),
            rate(at).map(f64::round),
        )
        .figure(
            &format!("{name}_p99_ms"),
            p99(&format!("{name},"), "publishing"),
        );
    }
    line.count("subscribers", i64::from(options.subscribers()))
        .count("size", i64::from(options.size))
        .texts("void", void.reasons())
        .print();
}

/// The channel that all subscribe to.
const CHANNEL: &str = "fanout";

/// A second channel of those that will stop reading: it fills their queues,
/// which the paced channel alone would take hours to do.
const FLOOD_CHANNEL: &str = "flood";

/// Publishers of the phase with several.
const PUBLISHERS: usize = 10;

/// Bytes of a payload beside its padding: `{"t":"","p":""}` and the time.
const PAYLOAD_OVERHEAD: usize = 31;
