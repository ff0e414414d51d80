//! Which client wire format a connection speaks, and how its contract differs.
//!
//! One session state machine serves all dialects; where their contracts differ it reads
//! a [`Profile`] and never asks which dialect it is.

use std::time::Duration;

use crate::session::Settings;

/// A client wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// The Centrifuge client protocol (`contracts`: centrifuge).
    Centrifuge,
    /// Stratix message JSON (`contracts`: relay 1.3).
    Stratix,
    /// Subjects in, raw payloads out (`contracts`: live-data 6.2).
    Live {
        /// The subject stands before each payload (`contracts`: L5).
        envelope: bool,
    },
}

/// What a contract asks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The client says who it is in a connect command; otherwise it was known before the
    /// upgrade and nothing is said about it.
    pub logs_in_by_command: bool,
    /// Pings are messages of the protocol and only their answer counts; otherwise they
    /// are WebSocket pings, and any sign of life is an answer.
    pub pings_in_protocol: bool,
    /// What may be subscribed to stands in a list of its own
    /// ([`Settings::live_subjects`]); what namespaces allow does not matter.
    pub has_own_subjects: bool,
}

/// How a connection is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// How often the server pings; zero means never.
    pub interval: Duration,
    /// How long the answer may take; zero means for ever.
    pub timeout: Duration,
}

impl Dialect {
    /// What its contract asks.
    pub const fn profile(self) -> &'static Profile {
        match self {
            Self::Centrifuge => &Profile {
                logs_in_by_command: true,
                pings_in_protocol: true,
                has_own_subjects: false,
            },
            Self::Stratix => &Profile {
                logs_in_by_command: false,
                pings_in_protocol: false,
                has_own_subjects: false,
            },
            Self::Live { .. } => &Profile {
                logs_in_by_command: false,
                pings_in_protocol: false,
                has_own_subjects: true,
            },
        }
    }

    /// How its connections are kept alive.
    pub fn pulse(self, settings: &Settings) -> Pulse {
        match self {
            Self::Centrifuge | Self::Live { .. } => Pulse {
                interval: settings.client.ping_interval,
                timeout: settings.client.pong_timeout,
            },
            Self::Stratix => settings.stratix_pulse,
        }
    }

    /// Its name in metrics and in what operators see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Centrifuge => "centrifuge",
            Self::Stratix => "stratix",
            Self::Live { .. } => "live",
        }
    }
}
