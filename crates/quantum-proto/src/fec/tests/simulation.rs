//! A path that loses packets, in virtual time: how many source parts come late, and at which cost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::super::{Decoder, Encoder};
use super::{Chance, at, config, quiet, read};
use crate::config::{Config, FecMode};
use crate::frame::Repair;
use crate::packet::Numbering;

/// One way, in microseconds.
const ONE_WAY: u64 = 10_000;
/// A part that needs more than this beyond one way is late.
const LATE: u64 = 5_000;

#[test]
fn lone_requests_survive_five_percent() {
    for gaps in [Gaps::Regular, Gaps::Random] {
        let seen = run(&config(), 0.05, gaps, 60);
        assert!(seen.late() <= 0.004, "{gaps:?}: {seen:?}");
        assert!(seen.overhead() <= 2.3, "{gaps:?}: {seen:?}");
    }
}

#[test]
fn lone_requests_survive_ten_percent() {
    for gaps in [Gaps::Regular, Gaps::Random] {
        let seen = run(&config(), 0.10, gaps, 60);
        assert!(seen.late() <= 0.010, "{gaps:?}: {seen:?}");
        assert!(seen.overhead() <= 2.3, "{gaps:?}: {seen:?}");
    }
}

#[test]
fn bursts_of_three_are_mostly_hidden() {
    let seen = run_bursts(&config(), (0.02, 3), Gaps::Random, 100);
    assert!(seen.late() <= 0.012, "{seen:?}");
}

#[test]
fn blocks_hide_what_they_can() {
    let block = Config {
        fec_mode: FecMode::Block,
        ..config()
    };
    let seen = run(&block, 0.05, Gaps::Random, 60);
    assert!(seen.late() <= 0.005, "{seen:?}");
    assert!(seen.overhead() <= 2.3, "{seen:?}");
}

#[test]
fn a_clean_path_costs_next_to_nothing() {
    let seen = run(&config(), 0.0, Gaps::Random, 100);
    assert_eq!(seen.late, 0);
    assert!(seen.overhead() <= 1.01, "{seen:?}");
}

/// When requests are made, 200 in a second.
#[derive(Debug, Clone, Copy)]
enum Gaps {
    /// Every 5 ms, give or take a half.
    Regular,
    /// Independently of each other.
    Random,
}

#[derive(Debug, Default)]
struct Seen {
    sources: u64,
    late: u64,
    packets: u64,
}

impl Seen {
    fn late(&self) -> f64 {
        self.late as f64 / self.sources as f64
    }

    /// Packets per source, retransmissions left out.
    fn overhead(&self) -> f64 {
        self.packets as f64 / self.sources as f64
    }
}

#[derive(Debug, Clone)]
enum Content {
    Source(u64, Bytes),
    Repair(Repair),
}

#[derive(Debug, Clone)]
struct Pending {
    counter: u64,
    left: u64,
    source: Option<(u64, Bytes)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request,
    Timer,
    Arrival(u64),
    Report(u64),
    ReportDue,
}

/// One direction: requests and repairs go there, acknowledgements come back under the same loss.
struct Path {
    chance: Chance,
    loss: f64,
    burst: u32,
    burst_left: u32,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    encoder: Encoder,
    decoder: Decoder,
    numbering: Numbering,
    counter: u64,
    in_flight: BTreeMap<u64, Content>,
    /// Packets without a fate.
    pending: VecDeque<Pending>,
    arrived: BTreeSet<u64>,
    reports: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)>,
    report_due: bool,
    left_at: BTreeMap<u64, u64>,
    has: BTreeSet<u64>,
    warm: u64,
    seen: Seen,
}

/// The first of so many seconds are not counted: half of them.
fn run(config: &Config, loss: f64, gaps: Gaps, seconds: u64) -> Seen {
    run_bursts(config, (loss, 1), gaps, seconds)
}

/// As [`run`], but packets are lost in bursts of that length.
fn run_bursts(config: &Config, (loss, burst): (f64, u32), gaps: Gaps, seconds: u64) -> Seen {
    let mut path = Path {
        chance: Chance(42),
        loss,
        burst,
        burst_left: 0,
        now: 0,
        events: BinaryHeap::new(),
        order: 0,
        encoder: Encoder::new(config),
        decoder: Decoder::new(),
        numbering: Numbering::new(u32::MAX - 1_000),
        counter: 0,
        in_flight: BTreeMap::new(),
        pending: VecDeque::new(),
        arrived: BTreeSet::new(),
        reports: BTreeMap::new(),
        report_due: false,
        left_at: BTreeMap::new(),
        has: BTreeSet::new(),
        warm: seconds * 500_000,
        seen: Seen::default(),
    };
    let mut seq = 0;
    path.after(0, Event::Request);
    while let Some(Reverse((now, _, event))) = path.events.pop() {
        if now > seconds * 1_000_000 {
            break;
        }
        path.now = now;
        match event {
            Event::Request => {
                seq += 1;
                let part = path.chance.part(300);
                path.left_at.insert(seq, now);
                if now >= path.warm {
                    path.seen.sources += 1;
                    path.seen.packets += 1;
                }
                path.send_source(seq, part);
                let gap = match gaps {
                    Gaps::Regular => 2_500 + path.chance.below(5_000),
                    Gaps::Random => (-path.chance.unit().ln() * 5_000.0) as u64,
                };
                path.after(gap, Event::Request);
            }
            Event::Timer => {}
            Event::Arrival(counter) => path.on_arrival(counter),
            Event::ReportDue => path.send_report(),
            Event::Report(id) => path.on_report(id),
        }
        path.send_repairs();
    }
    path.seen
}

impl Path {
    fn after(&mut self, micros: u64, event: Event) {
        self.order += 1;
        let entry = (self.now + micros, self.order, event);
        self.events.push(Reverse(entry));
    }

    fn send_source(&mut self, seq: u64, part: Bytes) {
        self.encoder.on_source(at(self.now), seq, &part, true);
        self.send(Content::Source(seq, part));
    }

    fn send_repairs(&mut self) {
        let mut out = BytesMut::new();
        while self
            .encoder
            .poll(at(self.now), &quiet(), 1_400, &self.numbering, &mut out)
            .is_some()
        {
            self.seen.packets += u64::from(self.now >= self.warm);
            self.send(Content::Repair(read(out.split().freeze())));
        }
        if let Some(due) = self.encoder.timeout() {
            let due = due.elapsed().as_micros() as u64;
            assert!(due > self.now, "a timeout that was served lies ahead");
            self.after(due - self.now, Event::Timer);
        }
    }

    fn send(&mut self, content: Content) {
        self.counter += 1;
        let source = match &content {
            Content::Source(seq, part) => Some((*seq, part.clone())),
            Content::Repair(_) => None,
        };
        self.pending.push_back(Pending {
            counter: self.counter,
            left: self.now,
            source,
        });
        if !self.is_lost() {
            self.in_flight.insert(self.counter, content);
            self.after(ONE_WAY, Event::Arrival(self.counter));
        }
    }

    fn is_lost(&mut self) -> bool {
        if self.burst_left == 0 && self.chance.unit() < self.loss / f64::from(self.burst) {
            self.burst_left = self.burst;
        }
        let lost = self.burst_left > 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        lost
    }

    fn on_arrival(&mut self, counter: u64) {
        self.arrived.insert(counter);
        match self.in_flight.remove(&counter).expect("it is on its way") {
            Content::Source(seq, part) => {
                if !self.has.contains(&seq) {
                    self.deliver(seq);
                    self.decoder.on_source(seq, &part);
                }
            }
            Content::Repair(repair) => self
                .decoder
                .on_repair(&repair, &self.numbering)
                .expect("sound"),
        }
        while let Some((seq, _)) = self.decoder.poll_recovered() {
            if !self.has.contains(&seq) {
                self.deliver(seq);
            }
        }
        if !self.report_due {
            self.report_due = true;
            self.after(1_000, Event::ReportDue);
        }
    }

    fn deliver(&mut self, seq: u64) {
        self.has.insert(seq);
        let left = self.left_at[&seq];
        let late = self.now - left > ONE_WAY + LATE;
        self.seen.late += u64::from(late && left >= self.warm);
    }

    fn send_report(&mut self) {
        self.report_due = false;
        if self.chance.unit() >= self.loss {
            // Older ones have been told often enough.
            let counters = self.arrived.iter().rev().take(100).copied().collect();
            let sources = self.has.iter().rev().take(100).copied().collect();
            self.order += 1;
            let id = self.order;
            self.reports.insert(id, (counters, sources));
            self.after(ONE_WAY, Event::Report(id));
        }
    }

    fn on_report(&mut self, id: u64) {
        let (counters, sources) = self.reports.remove(&id).expect("it is on its way");
        for seq in &sources {
            self.encoder.on_received(*seq);
        }
        // Whatever left a round trip and the acknowledgement's delay before this arrived.
        while let Some(Pending {
            counter,
            left,
            source,
        }) = self.pending.front().cloned()
        {
            if left + 2 * ONE_WAY + 3_000 > self.now {
                break;
            }
            self.pending.pop_front();
            let lost = !counters.contains(&counter);
            self.encoder.on_fate(at(self.now), lost);
            if let Some((seq, part)) = source.filter(|(seq, _)| lost && !sources.contains(seq)) {
                self.send_source(seq, part);
            }
        }
    }
}
