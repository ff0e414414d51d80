//! A route as it is written, and the rule it becomes.

use std::sync::Arc;
use std::time::Duration;

use auth::settings::Secret;
use router::table::{Rule, RuleField};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upstream::ws_agent;

/// Some clients and their agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// One client id, literally; stronger than every prefix. Instead of
    /// `client_id_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `client-1-1000` means `client-1` to `client-1000` (numbers without leading zeros;
    /// where ranges overlap, the first in the list); anything else is a literal prefix,
    /// the longest wins, and an empty one matches every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id_prefix: Option<String>,
    /// URL of the agent, `ws://host:port/path` or `wss://…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// URLs of several agents, instead of `agent`: each client belongs to one of them by
    /// a hash of its id, and an agent that is taken out moves only its own clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// What the agent speaks.
    pub protocol: AgentProtocol,
    /// Name of the agent behind an OpenClaw gateway, for session keys.
    pub agent_id: String,
    /// What the agent is shown.
    pub auth: AgentAuth,
    /// SHA-256 of the agent's certificate as 64 hexadecimal digits, colons allowed: only
    /// this one is accepted. Empty means that the system's authorities decide.
    pub tls_fingerprint: String,
    /// Passes on the parts of an answer while it is being made.
    pub deltas: bool,
    /// An agent that speaks `stratix` acknowledges every message. Otherwise a message
    /// counts as delivered when it is written, until the first acknowledgement comes.
    pub acks: bool,
    /// How text in `data` of a message is read where its bytes are needed.
    pub data_encoding: DataEncoding,
    /// Time to connect, handshakes included.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub dial_timeout: Duration,
    /// Time for one try of one message.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub try_timeout: Duration,
    /// Most messages sent to the agent and not answered yet.
    #[schemars(range(min = 1))]
    pub in_flight: usize,
    /// A connection that carried nothing for so long is closed; 0 means never.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub idle_timeout: Duration,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            client_id: None,
            client_id_prefix: None,
            agent: None,
            agents: Vec::new(),
            protocol: AgentProtocol::default(),
            agent_id: "main".to_owned(),
            auth: AgentAuth::default(),
            tls_fingerprint: String::new(),
            deltas: false,
            acks: false,
            data_encoding: DataEncoding::default(),
            dial_timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(30),
            in_flight: 256,
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// What an agent speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentProtocol {
    /// The OpenClaw gateway protocol.
    #[default]
    #[serde(rename = "openclaw")]
    OpenClaw,
    /// Stratix messages as JSON.
    Stratix,
}

/// What an agent is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentAuth {
    /// Which kind of secret it is; an agent that speaks `stratix` gets either as a Bearer
    /// token.
    pub mode: AuthMode,
    /// The secret.
    pub secret: Secret,
}

/// Which kind of secret an agent is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// None.
    #[default]
    None,
    /// A token.
    Token,
    /// A password.
    Password,
}

/// How text in `data` is read where its bytes are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataEncoding {
    /// As Base64 if it is strictly padded Base64 of valid UTF-8, else as it stands.
    #[default]
    Auto,
    /// Always as Base64.
    Base64,
    /// Always as it stands.
    Plain,
}

impl Route {
    /// The rule, or the key that is wrong (below the route) and why.
    pub(crate) fn rule(&self) -> Result<Rule, (String, String)> {
        let refuse = |key: &str, problem: &str| Err((key.to_owned(), problem.to_owned()));
        let urls: Vec<&str> = match (&self.agent, self.agents.as_slice()) {
            (Some(_), [_, ..]) => return refuse("agents", "is instead of agent, not beside it"),
            (Some(agent), []) => vec![agent],
            (None, agents) => agents.iter().map(String::as_str).collect(),
        };
        if urls.is_empty() {
            return refuse("agent", "missing; expected the URL of an agent");
        }
        let mut targets = Vec::with_capacity(urls.len());
        for url in urls {
            targets.push(self.target(url)?);
        }
        let (key, rule) = match (&self.client_id, &self.client_id_prefix) {
            (Some(_), Some(_)) => {
                return refuse("client_id_prefix", "is instead of client_id, not beside it");
            }
            (None, None) => {
                return refuse(
                    "client_id_prefix",
                    "missing; expected client_id or client_id_prefix",
                );
            }
            (Some(id), None) => match (targets.pop(), targets.is_empty()) {
                (Some(target), true) => ("client_id", Rule::exact(id, target)),
                _ => return refuse("agents", "are several for one client; expected one agent"),
            },
            (None, Some(prefix)) => ("client_id_prefix", Rule::prefix(prefix, targets)),
        };
        rule.map_err(|error| {
            let key = match error.field {
                RuleField::Client => key.to_owned(),
                RuleField::Agent(_) if self.agent.is_some() => "agent".to_owned(),
                RuleField::Agent(index) => format!("agents[{index}]"),
                RuleField::Agents => "agents".to_owned(),
            };
            (key, error.problem)
        })
    }

    fn target(&self, url: &str) -> Result<ws_agent::Target, (String, String)> {
        let refuse = |key: &str, problem: &str| Err((key.to_owned(), problem.to_owned()));
        let secret = self.auth.secret.reveal().unwrap_or_default();
        let auth = match (self.auth.mode, secret.is_empty()) {
            (AuthMode::None, true) => ws_agent::AgentAuth::None,
            (AuthMode::None, false) => {
                return refuse(
                    "auth.mode",
                    "is none, but there is a secret; expected token or password",
                );
            }
            (_, true) => return refuse("auth.secret", "missing; auth.mode needs it"),
            (AuthMode::Token, false) => ws_agent::AgentAuth::Token(ws_agent::Secret::new(secret)),
            (AuthMode::Password, false) => {
                ws_agent::AgentAuth::Password(ws_agent::Secret::new(secret))
            }
        };
        if self.agent_id.is_empty() || self.agent_id.len() > AGENT_ID_BYTES_MAX {
            return refuse("agent_id", "must have 1 to 64 bytes");
        }
        for (key, time) in [
            ("dial_timeout", self.dial_timeout),
            ("try_timeout", self.try_timeout),
        ] {
            if !(TIME_MIN..=TIME_MAX).contains(&time) {
                return refuse(key, "must be at least 1ms and at most an hour (1h)");
            }
        }
        if self.in_flight == 0 {
            return refuse("in_flight", "must be above 0");
        }
        Ok(ws_agent::Target {
            url: Arc::from(url),
            peer: match self.protocol {
                AgentProtocol::OpenClaw => ws_agent::Peer::OpenClaw,
                AgentProtocol::Stratix => ws_agent::Peer::Stratix,
            },
            auth,
            tls_fingerprint: self.fingerprint(url)?,
            agent_id: Arc::from(self.agent_id.as_str()),
            deltas: self.deltas,
            acks: self.acks,
            data_encoding: match self.data_encoding {
                DataEncoding::Auto => ws_agent::DataEncoding::Auto,
                DataEncoding::Base64 => ws_agent::DataEncoding::Base64,
                DataEncoding::Plain => ws_agent::DataEncoding::Plain,
            },
            dial_timeout: self.dial_timeout,
            try_timeout: self.try_timeout,
            in_flight: self.in_flight,
            idle_timeout: self.idle_timeout,
        })
    }

    fn fingerprint(&self, url: &str) -> Result<Option<[u8; 32]>, (String, String)> {
        if self.tls_fingerprint.is_empty() {
            return Ok(None);
        }
        let refuse = |problem: &str| Err(("tls_fingerprint".to_owned(), problem.to_owned()));
        if !url.starts_with("wss://") {
            return refuse("needs an agent with wss://");
        }
        let digits = self.tls_fingerprint.bytes().filter(|byte| *byte != b':');
        let digits: Option<Vec<u8>> = digits
            .map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8))
            .collect();
        let mut fingerprint = [0; 32];
        match digits {
            Some(digits) if digits.len() == 2 * fingerprint.len() => {
                for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
                }
                Ok(Some(fingerprint))
            }
            _ => refuse("is no SHA-256; expected 64 hexadecimal digits"),
        }
    }
}

const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(3600);

/// Session keys of `OpenClaw` have at most 512 characters, most of them the client's.
const AGENT_ID_BYTES_MAX: usize = 64;
