//! A bottleneck in virtual time, flows that share it, and what they came to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::cubic::Cubic;
use crate::Time;
use crate::congestion::{Bbr, Delivered, Pacer, Round, Settings, Stamp};

pub(in crate::congestion) const MSS: u64 = 1_200;

pub(in crate::congestion) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(in crate::congestion) fn mbit(n: f64) -> f64 {
    n * 125_000.0
}

/// The shared path. Sizes in bytes, rates in bytes per second.
pub(in crate::congestion) struct Link {
    pub(in crate::congestion) rate: f64,
    /// Round trip without queue.
    pub(in crate::congestion) rtt: Duration,
    pub(in crate::congestion) buffer: u64,
    /// Share of packets lost behind the queue.
    pub(in crate::congestion) loss: f64,
    /// Each acknowledgement is late by up to this, and may overtake others.
    pub(in crate::congestion) jitter: Duration,
    /// Acknowledgements arrive at multiples of this (zero: at once).
    pub(in crate::congestion) ack_every: Duration,
    /// Marks packets (instead of nothing) while the queue holds more bytes.
    pub(in crate::congestion) mark_above: Option<u64>,
    /// A token bucket of so many bytes, filled at `rate`, instead of a queue.
    pub(in crate::congestion) policer: Option<u64>,
    pub(in crate::congestion) free_at: f64,
    tokens: f64,
    tokens_at: f64,
    random: u64,
    pub(in crate::congestion) longest_queue: u64,
}

impl Link {
    pub(in crate::congestion) fn new(rate: f64, rtt: Duration, buffer_bdp: f64) -> Self {
        let bdp = rate * rtt.as_secs_f64();
        Self {
            rate,
            rtt,
            buffer: (bdp * buffer_bdp) as u64,
            loss: 0.0,
            jitter: Duration::ZERO,
            ack_every: Duration::ZERO,
            mark_above: None,
            policer: None,
            free_at: 0.0,
            tokens: f64::MAX,
            tokens_at: 0.0,
            random: 7,
            longest_queue: 0,
        }
    }

    pub(in crate::congestion) fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    pub(in crate::congestion) fn bdp(&self) -> u64 {
        (self.rate * self.rtt.as_secs_f64()) as u64
    }

    fn queue(&self, now: f64) -> f64 {
        (self.free_at - now).max(0.0) * self.rate
    }

    pub(in crate::congestion) fn set_rate(&mut self, now: Time, rate: f64) {
        let now = secs(now);
        let queue = self.queue(now);
        self.rate = rate;
        self.free_at = now + queue / rate;
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// When the packet is acknowledged and whether it is marked; none if it is lost.
    fn carry(&mut self, now: Time, bytes: u64) -> Option<(Time, bool)> {
        let at = secs(now);
        if let Some(burst) = self.policer {
            let burst = burst as f64;
            self.tokens = (self.tokens + (at - self.tokens_at) * self.rate).min(burst);
            self.tokens_at = at;
            if self.tokens < bytes as f64 {
                return None;
            }
            self.tokens -= bytes as f64;
            return Some((now + self.rtt, false));
        }
        let queue = self.queue(at) + bytes as f64;
        if queue > self.buffer as f64 && self.queue(at) > 0.0 {
            return None;
        }
        self.longest_queue = self.longest_queue.max(queue as u64);
        self.free_at = self.free_at.max(at) + bytes as f64 / self.rate;
        if self.chance() < self.loss {
            return None;
        }
        let back = Time::after(Duration::from_secs_f64(self.free_at)) + self.rtt;
        let back = back + self.jitter.mul_f64(self.chance());
        let back = match self.ack_every.as_nanos() as u64 {
            0 => back,
            every => Time::after(Duration::from_nanos(back.nanos().div_ceil(every) * every)),
        };
        let marked = self.mark_above.is_some_and(|above| queue as u64 > above);
        Some((back, marked))
    }
}

pub(in crate::congestion) fn secs(at: Time) -> f64 {
    at.elapsed().as_secs_f64()
}

/// What the application does.
pub(in crate::congestion) enum App {
    /// Always has more.
    Bulk,
    /// Writes so many bytes each interval.
    Periodic { bytes: u64, every: Duration },
}

pub(in crate::congestion) enum Control {
    Bbr { bbr: Box<Bbr>, pacer: Box<Pacer> },
    Cubic(Cubic),
}

struct InFlight {
    sent: Time,
    bytes: u32,
    stamp: Stamp,
    fate: Fate,
}

#[derive(PartialEq)]
enum Fate {
    Open,
    Acked,
    Lost,
}

pub(in crate::congestion) struct Flow {
    pub(in crate::congestion) control: Control,
    pub(in crate::congestion) app: App,
    /// The application is silent from .. to.
    pub(in crate::congestion) silent: Option<(Time, Time)>,
    start: Time,
    pub(in crate::congestion) written_until: Time,
    waiting: VecDeque<(Time, u64)>,
    packets: VecDeque<InFlight>,
    first: u64,
    pub(in crate::congestion) inflight: u64,
    srtt: Duration,
    woken_for: Time,
    last_progress: Time,
    pub(in crate::congestion) delivered: u64,
    pub(in crate::congestion) sent: u64,
    pub(in crate::congestion) lost: u64,
    /// The longest that a written message waited for window or pacer.
    pub(in crate::congestion) longest_wait: Duration,
}

impl Flow {
    pub(in crate::congestion) fn bbr(&self) -> &Bbr {
        match &self.control {
            Control::Bbr { bbr, .. } => bbr,
            Control::Cubic(_) => panic!("a flow of CUBIC"),
        }
    }

    pub(in crate::congestion) fn bbr_mut(&mut self) -> &mut Bbr {
        match &mut self.control {
            Control::Bbr { bbr, .. } => bbr,
            Control::Cubic(_) => panic!("a flow of CUBIC"),
        }
    }

    fn cwnd(&self) -> u64 {
        match &self.control {
            Control::Bbr { bbr, .. } => bbr.cwnd(),
            Control::Cubic(cubic) => cubic.cwnd(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ack {
        flow: usize,
        counter: u64,
        marked: bool,
    },
    Wake {
        flow: usize,
    },
}

pub(in crate::congestion) struct Net {
    pub(in crate::congestion) now: Time,
    pub(in crate::congestion) link: Link,
    pub(in crate::congestion) flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
}

impl Net {
    pub(in crate::congestion) fn new(link: Link) -> Self {
        Self {
            now: Time::ZERO,
            link,
            flows: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
        }
    }

    /// One flow of BBR over `link`.
    pub(in crate::congestion) fn single(link: Link, app: App) -> Self {
        let mut net = Self::new(link);
        net.add_bbr(Time::ZERO, app);
        net
    }

    pub(in crate::congestion) fn add_bbr(&mut self, start: Time, app: App) -> usize {
        let settings = Settings {
            startup_gain: 2.77,
            max_cwnd: 65_536 * MSS,
            mss: MSS,
        };
        let seed = self.flows.len() as u64 + 1;
        let bbr = Bbr::new(start, settings, seed);
        let pacer = Pacer::new(start, bbr.pacing_rate(), MSS);
        self.add(
            start,
            app,
            Control::Bbr {
                bbr: Box::new(bbr),
                pacer: Box::new(pacer),
            },
        )
    }

    pub(in crate::congestion) fn add_cubic(&mut self, start: Time) -> usize {
        self.add(start, App::Bulk, Control::Cubic(Cubic::new(MSS)))
    }

    fn add(&mut self, start: Time, app: App, control: Control) -> usize {
        self.flows.push(Flow {
            control,
            app,
            silent: None,
            start,
            written_until: start,
            waiting: VecDeque::new(),
            packets: VecDeque::new(),
            first: 0,
            inflight: 0,
            srtt: Duration::ZERO,
            woken_for: Time::NEVER,
            last_progress: start,
            delivered: 0,
            sent: 0,
            lost: 0,
            longest_wait: Duration::ZERO,
        });
        let flow = self.flows.len() - 1;
        self.wake(flow, start);
        flow
    }

    pub(in crate::congestion) fn bbr(&self) -> &Bbr {
        self.flows[0].bbr()
    }

    pub(in crate::congestion) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.run_until(until, |_| false);
        self.now = until;
    }

    /// Runs until `done`, or until `limit`; returns whether it was done.
    pub(in crate::congestion) fn run_until(
        &mut self,
        limit: Time,
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        while let Some(Reverse((at, ..))) = self.events.peek() {
            if done(self) {
                return true;
            }
            if *at > limit {
                break;
            }
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                break;
            };
            self.now = at;
            match event {
                Event::Ack {
                    flow,
                    counter,
                    marked,
                } => {
                    let acks = self.take_acks((counter, marked), flow);
                    self.on_ack(flow, &acks);
                }
                Event::Wake { flow } => {
                    if self.flows[flow].woken_for <= at {
                        self.flows[flow].woken_for = Time::NEVER;
                    }
                    self.on_timer(flow);
                }
            }
        }
        done(self)
    }

    fn push(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn wake(&mut self, flow: usize, at: Time) {
        if at < self.flows[flow].woken_for {
            self.flows[flow].woken_for = at;
            self.push(at, Event::Wake { flow });
        }
    }

    fn on_ack(&mut self, flow: usize, acks: &[(u64, bool)]) {
        let now = self.now;
        let f = &mut self.flows[flow];
        let (mut acked, mut spurious) = (Vec::new(), Vec::new());
        let mut newest = None;
        for (counter, _) in acks {
            let Some(index) = counter.checked_sub(f.first) else {
                continue;
            };
            let packet = &mut f.packets[index as usize];
            let delivered = Delivered {
                stamp: packet.stamp,
                sent: packet.sent,
                bytes: packet.bytes,
            };
            newest = newest.max(Some((*counter, packet.sent)));
            f.delivered += u64::from(packet.bytes);
            if packet.fate == Fate::Lost {
                f.lost -= u64::from(packet.bytes);
                spurious.push(delivered);
            } else {
                f.inflight -= u64::from(packet.bytes);
                acked.push(delivered);
            }
            packet.fate = Fate::Acked;
        }
        let Some((newest, sent)) = newest else {
            return;
        };
        let rtt = now.since(sent);
        let smoothed = (f.srtt * 7 + rtt) / 8;
        f.srtt = if f.srtt.is_zero() { rtt } else { smoothed };
        f.last_progress = now;
        if let (Control::Bbr { bbr, .. }, false) = (&mut f.control, spurious.is_empty()) {
            bbr.on_spurious(now, &spurious);
        }
        let lost = Self::find_lost(f, newest, now);
        let marks = acks.iter().filter(|(_, marked)| *marked).count();
        Self::tell(f, now, &acked, &lost, Some(rtt), marks as u64);
        while f.packets.front().is_some_and(|p| {
            p.fate == Fate::Acked || (p.fate == Fate::Lost && now.since(p.sent) > f.srtt * 4)
        }) {
            f.packets.pop_front();
            f.first += 1;
        }
        self.send(flow);
    }

    /// All packets of `flow` that are acknowledged now: one acknowledgement names them all.
    fn take_acks(&mut self, first: (u64, bool), flow: usize) -> Vec<(u64, bool)> {
        let mut acks = vec![first];
        while let Some(Reverse((at, _, Event::Ack { flow: other, .. }))) = self.events.peek()
            && *at == self.now
            && *other == flow
        {
            if let Some(Reverse((
                _,
                _,
                Event::Ack {
                    counter, marked, ..
                },
            ))) = self.events.pop()
            {
                acks.push((counter, marked));
            }
        }
        acks
    }

    fn find_lost(f: &mut Flow, newest: u64, now: Time) -> Vec<Delivered> {
        let mut lost = Vec::new();
        let patience = f.srtt * 9 / 8;
        for (counter, packet) in (f.first..).zip(f.packets.iter_mut()) {
            if counter > newest {
                break;
            }
            let late = now.since(packet.sent) > patience;
            if packet.fate == Fate::Open && (counter + 3 <= newest || late) {
                packet.fate = Fate::Lost;
                let bytes = packet.bytes;
                lost.push(Delivered {
                    stamp: packet.stamp,
                    sent: packet.sent,
                    bytes,
                });
                f.inflight -= u64::from(bytes);
                f.lost += u64::from(bytes);
            }
        }
        lost
    }

    fn tell(
        f: &mut Flow,
        now: Time,
        acked: &[Delivered],
        lost: &[Delivered],
        rtt: Option<Duration>,
        ce: u64,
    ) {
        let (inflight, smoothed) = (f.inflight, f.srtt);
        match &mut f.control {
            Control::Bbr { bbr, pacer } => {
                bbr.on_ack(
                    now,
                    &Round {
                        acked,
                        lost,
                        rtt,
                        smoothed,
                        inflight,
                        ce,
                    },
                );
                pacer.set_rate(now, bbr.pacing_rate());
            }
            Control::Cubic(cubic) => {
                cubic.on_ack(secs(now), smoothed.as_secs_f64(), acked.len() as f64);
                if let Some(last) = lost.last() {
                    cubic.on_loss(secs(now), secs(last.sent));
                }
            }
        }
    }

    fn on_timer(&mut self, flow: usize) {
        let now = self.now;
        let f = &mut self.flows[flow];
        // A probe timeout: whatever is still open is lost.
        let patience = (f.srtt * 2).max(ms(20)) + ms(5);
        if f.inflight > 0 && !f.srtt.is_zero() && now.since(f.last_progress) > patience {
            f.last_progress = now;
            let mut lost = Vec::new();
            for p in f.packets.iter_mut().filter(|p| p.fate == Fate::Open) {
                p.fate = Fate::Lost;
                lost.push(Delivered {
                    stamp: p.stamp,
                    sent: p.sent,
                    bytes: p.bytes,
                });
                f.lost += u64::from(p.bytes);
            }
            f.inflight = 0;
            Self::tell(f, now, &[], &lost, None, 0);
        }
        self.send(flow);
    }

    /// Takes what the application wrote until now.
    fn write(f: &mut Flow, now: Time) -> Option<Time> {
        let App::Periodic { bytes, every } = f.app else {
            return None;
        };
        while f.written_until <= now {
            let at = f.written_until;
            if f.silent.is_none_or(|(from, to)| at < from || at >= to) {
                f.waiting.push_back((at, bytes));
            }
            f.written_until = at + every;
        }
        Some(f.written_until)
    }

    fn send(&mut self, flow: usize) {
        let now = self.now;
        if now < self.flows[flow].start {
            return;
        }
        loop {
            let f = &mut self.flows[flow];
            let next_write = Self::write(f, now);
            let bytes = match f.app {
                App::Bulk => match f.silent {
                    Some((from, to)) if now >= from && now < to => {
                        self.wake(flow, to);
                        0
                    }
                    _ => MSS,
                },
                App::Periodic { .. } => f.waiting.front().map_or(0, |(_, left)| MSS.min(*left)),
            };
            let f = &mut self.flows[flow];
            if bytes == 0 {
                let room = f.inflight < f.cwnd();
                if let (true, Control::Bbr { bbr, pacer }) = (room, &mut f.control) {
                    bbr.on_app_limited(f.inflight);
                    pacer.on_app_limited();
                }
                let probe = now + f.srtt * 2 + ms(26);
                let inflight = f.inflight;
                if let Some(at) = next_write {
                    self.wake(flow, at);
                }
                if inflight > 0 {
                    self.wake(flow, probe);
                }
                return;
            }
            if f.inflight + bytes > f.cwnd() {
                let probe = now + f.srtt * 2 + ms(26);
                self.wake(flow, probe);
                return;
            }
            let inflight = f.inflight;
            let stamp = match &mut f.control {
                Control::Bbr { bbr, pacer } => {
                    let ready = pacer.ready_at(now, bytes);
                    if ready > now {
                        self.wake(flow, ready);
                        return;
                    }
                    pacer.on_send(now, bytes);
                    bbr.on_send(now, bytes as u32, inflight)
                }
                Control::Cubic(_) => Stamp::default(),
            };
            self.put(flow, bytes, stamp);
        }
    }

    fn put(&mut self, flow: usize, bytes: u64, stamp: Stamp) {
        let now = self.now;
        let f = &mut self.flows[flow];
        if f.inflight == 0 {
            f.last_progress = now;
        }
        f.inflight += bytes;
        f.sent += bytes;
        if let Some((written, left)) = f.waiting.front_mut() {
            f.longest_wait = f.longest_wait.max(now.since(*written));
            *left -= bytes;
            if *left == 0 {
                f.waiting.pop_front();
            }
        }
        let counter = f.first + f.packets.len() as u64;
        f.packets.push_back(InFlight {
            sent: now,
            bytes: bytes as u32,
            stamp,
            fate: Fate::Open,
        });
        if let Some((at, marked)) = self.link.carry(now, bytes) {
            self.push(
                at,
                Event::Ack {
                    flow,
                    counter,
                    marked,
                },
            );
        }
    }
}
