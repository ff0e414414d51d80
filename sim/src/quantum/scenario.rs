//! What happens in a run: drawn from its seed, before anything begins.

use std::time::Duration;

use quantum_proto::Time;
use quantum_proto::config::{Config, FecMode};
use quantum_proto::endpoint::EndpointConfig;
use quantum_proto::streams::{Priority, Role};

use super::lies::{LIES, Lie};
use super::traffic::{Abort, Answer, Flow, Plan};
use crate::chance::Chance;
use crate::network::{Loss, Profile};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Both sides keep the rules, whatever the network does; everything arrives.
    Honest,
    /// One side closes while everything is under way.
    Broken,
    /// The network goes away for good.
    Dark,
    /// The server loses all that it knows.
    Restart,
    /// One side breaks the rules.
    Lie(Lie),
}

impl Kind {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Honest => "everything arrives",
            Self::Broken => "closed in the middle",
            Self::Dark => "the network goes away",
            Self::Restart => "the server restarts",
            Self::Lie(_) => "a peer lies",
        }
    }
}

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// The client of that pair connects.
    Connect(usize),
    /// That plan of that pair begins.
    Begin(usize, usize),
    /// A direction of a link changes.
    Link(usize, usize, Box<Profile>),
    /// Router or host of the client change its address.
    Move {
        pair: usize,
        host: bool,
    },
    Configure(usize, Role, Box<Config>),
    RenewKeys(usize, Role),
    /// Packets that were sent before are sent again by somebody else.
    Replay {
        count: u64,
        elsewhere: bool,
    },
    /// Nonsense is sent to everybody.
    Garbage(u64),
    /// Clients with forged addresses begin handshakes.
    Flood(u64),
    /// An application stops reading, or goes on.
    Pause(usize, Role, bool),
    Close(usize, Role),
    /// The server loses all that it knows, once everybody is connected.
    Restart,
    /// That side breaks a rule, once both are connected.
    Lie(usize, Role, Lie),
}

/// One client and its link.
#[derive(Debug, Clone)]
pub(super) struct PairPlan {
    pub(super) starts: [u32; 2],
    pub(super) config: Config,
    pub(super) profiles: [Profile; 2],
    pub(super) plans: Vec<Plan>,
    /// Bytes of all plans.
    pub(super) volume: u64,
}

/// A whole run.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) kind: Kind,
    pub(super) server: Config,
    pub(super) endpoint: EndpointConfig,
    pub(super) certificate: u16,
    pub(super) pairs: Vec<PairPlan>,
    pub(super) script: Vec<(Time, Action)>,
    /// That side reads nothing before the network has healed.
    pub(super) stalled: Option<Role>,
    /// From then on the network does nothing wrong.
    pub(super) healed_at: Time,
}

/// A link that is well, and not too slow.
pub(super) fn healed(profile: Profile) -> Profile {
    let healed = profile.healed();
    Profile {
        rate: healed.rate.max(50e3),
        queue: healed.queue.max(20e3),
        ..healed
    }
}

fn seconds(seconds: f64) -> Time {
    Time::after(Duration::from_secs_f64(seconds))
}

impl Scenario {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let kind = match chance.below(40) {
            0 | 1 => Kind::Broken,
            2 => Kind::Dark,
            3 => Kind::Restart,
            4..10 => Kind::Lie(chance.pick(&LIES)),
            _ => Kind::Honest,
        };
        let stalled = (kind == Kind::Honest && chance.happens(0.08))
            .then(|| chance.pick(&[Role::Client, Role::Server]));
        let count = if chance.happens(0.2) {
            chance.between(2, 3)
        } else {
            1
        };
        let span = chance.spread(0.05, 8.0);
        let server = config(chance);
        let mut script = Vec::new();
        let pairs = (0..count as usize)
            .map(|pair| {
                let plan = pair_plan(chance, count);
                script.push((
                    seconds(chance.unit() * 0.1 * pair as f64),
                    Action::Connect(pair),
                ));
                for index in 0..plan.plans.len() {
                    let at = if chance.happens(0.5) {
                        0.0
                    } else {
                        chance.unit() * span
                    };
                    script.push((seconds(at), Action::Begin(pair, index)));
                }
                disturb(chance, pair, &plan, &server, span, &mut script);
                plan
            })
            .collect::<Vec<_>>();
        attack(chance, span, &mut script);
        let healed_at = seconds(span * 1.2 + 0.5);
        for (pair, plan) in pairs.iter().enumerate() {
            for direction in 0..2 {
                let profile = if kind == Kind::Dark {
                    Profile {
                        dark: true,
                        ..plan.profiles[direction]
                    }
                } else {
                    healed(plan.profiles[direction])
                };
                script.push((healed_at, Action::Link(pair, direction, Box::new(profile))));
            }
            if kind == Kind::Broken {
                let role = chance.pick(&[Role::Client, Role::Server]);
                script.push((seconds(chance.unit() * span), Action::Close(pair, role)));
                // The server may not have heard of anybody then.
                script.push((healed_at, Action::Close(pair, Role::Client)));
            }
        }
        let at = seconds(chance.unit() * span * 1.3);
        match kind {
            Kind::Restart => script.push((at, Action::Restart)),
            Kind::Lie(lie) => {
                let liar = chance.pick(&[Role::Client, Role::Server]);
                script.push((at, Action::Lie(0, liar, lie)));
            }
            Kind::Honest | Kind::Broken | Kind::Dark => {}
        }
        if let Some(role) = stalled {
            script.retain(
                |(_, action)| !matches!(action, Action::Pause(_, of, false) if *of == role),
            );
            for pair in 0..pairs.len() {
                script.push((Time::ZERO, Action::Pause(pair, role, true)));
                script.push((healed_at, Action::Pause(pair, role, false)));
            }
        }
        let half_open = chance.pick(&[0, 1, 16, 128]);
        script.sort_by_key(|(at, _)| *at);
        Self {
            kind,
            server,
            endpoint: EndpointConfig {
                half_open_max: half_open,
                handshakes_max: 256,
                resets_per_second: 10,
                ..EndpointConfig::default()
            },
            certificate: chance.pick(&[0, 900, 3_000, 8_000]),
            pairs,
            script,
            stalled,
            healed_at,
        }
    }
}

/// Settings within what an operator may set.
fn config(chance: &mut Chance) -> Config {
    let stream_window = chance.spread(2_000.0, 1e6) as u32;
    Config {
        fec_ratio: chance.pick(&[0.0, 0.1, 0.3, 0.3, 0.3, 1.0]),
        bbr_startup_gain: chance.pick(&[2.77, 2.77, 2.885, 1.5]),
        max_cwnd: chance.pick(&[65_536, 65_536, 65_536, 256, 16, 4]),
        fec_mode: chance.pick(&[
            FecMode::Sliding,
            FecMode::Sliding,
            FecMode::Block,
            FecMode::Off,
        ]),
        fec_tail_rate: chance.pick(&[2_000_000, 2_000_000, 100_000, 0]),
        idle_timeout: Duration::from_secs(chance.between(30, 60)),
        keep_alive: Duration::from_secs(chance.pick(&[1, 5, 10])),
        handshake_timeout: Duration::from_secs(30),
        stream_window,
        connection_window: (f64::from(stream_window) * chance.spread(0.5, 16.0)) as u32,
        send_buffer: chance.spread(1_000.0, 300e3) as u32,
        max_streams: chance.pick(&[1, 2, 5, 100, 1_024]),
        packet_window: chance.pick(&[65_536, 65_536, 1_024, 256, 32]),
        max_datagram: chance.pick(&[1_472, 1_472, 1_472, 1_200, 1_300, 4_000]),
    }
}

fn pair_plan(chance: &mut Chance, pairs: u64) -> PairPlan {
    let base = profile(chance);
    let mut back = profile(chance);
    if chance.happens(0.7) {
        // Both directions of most paths are alike.
        back = base;
    }
    back.delay = base.delay;
    let volume = match chance.below(40) {
        0 => chance.spread(300e3, 2e6),
        1..10 => chance.spread(50e3, 300e3),
        _ => chance.spread(500.0, 50e3),
    };
    // Slow links would need hours for much.
    let volume = volume.min(base.rate.min(back.rate) * 4.0) / pairs as f64;
    let plans: Vec<Plan> = plans(chance, volume);
    let flows = plans.iter().flat_map(|it| &it.flows);
    let volume = flows.filter_map(|it| it.ends.last()).sum();
    PairPlan {
        // The numbers on the wire begin again soon, whichever side one looks at.
        starts: [0, 1].map(|_| u32::MAX - chance.below(120) as u32),
        config: config(chance),
        profiles: [base, back],
        plans,
        volume,
    }
}

fn profile(chance: &mut Chance) -> Profile {
    let loss = match chance.below(10) {
        0..4 => Loss::Independent(0.0),
        4..7 => Loss::Independent(chance.spread(0.002, 0.3)),
        _ => Loss::Bursts {
            enter: chance.spread(0.002, 0.05),
            leave: chance.spread(0.1, 0.8),
        },
    };
    let delay = Duration::from_secs_f64(chance.spread(0.0002, 0.15));
    let rate = chance.spread(30e3, 100e6);
    // From a tenth of what is under way to a bloated queue.
    let under_way = (rate * 2.0 * delay.as_secs_f64()).max(6_000.0);
    let rarely = |chance: &mut Chance, share: f64, low: f64, high: f64| {
        if chance.happens(share) {
            chance.spread(low, high)
        } else {
            0.0
        }
    };
    let queue = (under_way * chance.spread(0.1, 4.0)).clamp(3_000.0, 5e6);
    Profile {
        loss,
        delay,
        jitter: delay.mul_f64(rarely(chance, 0.3, 0.01, 1.0)),
        keeps_order: chance.happens(0.6),
        holds: rarely(chance, 0.3, 0.001, 0.2),
        hold: delay.mul_f64(chance.spread(0.05, 4.0)),
        repeats: rarely(chance, 0.3, 0.001, 0.2),
        corrupts: rarely(chance, 0.3, 0.001, 0.1),
        rate,
        queue,
        mtu: chance.pick(&[1_472, 1_472, 1_472, 1_452, 1_372, 1_280, 1_200, 9_000]),
        marks_at: if chance.happens(0.3) {
            queue * 0.3
        } else {
            f64::MAX
        },
        dark: false,
    }
}

fn plans(chance: &mut Chance, volume: f64) -> Vec<Plan> {
    let count = match chance.below(4) {
        0 => 1,
        1 | 2 => chance.between(2, 8),
        _ => chance.between(9, 40),
    };
    (0..count)
        .map(|index| {
            let share = volume / count as f64;
            let bulk = chance.happens(0.2) || (index == 0 && count < 8);
            let (there, back) = match chance.below(3) {
                0 => (share * 0.9, share * 0.1),
                1 => (share * 0.5, share * 0.5),
                _ => (share * 0.1, share * 0.9),
            };
            let answer = chance.pick(&[Answer::AtOnce, Answer::PerMessage, Answer::AfterEnd]);
            let mut flow = |bytes: f64| {
                let is_marked = !bulk && chance.happens(0.8);
                flow(chance, bytes, is_marked || answer == Answer::PerMessage)
            };
            let flows = [flow(there), flow(back)];
            Plan {
                opener: chance.pick(&[Role::Client, Role::Client, Role::Client, Role::Server]),
                priority: if bulk {
                    Priority::Bulk
                } else {
                    chance.pick(&[Priority::Control, Priority::Unary, Priority::ServerStream])
                },
                flows,
                answer,
                abort: chance.happens(0.15).then(|| abort(chance, share)),
            }
        })
        .collect()
}

fn flow(chance: &mut Chance, bytes: f64, is_marked: bool) -> Flow {
    let total = (bytes * chance.spread(0.3, 1.0)) as u64;
    let count = match chance.below(10) {
        0 => 0,
        1..7 => 1,
        _ => chance.between(2, 30),
    };
    let mut ends: Vec<u64> = (0..count)
        .map(|index| match index {
            0 => total,
            _ => chance.between(1, total.max(1)),
        })
        .filter(|end| *end > 0)
        .collect();
    ends.sort_unstable();
    ends.dedup();
    Flow {
        key: chance.next(),
        ends,
        is_marked,
    }
}

fn abort(chance: &mut Chance, share: f64) -> Abort {
    let by = chance.pick(&[Role::Client, Role::Server]);
    let code = chance.next() as u32;
    let both = chance.below(3);
    Abort {
        by,
        reset: (both != 1).then_some(code),
        stop: (both != 0).then_some(code.wrapping_add(1)),
        after: (share * chance.unit()) as u64,
    }
}

/// What happens to the link and at the ends while data are under way.
fn disturb(
    chance: &mut Chance,
    pair: usize,
    plan: &PairPlan,
    server: &Config,
    span: f64,
    script: &mut Vec<(Time, Action)>,
) {
    let link = |at: f64, direction: usize, profile: Profile| {
        (
            seconds(at),
            Action::Link(pair, direction, Box::new(profile)),
        )
    };
    for direction in 0..2 {
        let before = plan.profiles[direction];
        if chance.happens(0.15) {
            let (at, length) = (chance.unit() * span, chance.spread(0.01, 3.0));
            let dark = Profile {
                dark: true,
                ..before
            };
            script.push(link(at, direction, dark));
            script.push(link((at + length).min(span * 1.1), direction, before));
        }
        if chance.happens(0.15) {
            let mtu = chance.pick(&[1_200, 1_250, 1_300, 1_472]);
            script.push(link(
                chance.unit() * span,
                direction,
                Profile { mtu, ..before },
            ));
        }
        if chance.happens(0.1) {
            script.push(link(chance.unit() * span, direction, profile(chance)));
        }
    }
    for _ in 0..chance.below(4) {
        let at = seconds(chance.unit() * span);
        let role = chance.pick(&[Role::Client, Role::Server]);
        match chance.below(6) {
            0 | 1 => {
                let host = chance.happens(0.3);
                script.push((at, Action::Move { pair, host }));
            }
            2 | 3 => script.push((at, Action::RenewKeys(pair, role))),
            4 => {
                let before = match role {
                    Role::Client => &plan.config,
                    Role::Server => server,
                };
                // What was told in the handshake stays.
                let fresh = Config {
                    max_datagram: before.max_datagram,
                    packet_window: before.packet_window,
                    idle_timeout: before.idle_timeout,
                    handshake_timeout: before.handshake_timeout,
                    ..config(chance)
                };
                script.push((at, Action::Configure(pair, role, Box::new(fresh))));
            }
            _ => {
                script.push((at, Action::Pause(pair, role, true)));
                let until = seconds(chance.between(1, 10) as f64 * 0.1 * span);
                script.push((until.max(at), Action::Pause(pair, role, false)));
            }
        }
    }
    script.push((
        seconds(span * 1.2 + 0.4),
        Action::Pause(pair, Role::Client, false),
    ));
    script.push((
        seconds(span * 1.2 + 0.4),
        Action::Pause(pair, Role::Server, false),
    ));
}

/// What others do.
fn attack(chance: &mut Chance, span: f64, script: &mut Vec<(Time, Action)>) {
    for _ in 0..chance.below(4) {
        let at = seconds(chance.unit() * span);
        let action = match chance.below(8) {
            0..4 => Action::Replay {
                count: chance.between(1, 30),
                elsewhere: chance.happens(0.3),
            },
            4..7 => Action::Garbage(chance.between(1, 30)),
            _ => Action::Flood(chance.between(1, 200)),
        };
        script.push((at, action));
    }
}
