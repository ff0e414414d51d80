//! Feature flags: switches that operators set while the gateway runs.
//!
//! What they are and how a percentage is decided is pure (`state`, `rollout`). They
//! are kept in a file of the data folder, or, where the bus is NATS, there, so that
//! all gateways have the same (`keeper`). Every change is published on a channel, for
//! clients that look at flags of their own; the gateway asks [`Flags::is_on`].

use std::sync::Arc;

use arc_swap::ArcSwap;

mod keeper;
mod place;
mod rollout;
mod shared;
mod state;

pub use keeper::{ChangeError, Changed, Desk, Keeper, OpenError, Policy, Setup};
pub use place::Place;
pub use rollout::share;
pub use state::{Change, Flag, FlagError, State};

/// The flags in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Flags {
    state: Arc<ArcSwap<State>>,
}

impl Flags {
    fn new(state: State) -> Self {
        Self {
            state: Arc::new(ArcSwap::from_pointee(state)),
        }
    }

    /// Whether a flag is on for a subject (a user's id); a flag that is not there is off.
    /// Takes no lock; the hash is worked out only where there is a percentage.
    pub fn is_on(&self, name: &str, subject: &str) -> bool {
        self.get(name, subject).unwrap_or(false)
    }

    /// As [`Flags::is_on`], and `None` where there is no flag of that name.
    pub fn get(&self, name: &str, subject: &str) -> Option<bool> {
        let state = self.state.load();
        let flag = state.flags.get(name);
        flag.map(|flag| flag.is_on(name, subject))
    }

    /// All of them.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    fn replace(&self, state: State) {
        self.state.store(Arc::new(state));
    }
}

#[cfg(test)]
mod tests;
