//! What flags there are, and how they may change.

use std::collections::BTreeMap;

use api::Message as _;
use api::xy::flags::v1::FeatureFlags;
use serde::{Deserialize, Serialize};

use super::rollout::share;

/// All flags at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By name.
    pub flags: BTreeMap<String, Flag>,
    /// Rises by one with every change; at least 1.
    pub version: u64,
}

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Flag {
    /// Off means off for everybody.
    pub enabled: bool,
    /// For how many of a hundred users it is on; `None` for all.
    pub percentage: Option<u8>,
}

/// How a flag is written: a boolean, or more where there is more to say.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(bool),
    Rollout(Rollout),
}

/// A newer gateway may write more.
#[derive(Serialize, Deserialize)]
struct Rollout {
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percentage: Option<u8>,
}

impl From<Written> for Flag {
    fn from(written: Written) -> Self {
        match written {
            Written::Plain(enabled) => Self {
                enabled,
                percentage: None,
            },
            Written::Rollout(Rollout {
                enabled,
                percentage,
            }) => Self {
                enabled,
                percentage,
            },
        }
    }
}

impl From<Flag> for Written {
    fn from(flag: Flag) -> Self {
        match flag.percentage {
            None => Self::Plain(flag.enabled),
            percentage => Self::Rollout(Rollout {
                enabled: flag.enabled,
                percentage,
            }),
        }
    }
}

/// What somebody wants to be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These and no others.
    Replace(BTreeMap<String, Flag>),
    /// These are set, and those with `None` are removed; the others stay.
    Merge(BTreeMap<String, Option<Flag>>),
}

/// Why flags can't be as they were wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A name that is none.
    #[error("{0:?} is no name of a flag: expected 1 to {NAME_MAX} letters, digits, - _ and .")]
    Name(String),
    /// A percentage beyond 100.
    #[error("{0:?} has a percentage above 100")]
    Percentage(String),
    /// Too many.
    #[error("more than {FLAGS_MAX} flags")]
    TooMany,
}

impl Flag {
    /// A flag that is on or off for everybody.
    pub fn plain(enabled: bool) -> Self {
        Self {
            enabled,
            percentage: None,
        }
    }

    /// Whether it is on for a subject.
    pub fn is_on(&self, name: &str, subject: &str) -> bool {
        match self.percentage {
            _ if !self.enabled => false,
            None => true,
            Some(percentage) => share(name, subject) < percentage,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            flags: BTreeMap::new(),
            version: 1,
        }
    }
}

impl State {
    /// What becomes of it by a change. The version rises even if nothing differs: whoever
    /// asked for it has been heard.
    ///
    /// # Errors
    ///
    /// Names the flag that can't be, and what is accepted.
    pub fn changed(&self, change: &Change) -> Result<Self, FlagError> {
        let flags = match change {
            Change::Replace(flags) => flags.clone(),
            Change::Merge(wanted) => {
                let mut flags = self.flags.clone();
                for (name, flag) in wanted {
                    match flag {
                        Some(flag) => flags.insert(name.clone(), *flag),
                        None => flags.remove(name),
                    };
                }
                flags
            }
        };
        let state = Self {
            flags,
            version: self.version.saturating_add(1),
        };
        state.check().map(|()| state)
    }

    /// Reads flags as they are kept.
    ///
    /// # Errors
    ///
    /// Says what is wrong, if it was not written by [`State::written`].
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        state.check().map_err(|error| error.to_string())?;
        Ok(state)
    }

    /// Flags as they are kept: JSON.
    pub fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("flags are plain data with text keys")
    }

    /// Whether this is what was kept by us or by another gateway.
    fn check(&self) -> Result<(), FlagError> {
        if self.flags.len() > FLAGS_MAX {
            return Err(FlagError::TooMany);
        }
        for (name, flag) in &self.flags {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=NAME_MAX).contains(&name.len()) || !name.bytes().all(is_plain) {
                return Err(FlagError::Name(name.chars().take(NAME_MAX).collect()));
            }
            if flag.percentage.is_some_and(|percentage| percentage > 100) {
                return Err(FlagError::Percentage(name.clone()));
            }
        }
        Ok(())
    }

    /// What differs from another state, for the log: `name=on`, `name=25%`, `name removed`.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, flag) in &self.flags {
            if before.flags.get(name) != Some(flag) {
                found.push(match (flag.enabled, flag.percentage) {
                    (false, _) => format!("{name}=off"),
                    (true, None) => format!("{name}=on"),
                    (true, Some(percentage)) => format!("{name}={percentage}%"),
                });
            }
        }
        let removed = before
            .flags
            .keys()
            .filter(|name| !self.flags.contains_key(*name));
        found.extend(removed.map(|name| format!("{name} removed")));
        found
    }

    /// The message of the contract. Who knows booleans only sees what holds for everybody.
    pub fn to_message(&self) -> Vec<u8> {
        let mut message = FeatureFlags {
            version: self.version,
            ..FeatureFlags::default()
        };
        for (name, flag) in &self.flags {
            let percentage = flag.percentage.unwrap_or(100);
            let is_whole = percentage >= 100;
            message.flags.insert(name.clone(), flag.enabled && is_whole);
            if flag.enabled && !is_whole {
                message.rollouts.insert(name.clone(), u32::from(percentage));
            }
        }
        message.encode_to_vec()
    }
}

/// Longest name in bytes.
const NAME_MAX: usize = 128;

/// Most flags: all of them are sent with every change.
const FLAGS_MAX: usize = 1_000;
