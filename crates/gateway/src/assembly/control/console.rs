//! What the operators' console asks, carried out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admin::Readiness;
use admin::control::{
    BusOverview, Console, FlagChange, FlagRefusal, FlagRollout, FlagState, FlagValue, FlagsChanged,
    Overview, ProxyOverview, RelayOverview,
};
use bus::Bus;
use edge::fleet::Fleet;
use edge::live::Current;
use edge::metrics::Metrics;
use lifecycle::Clock;
use router::relay::Relay;

use crate::assembly::memory;
use crate::assembly::proxy_figures::ProxyFigures;
use crate::flags::{self, Change, ChangeError, Flag, State};

/// The gateway as the console sees it. Clones share it.
#[derive(Clone)]
pub(in crate::assembly) struct Desk(Arc<Sources>);

/// Where what is shown comes from.
pub(in crate::assembly) struct Sources {
    pub(in crate::assembly) fleet: Arc<Fleet>,
    pub(in crate::assembly) bus: Bus,
    pub(in crate::assembly) metrics: Arc<Metrics>,
    pub(in crate::assembly) relay: Option<Arc<Relay>>,
    pub(in crate::assembly) proxy: ProxyFigures,
    /// `None` if they are off.
    pub(in crate::assembly) flags: Option<flags::Desk>,
    pub(in crate::assembly) current: Current,
    pub(in crate::assembly) readiness: Readiness,
    pub(in crate::assembly) clock: Clock,
    pub(in crate::assembly) node: String,
    pub(in crate::assembly) last: Last,
}

/// What was told last and when, so that many who look cost no more than one.
pub(in crate::assembly) type Last = Mutex<Option<(Duration, Overview)>>;

impl Desk {
    pub(in crate::assembly) fn new(sources: Sources) -> Self {
        Self(Arc::new(sources))
    }
}

impl Console for Desk {
    async fn overview(&self) -> Overview {
        self.0.overview()
    }

    fn flags(&self) -> Option<FlagState> {
        let desk = self.0.flags.as_ref()?;
        Some(shown(&desk.flags().state()))
    }

    async fn change_flags(
        &self,
        change: FlagChange,
        expected: Option<u64>,
    ) -> Result<FlagsChanged, FlagRefusal> {
        let desk = self.0.flags.as_ref().ok_or(FlagRefusal::Off)?;
        let changed = desk.change(wanted(change), expected).await;
        let changed = changed.map_err(|error| match error {
            ChangeError::Version(state) => FlagRefusal::Changed(shown(&state)),
            ChangeError::Wrong(error) => FlagRefusal::Invalid(error.to_string()),
            error @ (ChangeError::NotKept(_) | ChangeError::Unavailable) => {
                FlagRefusal::Unavailable(error.to_string())
            }
        })?;
        Ok(FlagsChanged {
            state: shown(&changed.state),
            differences: changed.differences,
        })
    }
}

impl Sources {
    fn overview(&self) -> Overview {
        let now = self.clock.elapsed();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, overview)) = &*last
            && now.saturating_sub(*since) < KEPT
        {
            return overview.clone();
        }
        let overview = self.read();
        *last = Some((now, overview.clone()));
        overview
    }

    fn read(&self) -> Overview {
        let totals = self.metrics.totals();
        let dropped = totals.dropped.into_iter();
        Overview {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.clock.elapsed().as_secs(),
            time_ms: self.clock.unix_ms(),
            stage: self.readiness.stage().as_str().to_owned(),
            connections: self.fleet.connection_count() as u64,
            users: self.fleet.users() as u64,
            channels: self.bus.stats().channels as u64,
            subscriptions: totals.subscriptions as u64,
            messages_in: totals.messages_in,
            messages_out: totals.messages_out,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            drops: dropped
                .map(|(why, count)| (why.to_owned(), count))
                .collect(),
            cpu_seconds: memory::cpu_seconds(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            resident_bytes: memory::resident(),
            limit_bytes: self.current.load().door.memory,
            bus: self.bus_overview(),
            relay: self.relay.as_deref().map(relay_overview),
            proxy: self
                .proxy
                .at_a_glance()
                .map(|(routes, in_flight)| ProxyOverview {
                    routes: routes as u64,
                    in_flight,
                }),
        }
    }

    fn bus_overview(&self) -> BusOverview {
        let published = self.bus.stats().published_total;
        let Some(nats) = self.bus.nats_stats() else {
            return BusOverview {
                kind: "memory".to_owned(),
                state: "connected".to_owned(),
                published,
                losses: 0,
            };
        };
        let state = if nats.connected {
            "connected"
        } else {
            "disconnected"
        };
        BusOverview {
            kind: "nats".to_owned(),
            state: state.to_owned(),
            published: nats.published_total,
            losses: nats.reconnects_total + u64::from(!nats.connected),
        }
    }
}

fn relay_overview(relay: &Relay) -> RelayOverview {
    let summary = super::relay::summary(relay);
    RelayOverview {
        pending: summary.held.pending,
        dead_letters: summary.held.dead_letters,
        received: summary.messages.received,
        delivered: summary.messages.delivered,
        agents_up: summary.agents.up,
    }
}

fn shown(state: &State) -> FlagState {
    let flags = state.flags.iter().map(|(name, flag)| {
        let value = match flag.percentage {
            None => FlagValue::Plain(flag.enabled),
            percentage => FlagValue::Rollout(FlagRollout {
                enabled: flag.enabled,
                percentage,
            }),
        };
        (name.clone(), value)
    });
    FlagState {
        flags: flags.collect(),
        version: state.version,
    }
}

fn wanted(change: FlagChange) -> Change {
    let flag = |value: FlagValue| match value {
        FlagValue::Plain(enabled) => Flag::plain(enabled),
        FlagValue::Rollout(rollout) => Flag {
            enabled: rollout.enabled,
            percentage: rollout.percentage,
        },
    };
    match change {
        FlagChange::Replace(flags) => {
            let flags = flags.into_iter().map(|(name, value)| (name, flag(value)));
            Change::Replace(flags.collect::<BTreeMap<_, _>>())
        }
        FlagChange::Merge(flags) => {
            let flags = flags.into_iter();
            let flags = flags.map(|(name, value)| (name, value.map(flag)));
            Change::Merge(flags.collect::<BTreeMap<_, _>>())
        }
    }
}

/// For how long an overview is told again.
const KEPT: Duration = Duration::from_millis(900);
