//! Which agent a client belongs to.
//!
//! A [`RouteTable`] is built once from rules and never changes; whoever uses it swaps it for
//! another. What wins where several rules match, strongest first:
//!
//! 1. **exact**: the client id, literally;
//! 2. **range**: `<name>-<lo>-<hi>` matches `<name>-<n>` for lo ≤ n ≤ hi, numbers without
//!    leading zeros; where ranges overlap, the first in file order;
//! 3. **prefix**: the longest literal one; the empty one matches everybody.
//!
//! The same id or prefix a second time never matches. A rule with several agents spreads its
//! clients over them by rendezvous hashing, so that an agent that is gone moves only its own.
//!
//! A lookup costs one probe of a hash table for exact ids, one probe and a binary search for
//! ranges, and one probe per distinct length of a prefix. Texts lie in one piece of memory,
//! equal agents are kept once.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use upstream::ws_agent::Target;

mod build;
mod explain;
mod pick;
mod ranges;
mod rule;

pub use build::{Builder, TooManyRules};
pub use explain::{Candidate, Explanation};
pub use rule::{AGENTS_MAX, Rule, RuleError, RuleField, RuleKind, TEXT_BYTES_MAX, URL_BYTES_MAX};

use ranges::Pieces;

/// Most rules of a table.
pub const RULES_MAX: usize = 4_000_000;

/// Who goes where.
pub struct RouteTable {
    texts: Box<str>,
    rules: Box<[Record]>,
    /// Indices of agents, for rules with several.
    choices: Box<[u32]>,
    agents: Box<[Arc<Target>]>,
    /// A hash of each agent's URL.
    marks: Box<[u64]>,
    exact: HashTable<Entry>,
    names: HashTable<Name>,
    pieces: Pieces,
    prefixes: HashTable<Entry>,
    /// Lengths that prefixes have, the longest first.
    lengths: Box<[u16]>,
    hasher: DefaultHashBuilder,
    sources: Vec<(u32, Box<str>)>,
    warnings: Vec<String>,
}

/// A rule by its text. The hash spares most looks at texts that are others.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    rule: u32,
}

/// A rule in the table.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: u32,
    length: u16,
    /// How many agents.
    count: u16,
    /// The agent if it is one, else the first of `choices`.
    agent: u32,
    kind: RuleKind,
}

/// A name that has ranges: the first bytes of a rule's text.
#[derive(Debug, Clone, Copy)]
struct Name {
    start: u32,
    length: u16,
    /// Its first piece.
    first: u32,
    /// One past its last piece.
    end: u32,
}

/// Where a client belongs.
#[derive(Debug, Clone, Copy)]
pub struct Match<'a> {
    /// The agent.
    pub target: &'a Arc<Target>,
    /// The rule that says so.
    pub rule: RuleRef,
}

/// Names a rule of one table; another table has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef(u32);

impl RouteTable {
    /// The agent of a client and the rule that says so; `None` if no rule matches.
    pub fn lookup(&self, client: &str) -> Option<Match<'_>> {
        let rule = self
            .find_exact(client)
            .or_else(|| self.find_range(client))
            .or_else(|| self.find_prefix(client))?;
        let target = self.agent(rule, client)?;
        let rule = RuleRef(rule);
        Some(Match { target, rule })
    }

    /// What matches a client, which rule wins and why, for operators; looks at every rule.
    pub fn explain(&self, client: &str) -> Explanation {
        explain::explain(self, client)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether nobody has a route.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The agents, each once.
    pub fn agents(&self) -> &[Arc<Target>] {
        &self.agents
    }

    /// What the operator should look at: rules that never match or only in part.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The id, range or prefix of a rule, as written; empty for a rule of another table.
    pub fn text(&self, rule: RuleRef) -> &str {
        self.record(rule.0)
            .map_or("", |record| self.slice(record.start, record.length))
    }

    /// Where a rule was written: `relay.routes[3]`.
    pub fn name(&self, rule: RuleRef) -> String {
        let source = self
            .sources
            .iter()
            .rev()
            .find(|(first, _)| *first <= rule.0);
        match source {
            Some((first, name)) => format!("{name}[{}]", rule.0 - first),
            None => format!("routes[{}]", rule.0),
        }
    }

    fn find_exact(&self, client: &str) -> Option<u32> {
        self.probe(&self.exact, client.as_bytes())
    }

    fn find_range(&self, client: &str) -> Option<u32> {
        if self.names.is_empty() {
            return None;
        }
        let (name, number) = rule::numbered(client)?;
        let hash = self.hasher.hash_one(name.as_bytes());
        let found = self
            .names
            .find(hash, |other| self.slice(other.start, other.length) == name)?;
        self.pieces
            .find(found.first as usize, found.end as usize, number)
    }

    fn find_prefix(&self, client: &str) -> Option<u32> {
        let bytes = client.as_bytes();
        self.lengths
            .iter()
            .filter_map(|length| bytes.get(..usize::from(*length)))
            .find_map(|prefix| self.probe(&self.prefixes, prefix))
    }

    /// The rule in a table of rules whose text is this one.
    fn probe(&self, table: &HashTable<Entry>, text: &[u8]) -> Option<u32> {
        if table.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        table
            .find(hash, |entry| {
                entry.hash == hash as u32 && self.text(RuleRef(entry.rule)).as_bytes() == text
            })
            .map(|entry| entry.rule)
    }

    fn agent(&self, rule: u32, client: &str) -> Option<&Arc<Target>> {
        let choices = self.choices(rule);
        let index = match choices {
            [] => self.record(rule)?.agent,
            choices => {
                let marks = choices.iter().filter_map(|agent| self.mark(*agent));
                *choices.get(pick::winner(client, marks))?
            }
        };
        self.agents.get(index as usize)
    }

    /// The agents of a rule with several, else nothing.
    fn choices(&self, rule: u32) -> &[u32] {
        let Some(record) = self.record(rule).filter(|record| record.count > 1) else {
            return &[];
        };
        let first = record.agent as usize;
        self.choices
            .get(first..first + usize::from(record.count))
            .unwrap_or_default()
    }

    fn mark(&self, agent: u32) -> Option<u64> {
        self.marks.get(agent as usize).copied()
    }

    fn record(&self, rule: u32) -> Option<&Record> {
        self.rules.get(rule as usize)
    }

    fn slice(&self, start: u32, length: u16) -> &str {
        let start = start as usize;
        self.texts
            .get(start..start + usize::from(length))
            .unwrap_or_default()
    }
}

impl Default for RouteTable {
    fn default() -> Self {
        Builder::default().build()
    }
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RouteTable")
            .field("rules", &self.rules.len())
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
