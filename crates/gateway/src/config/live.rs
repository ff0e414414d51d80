//! Settings of the dialect for live data: subjects in, raw payloads out.

use std::time::Duration;

use auth::settings::TokenSettings;
use protocol::subject::Pattern;
use protocol::subjects::Subjects;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listen::Network;

/// The dialect for live data: `/live/ws` on the main listener, `/ws` on one of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Live {
    /// Serves it. Unset means: on while `listeners.live.address` is set or the demo is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What may be subscribed to at all (patterns with `*` and `>`); a token's `subjects`
    /// narrow it further.
    pub subjects: Vec<String>,
    /// Lets clients without a token in. A token that is shown must be good all the same.
    pub optional_token: bool,
    /// Keys of its own for the tokens of these clients.
    pub token: LiveToken,
    /// Puts the subject before each payload even for clients that do not ask for it.
    pub envelope: bool,
    /// Most messages queued for one client; above it the oldest of the same subject goes
    /// first, then the oldest of all.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub send_queue_max: usize,
    /// A client with more bytes than this waiting for longer than `slow_patience` is
    /// closed (3008).
    #[schemars(range(min = 1024))]
    pub slow_bytes: usize,
    /// See `slow_bytes`.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub slow_patience: Duration,
    /// Longest message in bytes that a client may send (1009).
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub message_size_max: usize,
    /// Most subjects in one message of a client; more are refused.
    #[schemars(range(min = 1, max = 100_000))]
    pub subjects_per_message_max: usize,
    /// Networks beside this machine that may read `/metrics.json`.
    pub metrics_networks: Vec<Network>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            enabled: None,
            subjects: vec!["xy.md.>".to_owned()],
            optional_token: false,
            token: LiveToken::default(),
            envelope: false,
            send_queue_max: 1_000,
            slow_bytes: 1_048_576,
            slow_patience: Duration::from_secs(5),
            message_size_max: 1_048_576,
            subjects_per_message_max: 1_000,
            metrics_networks: Vec::new(),
        }
    }
}

impl Live {
    /// What may be subscribed to, ready to be asked. What is no pattern was refused
    /// before.
    pub fn patterns(&self) -> Subjects {
        let patterns = self.subjects.iter();
        patterns
            .filter_map(|text| Pattern::new(text).ok())
            .collect()
    }

    /// Whether it is on; after loading, the question is settled.
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }
}

/// Keys for the tokens of clients of the dialect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LiveToken {
    /// Checks tokens with the keys below instead of those of `client.token`; those of
    /// other clients are then refused here.
    pub enabled: bool,
    /// Keys and rules, as in `client.token`.
    #[serde(flatten)]
    pub token: TokenSettings,
}

/// Tells each key that is wrong, and why.
pub(super) fn check(live: &Live, refuse: &mut dyn FnMut(&str, String)) {
    for (index, text) in live.subjects.iter().enumerate() {
        if let Err(error) = Pattern::new(text) {
            let problem =
                format!("{text:?}: {error}; expected a pattern such as xy.md.> or xy.md.tick.*");
            refuse(&format!("live.subjects[{index}]"), problem);
        }
    }
    if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&live.slow_patience) {
        let problem = "must be at least 100ms and at most 1h";
        refuse("live.slow_patience", problem.into());
    }
    if live.token.enabled && !live.token.token.has_keys() {
        refuse(
            "live.token.enabled",
            "needs a key below live.token, such as rsa_public_key".into(),
        );
    }
}
