//! One rule: which clients, and which agents they go to.

use std::fmt;

use upstream::ws_agent::Target;

/// Longest client id or prefix of a rule, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Most agents of one rule.
pub const AGENTS_MAX: usize = 1_024;

/// Longest URL of an agent, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// A rule that has been checked.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) text: Box<str>,
    pub(super) kind: RuleKind,
    pub(super) agents: Vec<Target>,
}

/// How a rule matches, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// One client id, literally.
    Exact,
    /// `<name>-<lo>-<hi>`: every `<name>-<n>` with lo ≤ n ≤ hi.
    Range,
    /// All client ids that begin with it.
    Prefix,
}

/// Which part of a rule is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleField {
    /// The client id or prefix.
    Client,
    /// The agents as a whole.
    Agents,
    /// The agent of this index.
    Agent(usize),
}

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RuleError {
    /// Which part of it.
    pub field: RuleField,
    /// What is wrong and what is accepted.
    pub problem: String,
}

impl Rule {
    /// A rule for one client id.
    pub fn exact(client: &str, agent: Target) -> Result<Self, RuleError> {
        if client.is_empty() {
            let problem = "is empty; expected the id of a client".to_owned();
            return Err(RuleError::new(RuleField::Client, problem));
        }
        Self::new(client, RuleKind::Exact, vec![agent])
    }

    /// A rule for many clients: `<name>-<lo>-<hi>` with two whole numbers without leading
    /// zeros, lo ≤ hi, is a range; any other text is a literal prefix, and the empty one
    /// matches every client. With several agents each client goes to one of them by hash.
    pub fn prefix(prefix: &str, agents: Vec<Target>) -> Result<Self, RuleError> {
        let kind = match range(prefix) {
            Some(_) => RuleKind::Range,
            None => RuleKind::Prefix,
        };
        Self::new(prefix, kind, agents)
    }

    fn new(text: &str, kind: RuleKind, agents: Vec<Target>) -> Result<Self, RuleError> {
        let refuse = |field, problem| Err(RuleError::new(field, problem));
        if text.len() > TEXT_BYTES_MAX {
            let problem = format!(
                "is {} bytes long; expected at most {TEXT_BYTES_MAX}",
                text.len()
            );
            return refuse(RuleField::Client, problem);
        }
        if agents.is_empty() || agents.len() > AGENTS_MAX {
            let problem = format!("are {}; expected 1 to {AGENTS_MAX}", agents.len());
            return refuse(RuleField::Agents, problem);
        }
        let mut seen = hashbrown::HashSet::with_capacity(agents.len());
        for (index, agent) in agents.iter().enumerate() {
            if let Some(problem) = url_problem(&agent.url) {
                return refuse(RuleField::Agent(index), problem);
            }
            if !seen.insert(&agent.url) {
                let problem = format!("{:?} stands here a second time", agent.url);
                return refuse(RuleField::Agent(index), problem);
            }
        }
        drop(seen);
        let text = text.into();
        Ok(Self { text, kind, agents })
    }
}

impl RuleError {
    fn new(field: RuleField, problem: String) -> Self {
        Self { field, problem }
    }
}

impl fmt::Display for RuleField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => formatter.write_str("client"),
            Self::Agents => formatter.write_str("agents"),
            Self::Agent(index) => write!(formatter, "agents[{index}]"),
        }
    }
}

/// Name and bounds of `<name>-<lo>-<hi>`.
pub(super) fn range(text: &str) -> Option<(&str, u64, u64)> {
    let (rest, hi) = text.rsplit_once('-')?;
    let (name, lo) = rest.rsplit_once('-')?;
    let (lo, hi) = (number(lo)?, number(hi)?);
    (!name.is_empty() && lo <= hi).then_some((name, lo, hi))
}

/// Name and number of `<name>-<n>`.
pub(super) fn numbered(client: &str) -> Option<(&str, u64)> {
    let (name, digits) = client.rsplit_once('-')?;
    (!name.is_empty())
        .then(|| number(digits))
        .flatten()
        .map(|number| (name, number))
}

/// A whole number in its one spelling: without sign and leading zeros.
fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// What is wrong with the URL of an agent, if anything.
fn url_problem(url: &str) -> Option<String> {
    let expected = "expected ws://host[:port][/path] or wss://…";
    if url.is_empty() {
        return Some(format!("is empty; {expected}"));
    }
    if url.len() > URL_BYTES_MAX {
        let length = url.len();
        return Some(format!(
            "is {length} bytes long; expected at most {URL_BYTES_MAX}"
        ));
    }
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = url
        .strip_prefix("ws://")
        .or_else(|| url.strip_prefix("wss://"));
    let Some(rest) = rest.filter(|_| is_plain) else {
        return Some(format!("{} is no URL of an agent; {expected}", quoted(url)));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if authority.contains('@') {
        // Not quoted back: it may hold a password.
        return Some("has user or password before the host; use auth of the route".to_owned());
    }
    if rest.contains('#') {
        return Some(format!(
            "{} has a fragment, which no server sees",
            quoted(url)
        ));
    }
    let (host, port) = match authority.strip_prefix('[') {
        // Without the closing bracket nothing is left for the host, which is refused below.
        Some(v6) => v6.split_once(']').unwrap_or_default(),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_fine = port.is_empty()
        || port
            .strip_prefix(':')
            .and_then(|port| port.parse::<u16>().ok())
            .is_some_and(|port| port != 0);
    let host_is_fine = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    match host_is_fine && port_is_fine {
        true => None,
        false => Some(format!(
            "{} has no usable host and port; {expected}",
            quoted(url)
        )),
    }
}

/// A text for a message, cut where it gets long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
