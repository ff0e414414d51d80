//! What an operator may set about the aggregator.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::subject::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregator::{Grouping, GroupingError, Limits};

/// The aggregator of market data: ticks in, batches every 33 ms and snapshots every few seconds
/// out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Runs the aggregator within this process. Unset means: on in the demo while the bus is
    /// within the process. `tidegate market` runs it alone, whatever this says. Of one group
    /// there must be one aggregator only: each numbers its batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Name of this aggregator in its health messages.
    pub instance: String,
    /// Where ticks come from.
    pub source: Source,
    /// The built-in market, if it is the source.
    pub generator: GeneratorSettings,
    /// The subjects, if they are the source.
    pub subjects: SubjectSettings,
    /// Into how many groups (`g00`, `g01` and so on) symbols are spread by a hash of their name.
    /// The built-in market deals its symbols out one by one. Changing it moves symbols to other
    /// groups.
    #[schemars(range(min = 1, max = 1000))]
    pub groups: usize,
    /// Into how many parts each group is cut; with more than one, each part has a subject of its
    /// own, `xy.md.tick.g00.s0`. Groups times shards are at most 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub shards: usize,
    /// Symbols whose group is not left to the hash, with the name of their group (`g03`, or
    /// `g03.s1` with shards).
    pub group_of: BTreeMap<String, String>,
    /// How often batches of what changed are published, 5 ms to 10 s.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub tick_interval: Duration,
    /// How often each group's snapshot is published, 100 ms to 60 s; the contract of live data
    /// wants 2 s to 5 s. The groups are spread over the interval.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub snapshot_interval: Duration,
    /// Most symbols; ticks of further ones are refused and counted. A symbol takes about 250
    /// bytes, and 60 to 130 bytes of its group's snapshot, which must fit into one message of the
    /// bus (NATS: 1 MiB unless set otherwise).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub symbols_max: usize,
    /// How far the time of a tick may be from the clock of this machine; others are refused and
    /// counted. 0 lets any time pass.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub time_tolerance: Duration,
}

/// Where ticks come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The built-in market: random walks, the same for the same seed.
    #[default]
    Generator,
    /// Messages on the bus.
    Subjects,
}

/// The built-in market.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// How many symbols it has, called `S000`, `S001` and so on; at most `market.symbols_max`.
    pub symbols: usize,
    /// What its randomness starts from.
    pub seed: u64,
    /// The share of symbols that change per tick interval, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rate: f64,
}

/// The subjects of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubjectSettings {
    /// What is listened to, below `xy.src.`: `xy.src.tick.{venue}.{symbol}` with ticks,
    /// `xy.src.snapshot.{venue}.{symbol}` with bid and ask, `xy.src.heartbeat.{venue}`. One
    /// pattern; `xy.src.>` takes all of it.
    pub pattern: String,
    /// Messages that may wait; more are dropped and counted as gaps.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub queue: usize,
}

/// Why settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A field is out of its range.
    #[error("{field} is {value}, but must be {range}")]
    Range {
        /// Which field, as its path below the section.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// The pattern of subjects is none, or not of a source.
    #[error("subjects.pattern {pattern:?} is not a pattern below \"xy.src.\"")]
    Pattern {
        /// What was written.
        pattern: String,
    },
    /// Symbols can't be grouped like this.
    #[error(transparent)]
    Grouping(#[from] GroupingError),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: None,
            instance: "market".to_owned(),
            source: Source::default(),
            generator: GeneratorSettings::default(),
            subjects: SubjectSettings::default(),
            groups: 10,
            shards: 1,
            group_of: BTreeMap::new(),
            tick_interval: Duration::from_millis(33),
            snapshot_interval: Duration::from_secs(3),
            symbols_max: 100_000,
            time_tolerance: Duration::from_secs(60),
        }
    }
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self {
            symbols: 200,
            seed: 1,
            rate: 0.2,
        }
    }
}

impl Default for SubjectSettings {
    fn default() -> Self {
        Self {
            pattern: "xy.src.tick.>".to_owned(),
            queue: 65_536,
        }
    }
}

impl Settings {
    /// Whether it runs within the gateway's process.
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }

    /// Says what is wrong, if something is; [`crate::run`] checks the same.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.grouping()?;
        self.pattern()?;
        let is_within = |value: Duration, least_ms, most_ms| {
            (Duration::from_millis(least_ms)..=Duration::from_millis(most_ms)).contains(&value)
        };
        let range = |is_fine: bool, field, value: String, range| match is_fine {
            true => Ok(()),
            false => Err(SettingsError::Range {
                field,
                value,
                range,
            }),
        };
        range(
            is_within(self.tick_interval, 5, 10_000),
            "tick_interval",
            format!("{:?}", self.tick_interval),
            "5ms to 10s",
        )?;
        range(
            is_within(self.snapshot_interval, 100, 60_000),
            "snapshot_interval",
            format!("{:?}", self.snapshot_interval),
            "100ms to 60s",
        )?;
        range(
            self.snapshot_interval >= self.tick_interval,
            "snapshot_interval",
            format!("{:?}", self.snapshot_interval),
            "no shorter than tick_interval",
        )?;
        range(
            (1..=10_000_000).contains(&self.symbols_max),
            "symbols_max",
            self.symbols_max.to_string(),
            "1 to 10000000",
        )?;
        range(
            (1..=4_194_304).contains(&self.subjects.queue),
            "subjects.queue",
            self.subjects.queue.to_string(),
            "1 to 4194304",
        )?;
        range(
            self.generator.symbols <= self.symbols_max,
            "generator.symbols",
            self.generator.symbols.to_string(),
            "at most symbols_max",
        )?;
        range(
            (0.0..=1.0).contains(&self.generator.rate),
            "generator.rate",
            self.generator.rate.to_string(),
            "0 to 1",
        )
    }

    pub(crate) fn grouping(&self) -> Result<Grouping, GroupingError> {
        let mut grouping = Grouping::new(self.groups, self.shards)?;
        for (symbol, group) in &self.group_of {
            grouping.give(symbol, group)?;
        }
        Ok(grouping)
    }

    pub(crate) fn pattern(&self) -> Result<Pattern, SettingsError> {
        let text = &self.subjects.pattern;
        let pattern = Pattern::new(text).ok();
        let pattern = pattern.filter(|_| text.starts_with("xy.src."));
        pattern.ok_or_else(|| SettingsError::Pattern {
            pattern: text.clone(),
        })
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            symbols_max: self.symbols_max,
            skew_max_ms: u64::try_from(self.time_tolerance.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_fine() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().expect_err("it cannot work").to_string()
        };
        let cases = [
            (
                refused(|s| s.tick_interval = Duration::ZERO),
                "tick_interval",
            ),
            (
                refused(|s| s.snapshot_interval = Duration::MAX),
                "snapshot_interval",
            ),
            (refused(|s| s.symbols_max = 0), "symbols_max"),
            (refused(|s| s.subjects.queue = 0), "subjects.queue"),
            (
                refused(|s| s.subjects.pattern = "xy.md.>".to_owned()),
                "subjects.pattern",
            ),
            (refused(|s| s.generator.rate = f64::NAN), "generator.rate"),
            (
                refused(|s| s.generator.symbols = 100_001),
                "generator.symbols",
            ),
            (refused(|s| s.groups = 0), "groups"),
            (refused(|s| s.shards = usize::MAX), "shards"),
            (
                refused(|s| drop(s.group_of.insert("A".to_owned(), "g77".to_owned()))),
                "g77",
            ),
        ];
        for (message, named) in cases {
            assert!(message.contains(named), "{message}");
        }
    }
}
