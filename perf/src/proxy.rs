//! The proxy beside nginx and HAProxy, in front of the same origin: what a request costs, how
//! much later it comes, how well connections are used again, what a held stream weighs.
//!
//! Each proxy has one thread and stays on one core; the generator (this process) and the
//! origin (another) share a second one. The proxies take turns, round by round, so that what
//! happens to the machine happens to all of them.

mod load;
mod measure;
mod open_loop;
pub(crate) mod origin;
pub(crate) mod pin;
mod ready;
mod rivals;
mod streams;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::measure::{Measured, Plan};
use self::origin::Origin;
use self::streams::Held;
use self::subject::{Kind, Origins, PATH, PATH_HTTP2, Place, Subject};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::shipped_executable;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often every proxy has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Connections of the closed loop.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    connections: u64,
    /// Connections of the open loop.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=9000))]
    open_connections: u64,
    /// The rate of the open loop, in percent of the slowest proxy's peak.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: u32,
    /// Drives this proxy only.
    #[arg(long, value_enum, value_name = "PROXY")]
    only: Option<Kind>,
    /// Drives Tidegate only.
    #[arg(long, conflicts_with = "only")]
    no_rivals: bool,
    /// Event streams held over upstreams that speak HTTP/1.1; 0 for none.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u64).range(0..=9900))]
    streams: u64,
    /// Event streams held over upstreams that speak HTTP/2; 0 for none.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(0..=19_000))]
    http2_streams: u64,
    /// Holds the event streams and measures nothing else.
    #[arg(long)]
    streams_only: bool,
    /// Tidegate's executable; without it `cargo build --profile dist -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let kinds = kinds(options);
    say(&proc::describe());
    if kinds.contains(&Kind::Nginx) {
        say(&rivals::nginx_version()?);
    }
    if kinds.contains(&Kind::Haproxy) {
        say(&rivals::haproxy_version()?);
    }
    let cores = pin::Cores::pick()?;
    let executable = match kinds.contains(&Kind::Tidegate) {
        true => shipped_executable(options.tidegate.as_deref())?,
        false => PathBuf::new(),
    };
    // After the build, which may use all cores.
    pin::stay_on(cores.others)?;
    let place = Place { cores, executable };
    let mut void = Void::default();
    let machine = Machine::now();
    let measured = match options.streams_only {
        true => Vec::new(),
        false => requests(&kinds, &place, options, &mut void)?,
    };
    let held = hold_all(&kinds, &place, options, &mut void)?;
    let steal = machine.steal_percent_since();
    void.when(steal > 2.0, || {
        format!("{steal:.1} % of CPU time was stolen")
    });
    void.print();
    json(&measured, &held);
    Ok(())
}

fn kinds(options: &Options) -> Vec<Kind> {
    match options.only {
        Some(kind) => vec![kind],
        None if options.no_rivals => vec![Kind::Tidegate],
        None => vec![Kind::Tidegate, Kind::Nginx, Kind::Haproxy],
    }
}

/// Requests with short answers, all proxies in turn.
fn requests(
    kinds: &[Kind],
    place: &Place,
    options: &Options,
    void: &mut Void,
) -> anyhow::Result<Vec<(Kind, Measured)>> {
    let mut origin = Origin::start(place.cores)?;
    let origins = Origins::of(&origin, None);
    let subjects = kinds
        .iter()
        .map(|&kind| Subject::start(kind, place, origins))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let plan = Plan {
        cores: place.cores,
        duration: Duration::from_secs(options.seconds),
        rounds: options.rounds,
        connections: options.connections as usize,
        open_connections: options.open_connections as usize,
        share: f64::from(options.share) / 100.0,
    };
    let report = measure::all(&subjects, &mut origin, &plan, void)?;
    say("");
    for (place, direct) in [
        ("a core of its own", report.direct_beside),
        ("the origin's core", report.direct_apart),
    ] {
        say(&format!(
            "one connection without a proxy, generator on {place}: p50 {:.1} µs, p99 {:.1} µs",
            direct.p50_us, direct.p99_us
        ));
    }
    say("added: beyond that, generator on the proxy's core; in brackets on the origin's core,");
    say("where a request through a proxy crosses cores twice and one without never does");
    say(&format!(
        "open loop: {} connections, {} requests/s, {} % of the peak of {}",
        options.open_connections,
        grouped(report.open_rate),
        options.share,
        report.slowest.name(),
    ));
    say("");
    let mut table = Table::new(&[
        "one thread each",
        "CPU µs/request",
        "range",
        "peak/s",
        "added p50 µs",
        "added p99 µs",
        "open p50 ms",
        "open p99 ms",
        "reuse %",
        "errors",
    ]);
    for (kind, one) in &report.measured {
        let (least, most) = one.cpu_range;
        table.row(vec![
            kind.name().to_owned(),
            format!("{:.2}", one.cpu_us),
            format!("{least:.2}-{most:.2}"),
            grouped(one.peak),
            format!("{:.1} ({:.1})", one.beside.p50_us, one.apart.p50_us),
            format!("{:.1} ({:.1})", one.beside.p99_us, one.apart.p99_us),
            format!("{:.3}", one.open_p50_ms),
            format!("{:.3}", one.open_p99_ms),
            format!("{:.3}", 100.0 * one.reuse),
            one.errors.to_string(),
        ]);
    }
    table.print();
    for subject in &subjects {
        for warning in subject.warnings() {
            say(&format!("{} wrote: {warning}", subject.kind.name()));
        }
    }
    Ok(report.measured)
}

/// Streams that one proxy held, and over which version of HTTP.
struct HeldBy {
    kind: Kind,
    version: &'static str,
    held: Held,
}

/// Holds event streams, each kind of upstream with a proxy started afresh.
fn hold_all(
    kinds: &[Kind],
    place: &Place,
    options: &Options,
    void: &mut Void,
) -> anyhow::Result<Vec<HeldBy>> {
    let mut all = Vec::new();
    let ways = [
        (options.streams, PATH, "1.1"),
        (options.http2_streams, PATH_HTTP2, "2"),
    ];
    for (streams, path, version) in ways.into_iter().filter(|(streams, ..)| *streams > 0) {
        for &kind in kinds {
            let origin = Origin::start(place.cores)?;
            let http2 = Origin::start_http2(place.cores)?;
            let subject = Subject::start(kind, place, Origins::of(&origin, Some(&http2)))?;
            let held = streams::hold(&subject, path, streams as usize)?;
            if held.broken > 0 {
                let complaint = held.complaint.as_deref().unwrap_or("an event is missing");
                let what = format!(
                    "{} held {} of {streams} streams over HTTP/{version}: {complaint:?}",
                    kind.name(),
                    held.streams
                );
                // What the rivals can't hold says nothing about this run.
                say(&what);
                void.when(kind == Kind::Tidegate, || what);
            }
            all.push(HeldBy {
                kind,
                version,
                held,
            });
        }
    }
    let mut table = Table::new(&[
        "event streams",
        "upstream HTTP",
        "streams",
        "broken",
        "events",
        "opened in s",
        "RSS MiB",
        "bytes/stream",
    ]);
    for HeldBy {
        kind,
        version,
        held,
    } in &all
    {
        table.row(vec![
            kind.name().to_owned(),
            (*version).to_owned(),
            held.streams.to_string(),
            held.broken.to_string(),
            held.events.to_string(),
            format!("{:.1}", held.opened_within),
            mebibytes(held.rss_after),
            grouped(held.bytes_per_stream()),
        ]);
    }
    if !all.is_empty() {
        table.print();
    }
    Ok(all)
}

fn json(measured: &[(Kind, Measured)], held: &[HeldBy]) {
    let of = |kind| {
        let found = measured.iter().find(|(of, _)| *of == kind);
        found.map(|(_, measured)| measured)
    };
    let tidegate = of(Kind::Tidegate);
    let (nginx, haproxy) = (of(Kind::Nginx), of(Kind::Haproxy));
    let streams = held.iter().filter(|one| one.kind == Kind::Tidegate);
    // The dearer kind of upstream.
    let stream_bytes = streams
        .map(|one| one.held.bytes_per_stream())
        .max_by(f64::total_cmp);
    JsonLine::new("proxy")
        .figure("cpu_us", tidegate.map(|one| one.cpu_us))
        .figure("nginx_cpu_us", nginx.map(|one| one.cpu_us))
        .figure("haproxy_cpu_us", haproxy.map(|one| one.cpu_us))
        .figure("added_p50_us", tidegate.map(|one| one.beside.p50_us))
        .figure("added_p99_us", tidegate.map(|one| one.beside.p99_us))
        .figure("open_p99_ms", tidegate.map(|one| one.open_p99_ms))
        .figure("nginx_open_p99_ms", nginx.map(|one| one.open_p99_ms))
        .figure("haproxy_open_p99_ms", haproxy.map(|one| one.open_p99_ms))
        .figure("reuse", tidegate.map(|one| one.reuse))
        .count("sse_stream_bytes", stream_bytes.map(|bytes| bytes as i64))
        .print();
}
