//! Two gateways on one nats-server, against nats-server's own WebSocket clients.
//!
//! A source publishes on a few subjects of NATS at a fixed pace, one message on each at a time,
//! as an aggregator does. Either the subscribers are on two gateways whose bus that server is,
//! or they are on the server's own WebSocket listener and speak NATS' protocol. Both get the
//! same messages on the same subjects at the same pace, and take turns. What counts is
//! deliveries per CPU-second of the process that serves the subscribers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use testkit::services::{Nats, NatsOptions};

use super::Options;
use crate::live::crowd::Crowd;
use crate::live::scene::{self, Source};
use crate::live::wire::{self, Heard, Speech};
use crate::live::{microseconds, milliseconds};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, say};
use crate::server_process::{Server, tidegate_executable};
use crate::token::{Mint, SECRET};

/// Who serves the subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Gateways,
    NatsServer,
}

/// All processes of a run.
struct Scene {
    nats: Nats,
    websocket: SocketAddr,
    gateways: [Server; GATEWAYS],
    source: Source,
    crowd: Crowd,
    mint: Mint,
}

/// One side's turn under one load.
struct Leg {
    deliveries: u64,
    missing: u64,
    seconds: f64,
    /// Of the processes that serve the subscribers.
    cpu_seconds: f64,
    /// Of nats-server, whether it serves or feeds.
    nats_cpu_seconds: f64,
    generator_percent: f64,
    late_percent: f64,
    p99_ms: f64,
}

/// All turns of both sides under one load.
struct Compared {
    subjects: usize,
    gateways: Vec<Leg>,
    nats: Vec<Leg>,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    let subscribers = GATEWAYS * options.subscribers.unwrap_or(SUBSCRIBERS) as usize;
    ensure!(
        proc::files_max() >= subscribers as u64 + 200,
        "{subscribers} subscribers need more files than {}",
        proc::files_max()
    );
    let executable = tidegate_executable(options.subjects.tidegate.as_deref())?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let nats = Nats::start(&NatsOptions {
        jetstream: true,
        more: format!(
            "websocket {{ host: \"127.0.0.1\", port: {port}, no_tls: true }}\n\
             max_connections: 100000\n"
        ),
        ..NatsOptions::default()
    })?;
    let mut scene = Scene {
        websocket: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        gateways: [
            scene::gateway(&executable, &nats, "", "")?,
            scene::gateway(&executable, &nats, "", "")?,
        ],
        source: Source::connect(&nats)?,
        nats,
        crowd: Crowd::new()?,
        mint: Mint::new(SECRET)?,
    };
    let machine = Machine::now();
    let mut void = Void::default();
    let mut loads = Vec::new();
    for subjects in LOADS {
        let mut compared = Compared {
            subjects,
            gateways: Vec::new(),
            nats: Vec::new(),
        };
        for _ in 0..options.rounds {
            for side in [Side::Gateways, Side::NatsServer] {
                let leg = scene.leg(side, subjects, subscribers, options)?;
                leg.note(side, subjects, &mut void);
                match side {
                    Side::Gateways => compared.gateways.push(leg),
                    Side::NatsServer => compared.nats.push(leg),
                }
            }
        }
        loads.push(compared);
    }
    void.when(machine.steal_percent_since() > 2.0, || {
        format!(
            "{:.1} % of CPU time was stolen",
            machine.steal_percent_since()
        )
    });
    for gateway in &scene.gateways {
        for warning in gateway.warnings() {
            say(&format!("{} logged: {warning}", gateway.name));
        }
    }
    print(&loads);
    print_line(options, &loads, &void);
    Ok(())
}

impl Scene {
    /// Lets subscribers in, publishes at the pace, and lets them go.
    fn leg(
        &mut self,
        side: Side,
        subjects: usize,
        subscribers: usize,
        options: &Options,
    ) -> anyhow::Result<Leg> {
        let names: Vec<String> = (0..subjects)
            .map(|subject| format!("xy.md.fan.s{subject:02}"))
            .collect();
        self.subscribe(side, &names, subscribers)?;
        let rounds_per_second = u64::from(options.rate);
        let interval = 1_000_000_000 / rounds_per_second;
        let padding = vec![b'x'; options.size as usize - 16];
        let nats = self.nats.process_id().context("nats-server ended")?;
        let serving = match side {
            Side::Gateways => self.gateways.iter().map(|gateway| gateway.pid).collect(),
            Side::NatsServer => vec![nats],
        };
        let served =
            || -> anyhow::Result<f64> { serving.iter().map(|&pid| proc::cpu_seconds(pid)).sum() };
        let warm_up = rounds_per_second * WARM_UP.as_secs();
        let rounds = warm_up + rounds_per_second * options.duration;
        let first = self.crowd.now().nanos + interval;
        let mut latency = microseconds()?;
        let (mut received, mut late) = (0, 0);
        let mut before = None;
        for round in 0..=rounds {
            let due = first + round * interval;
            loop {
                let now = self.crowd.now().nanos;
                if now >= due {
                    break;
                }
                // Below a millisecond this polls without waiting: the last stretch is spun.
                let is_measured = before.is_some();
                self.crowd
                    .turn(Duration::from_nanos(due - now), |_, now, heard, _| {
                        if let Heard::Publication { data, .. } = heard {
                            received += 1;
                            if is_measured && let Some(at) = published(data) {
                                latency.saturating_record(now.nanos.saturating_sub(at) / 1000);
                            }
                        }
                    })?;
            }
            if round == warm_up {
                let own = proc::cpu_seconds_of_thread()?;
                before = Some((
                    served()?,
                    proc::cpu_seconds(nats)?,
                    own,
                    received,
                    Instant::now(),
                ));
            }
            if round == rounds {
                break;
            }
            late += u64::from(self.crowd.now().nanos - due > LATE.as_nanos() as u64);
            let mut message = format!("{due:016x}").into_bytes();
            message.extend_from_slice(&padding);
            for name in &names {
                self.source.publish(name, &message);
            }
            self.source.flush()?;
        }
        let (cpu, nats_cpu, own, received_before, started) = before.context("no measurement")?;
        let seconds = started.elapsed().as_secs_f64();
        let mut leg = Leg {
            deliveries: received - received_before,
            missing: 0,
            seconds,
            cpu_seconds: served()? - cpu,
            nats_cpu_seconds: proc::cpu_seconds(nats)? - nats_cpu,
            generator_percent: 100.0 * (proc::cpu_seconds_of_thread()? - own) / seconds,
            late_percent: 100.0 * late as f64 / rounds as f64,
            p99_ms: milliseconds(&latency, 0.99),
        };
        let wanted = rounds * (subjects * subscribers) as u64;
        let deadline = Instant::now() + DRAIN_WITHIN;
        while received < wanted && Instant::now() < deadline {
            self.crowd
                .turn(Duration::from_millis(20), |_, _, heard, _| {
                    received += u64::from(matches!(heard, Heard::Publication { .. }));
                })?;
        }
        leg.missing = wanted.saturating_sub(received);
        if let Some(loss) = self.crowd.losses().first() {
            bail!("subscribers were lost: {loss}");
        }
        self.crowd.close_all();
        Ok(leg)
    }

    fn subscribe(
        &mut self,
        side: Side,
        names: &[String],
        subscribers: usize,
    ) -> anyhow::Result<()> {
        let Self {
            websocket,
            gateways,
            crowd,
            mint,
            ..
        } = self;
        let last = 1 + names.len() as u32;
        let mut refused = None;
        crowd.open_all(
            subscribers,
            |number| match side {
                Side::Gateways => {
                    let connect = wire::connect(mint.token(number)?);
                    let subscriptions = names.iter().map(|name| wire::subscribe(name));
                    let mut join = Vec::new();
                    wire::commands(&mut join, 1, [connect].into_iter().chain(subscriptions))?;
                    let gateway = &gateways[number % GATEWAYS];
                    Ok((gateway.address.socket, Speech::Centrifuge, join))
                }
                Side::NatsServer => Ok((*websocket, Speech::Nats, wire::nats_join(names))),
            },
            |heard| match heard {
                Heard::Reply(reply) => {
                    refused = refused.take().or_else(|| reply.error.clone());
                    reply.id == last
                }
                Heard::Pong => true,
                Heard::Upgraded | Heard::Publication { .. } => false,
            },
        )?;
        match refused {
            Some(error) => bail!("subscriber was refused: {} {}", error.code, error.message),
            None => Ok(()),
        }
    }
}

impl Leg {
    fn note(&self, side: Side, subjects: usize, void: &mut Void) {
        let label = format!("{side:?}, {subjects} subjects");
        void.when(self.missing > 0, || {
            format!("{label}: {} deliveries did not come", self.missing)
        });
        void.when(self.late_percent > 1.0, || {
            format!(
                "{label}: {:.1} % of the schedule was missed",
                self.late_percent
            )
        });
        void.when(self.cpu_seconds < 0.5, || {
            format!(
                "{label}: {:.2} CPU-seconds are too few to divide by",
                self.cpu_seconds
            )
        });
    }
}

impl Compared {
    fn ratio(&self) -> f64 {
        per_cpu_second(&self.gateways) / per_cpu_second(&self.nats)
    }

    /// The same, with what nats-server spends to feed the gateways on their account.
    fn ratio_with_feed(&self) -> f64 {
        let deliveries: u64 = self.gateways.iter().map(|leg| leg.deliveries).sum();
        let cpu = |leg: &Leg| leg.cpu_seconds + leg.nats_cpu_seconds;
        let cpu: f64 = self.gateways.iter().map(cpu).sum();
        deliveries as f64 / cpu / per_cpu_second(&self.nats)
    }
}

fn per_cpu_second(legs: &[Leg]) -> f64 {
    let deliveries: u64 = legs.iter().map(|leg| leg.deliveries).sum();
    let cpu: f64 = legs.iter().map(|leg| leg.cpu_seconds).sum();
    deliveries as f64 / cpu
}

fn print(loads: &[Compared]) {
    say("");
    say("Each line the rounds in order:");
    let mut table = Table::new(&[
        "subscribers on",
        "subjects",
        "deliveries/s",
        "deliveries per CPU-second",
        "serving CPU %",
        "nats-server CPU %",
        "generator CPU %",
        "p99 ms",
    ]);
    for load in loads {
        for (label, legs) in [
            ("two gateways", &load.gateways),
            ("nats-server", &load.nats),
        ] {
            let each = |figure: &dyn Fn(&Leg) -> String| {
                legs.iter().map(figure).collect::<Vec<_>>().join(" ")
            };
            table.row(vec![
                label.to_owned(),
                load.subjects.to_string(),
                each(&|leg| grouped(leg.deliveries as f64 / leg.seconds)),
                each(&|leg| grouped(leg.deliveries as f64 / leg.cpu_seconds)),
                each(&|leg| format!("{:.0}", 100.0 * leg.cpu_seconds / leg.seconds)),
                each(&|leg| format!("{:.0}", 100.0 * leg.nats_cpu_seconds / leg.seconds)),
                each(&|leg| format!("{:.0}", leg.generator_percent)),
                each(&|leg| format!("{:.1}", leg.p99_ms)),
            ]);
        }
    }
    table.print();
}

fn print_line(options: &Options, loads: &[Compared], void: &Void) {
    void.print();
    // The load under which we look worst is the one that counts.
    let worst = loads
        .iter()
        .min_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let mut line = JsonLine::new("fanout_nats");
    line.figure(
        "deliveries_per_cpu_second",
        worst.map(|load| per_cpu_second(&load.gateways).round()),
    )
    .figure(
        "nats_deliveries_per_cpu_second",
        worst.map(|load| per_cpu_second(&load.nats).round()),
    )
    .figure("ratio", worst.map(Compared::ratio));
    for load in loads {
        let subjects = load.subjects;
        line.figure(&format!("ratio_{subjects}_subjects"), load.ratio())
            .figure(
                &format!("ratio_with_feed_{subjects}_subjects"),
                load.ratio_with_feed(),
            );
    }
    line.count(
        "subscribers_per_gateway",
        i64::from(options.subscribers.unwrap_or(SUBSCRIBERS)),
    )
    .count("size", i64::from(options.size))
    .count("rate", i64::from(options.rate))
    .texts("void", void.reasons())
    .print();
}

/// When a message was due, in nanoseconds of the crowd.
fn published(message: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(message.get(..16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

const GATEWAYS: usize = 2;

/// Subscribers of each gateway, unless said otherwise.
const SUBSCRIBERS: u32 = 500;

/// Subjects that each subscriber takes: one list, or a screen of ten.
const LOADS: [usize; 2] = [1, 10];

const WARM_UP: Duration = Duration::from_secs(2);

/// A round later than this after it was due missed the schedule.
const LATE: Duration = Duration::from_millis(5);

const DRAIN_WITHIN: Duration = Duration::from_secs(10);
