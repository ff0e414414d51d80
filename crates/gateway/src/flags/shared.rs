//! Flags that the bus keeps for all gateways on it.

use std::time::Duration;

use bus::{Bus, BusError, Keep, Kept, WatchKept};
use bytes::Bytes;
use tracing::warn;

use super::keeper::Outcome;
use super::state::State;

/// Below this key of the bus, and what lies there.
const BELOW: &str = "flags";
const KEY: &str = "flags.state";

/// Flags that the bus keeps.
pub(super) struct Shared {
    bus: Bus,
    watch: WatchKept,
    /// Of what we have seen; 0 means that nothing was there.
    revision: u64,
    /// Of the flags that we have seen.
    version: u64,
}

/// What another gateway has set.
pub(super) enum News {
    /// These flags.
    State(State),
    /// Something that can't be read; says why.
    Wrong(String),
}

impl Shared {
    /// Reads what is there and begins to listen.
    pub(super) async fn open(bus: &Bus) -> Result<(State, Self), String> {
        let watch = bus.watch_kept(BELOW).await;
        let watch = watch.map_err(|error| error.to_string())?;
        let mut shared = Self {
            bus: bus.clone(),
            watch,
            revision: 0,
            version: 0,
        };
        let state = shared.read().await?.unwrap_or_default();
        Ok((state, shared))
    }

    /// What is there now.
    async fn read(&mut self) -> Result<Option<State>, String> {
        let kept = self.bus.kept(BELOW).await;
        let kept = kept.map_err(|error| error.to_string())?;
        let found = kept.into_iter().find(|found| found.key == KEY);
        self.revision = found.as_ref().map_or(0, |found| found.revision);
        let value = found.and_then(|found| found.value);
        let state = value.map(|value| State::parse(&value)).transpose()?;
        self.version = state.as_ref().map_or(self.version, |state| state.version);
        Ok(state)
    }

    /// Keeps flags, unless others have been kept since we looked.
    pub(super) async fn keep(&mut self, state: &State) -> Result<Outcome, String> {
        for _ in 0..TRIES {
            let keep = Keep {
                key: KEY.to_owned(),
                value: Some(Bytes::from(state.written())),
                ttl: None,
                after: Some(self.revision),
            };
            match self.bus.keep(keep).await {
                Ok(revision) => {
                    (self.revision, self.version) = (revision, state.version);
                    return Ok(Outcome::Kept);
                }
                Err(BusError::Outdated) => {
                    if let Some(state) = self.read().await? {
                        return Ok(Outcome::Elsewhere(state));
                    }
                    // The bus has lost them; ours are what everybody had.
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(BusError::Outdated.to_string())
    }

    /// What another gateway has set; never ends. Safe to cancel.
    pub(super) async fn news(&mut self) -> News {
        loop {
            match self.watch.next().await {
                Ok(Some(kept)) => {
                    if let Some(news) = self.heard(kept) {
                        return news;
                    }
                }
                // The bus has ended, and with it the process.
                Ok(None) => return std::future::pending().await,
                Err(error) => {
                    warn!(%error, "feature flags can't be had from the bus, trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn heard(&mut self, kept: Kept) -> Option<News> {
        if kept.key != KEY {
            return None;
        }
        let is_newer = kept.revision > self.revision;
        let state = kept.value.map(|value| State::parse(&value));
        match state {
            // Our own comes back, and after a lost connection everything does. Revisions
            // begin anew where the bus has lost what it kept; versions go on.
            Some(Ok(state)) if is_newer || state.version > self.version => {
                (self.revision, self.version) = (kept.revision, state.version);
                Some(News::State(state))
            }
            Some(Err(problem)) if is_newer => {
                self.revision = kept.revision;
                Some(News::Wrong(problem))
            }
            Some(_) => None,
            None => {
                self.revision = self.revision.max(kept.revision);
                None
            }
        }
    }
}

/// How often flags are kept that the bus has lost meanwhile.
const TRIES: usize = 2;

/// When what was not had is asked for again.
const AGAIN: Duration = Duration::from_secs(1);
