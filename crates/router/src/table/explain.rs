//! Why a client goes where it goes. Looks at every rule by itself, without the indices that
//! lookups use.

use std::fmt;

use super::build::titled;
use super::rule::{RuleKind, numbered, range};
use super::{RouteTable, RuleRef};

/// Ranges that miss a client and are shown all the same.
const NEAR_MAX: usize = 3;

/// Candidates that lose and are shown.
const LOSERS_MAX: usize = 50;

/// What matches a client, and why one rule wins. `Display` prints it for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The client.
    pub client: String,
    /// The rule that wins, if one matches.
    pub winner: Option<Candidate>,
    /// The agent's URL, if a rule matches.
    pub agent: Option<String>,
    /// The other rules that match, strongest first.
    pub losers: Vec<Candidate>,
    /// Why no rule matches, as far as something comes near.
    pub hints: Vec<String>,
}

/// A rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which rule.
    pub rule: RuleRef,
    /// Where it is written and its text: `relay.routes[3] ("client-1-1000")`.
    pub title: String,
    /// Why it matches, and why it loses if it does.
    pub reason: String,
}

pub(super) fn explain(table: &RouteTable, client: &str) -> Explanation {
    let mut matching: Vec<u32> = (0..table.rules.len() as u32)
        .filter(|rule| matches(table, *rule, client))
        .collect();
    matching.sort_by_key(|rule| strength(table, *rule));
    let mut candidates = matching.iter().map(|rule| Candidate {
        rule: RuleRef(*rule),
        title: titled(table, *rule),
        reason: why(table, *rule, client),
    });
    let mut winner = candidates.next();
    let losers: Vec<_> = candidates
        .map(|mut loser| {
            let reason = matching
                .first()
                .map(|first| weaker(table, loser.rule.0, *first));
            loser.reason.push_str(reason.unwrap_or_default());
            loser
        })
        .collect();
    let agent = winner
        .as_ref()
        .and_then(|winner| table.agent(winner.rule.0, client));
    if let (Some(winner), Some(agent)) = (&mut winner, agent) {
        winner
            .reason
            .push_str(&choice(table, winner.rule.0, &agent.url));
    }
    let hints = match winner {
        Some(_) => Vec::new(),
        None => hints(table, client),
    };
    Explanation {
        client: client.to_owned(),
        agent: agent.map(|agent| agent.url.to_string()),
        winner,
        losers,
        hints,
    }
}

fn matches(table: &RouteTable, rule: u32, client: &str) -> bool {
    let text = table.text(RuleRef(rule));
    match table.record(rule).map(|record| record.kind) {
        Some(RuleKind::Exact) => text == client,
        Some(RuleKind::Prefix) => client.starts_with(text),
        Some(RuleKind::Range) => match (range(text), numbered(client)) {
            (Some((name, lo, hi)), Some((own, number))) => {
                name == own && (lo..=hi).contains(&number)
            }
            _ => false,
        },
        None => false,
    }
}

/// Smaller is stronger.
fn strength(table: &RouteTable, rule: u32) -> (RuleKind, usize, u32) {
    let text = table.text(RuleRef(rule));
    let kind = table
        .record(rule)
        .map_or(RuleKind::Prefix, |record| record.kind);
    match kind {
        RuleKind::Exact | RuleKind::Range => (kind, 0, rule),
        RuleKind::Prefix => (kind, usize::MAX - text.len(), rule),
    }
}

fn why(table: &RouteTable, rule: u32, client: &str) -> String {
    let text = table.text(RuleRef(rule));
    let (kind, ..) = strength(table, rule);
    match (kind, range(text), numbered(client)) {
        (RuleKind::Exact, ..) => "the exact client id".to_owned(),
        (RuleKind::Range, Some((name, lo, hi)), Some((_, number))) => {
            format!("{number} of {name:?} is in the range from {lo} to {hi}")
        }
        _ if text.is_empty() => "the empty prefix matches every client".to_owned(),
        _ => "the client id begins with this prefix".to_owned(),
    }
}

/// Why the rule loses against the winner.
fn weaker(table: &RouteTable, rule: u32, winner: u32) -> &'static str {
    let ((kind, length, _), (winning, longest, _)) =
        (strength(table, rule), strength(table, winner));
    match (kind, winning) {
        (RuleKind::Range, RuleKind::Exact) => "; an exact id is stronger than a range",
        (RuleKind::Prefix, RuleKind::Exact) => "; an exact id is stronger than a prefix",
        (RuleKind::Prefix, RuleKind::Range) => "; a range is stronger than a prefix",
        _ if length != longest => "; a longer prefix is stronger",
        _ => "; an equally strong rule stands before it",
    }
}

/// Which of several agents was chosen.
fn choice(table: &RouteTable, rule: u32, url: &str) -> String {
    let choices = table.choices(rule);
    let chosen = choices.iter().position(|agent| {
        table
            .agents
            .get(*agent as usize)
            .is_some_and(|agent| *agent.url == *url)
    });
    match chosen {
        Some(index) => format!(
            "; agent {} of {} by the hash of the client id",
            index + 1,
            choices.len()
        ),
        None => String::new(),
    }
}

/// What comes near a client that nothing matches.
fn hints(table: &RouteTable, client: &str) -> Vec<String> {
    if table.is_empty() {
        return vec!["there are no routes".to_owned()];
    }
    let mut hints = Vec::new();
    let is_padded = |digits: &str| {
        digits.len() > 1
            && digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match (numbered(client), client.rsplit_once('-')) {
        (Some((name, number)), _) => {
            let ranges = (0..table.rules.len() as u32).filter_map(|rule| {
                let (of, lo, hi) = range(table.text(RuleRef(rule)))?;
                (of == name).then_some((lo.abs_diff(number).min(hi.abs_diff(number)), rule))
            });
            let mut near: Vec<_> = ranges.collect();
            near.sort_unstable();
            for (_, rule) in near.into_iter().take(NEAR_MAX) {
                hints.push(format!("{number} is not in {}", titled(table, rule)));
            }
        }
        (None, Some((_, digits))) if is_padded(digits) => {
            hints.push(format!(
                "{digits:?} has leading zeros, so no range matches it"
            ));
        }
        _ => {}
    }
    hints
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = &self.client;
        let (Some(winner), Some(agent)) = (&self.winner, &self.agent) else {
            write!(formatter, "no route for client {client:?}")?;
            for hint in &self.hints {
                write!(formatter, "\n  {hint}")?;
            }
            return Ok(());
        };
        writeln!(formatter, "client {client:?} goes to {agent}")?;
        write!(formatter, "  by {}: {}", winner.title, winner.reason)?;
        if !self.losers.is_empty() {
            formatter.write_str("\nwhat matches too and loses:")?;
        }
        for loser in self.losers.iter().take(LOSERS_MAX) {
            write!(formatter, "\n  {}: {}", loser.title, loser.reason)?;
        }
        match self.losers.len().saturating_sub(LOSERS_MAX) {
            0 => Ok(()),
            more => write!(formatter, "\n  and {more} more"),
        }
    }
}
