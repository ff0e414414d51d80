//! From rules to a table.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use upstream::ws_agent::Target;

use super::ranges::{Pieces, Range};
use super::rule::{self, Rule, RuleKind};
use super::{Entry, Name, RULES_MAX, Record, RouteTable, RuleRef, pick};

/// Warnings that are kept; the rest is counted.
const WARNINGS_MAX: usize = 100;

/// More rules than a table takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {RULES_MAX} routes")]
pub struct TooManyRules;

/// Makes a table, rule by rule in file order.
#[derive(Default)]
pub struct Builder {
    texts: String,
    rules: Vec<Record>,
    choices: Vec<u32>,
    agents: Vec<Arc<Target>>,
    known: HashMap<Arc<Target>, u32>,
    /// Names of ranges; `first` is their number until the pieces are there.
    names: HashTable<Name>,
    ranges: Vec<Range>,
    hasher: DefaultHashBuilder,
    sources: Vec<(u32, Box<str>)>,
}

impl Builder {
    /// Says where the following rules are written, for messages: `relay.routes`.
    pub fn source(&mut self, name: &str) {
        self.sources.push((self.next(), name.into()));
    }

    /// Adds a rule after the others.
    pub fn add(&mut self, rule: Rule) -> Result<(), TooManyRules> {
        let Rule { text, kind, agents } = rule;
        let (Ok(start), Ok(length), Ok(count)) = (
            u32::try_from(self.texts.len()),
            u16::try_from(text.len()),
            u16::try_from(agents.len()),
        ) else {
            return Err(TooManyRules);
        };
        if self.rules.len() >= RULES_MAX || self.choices.len() > u32::MAX as usize {
            return Err(TooManyRules);
        }
        self.texts.push_str(&text);
        if let Some((name, lo, hi)) = rule::range(&text).filter(|_| kind == RuleKind::Range) {
            let name = self.name(start, name);
            let rule = self.next();
            self.ranges.push(Range { name, lo, hi, rule });
        }
        let first = self.choices.len() as u32;
        let mut agent = first;
        for target in agents {
            let index = self.intern(target);
            match count {
                1 => agent = index,
                _ => self.choices.push(index),
            }
        }
        self.rules.push(Record {
            start,
            length,
            count,
            agent,
            kind,
        });
        Ok(())
    }

    /// The table of the rules.
    pub fn build(self) -> RouteTable {
        drop(self.known);
        let marks = self.agents.iter().map(|agent| pick::mark(&agent.url));
        let mut table = RouteTable {
            marks: marks.collect(),
            texts: self.texts.into_boxed_str(),
            rules: self.rules.into_boxed_slice(),
            choices: self.choices.into_boxed_slice(),
            agents: self.agents.into_boxed_slice(),
            exact: HashTable::new(),
            names: self.names,
            pieces: Pieces::default(),
            prefixes: HashTable::new(),
            lengths: Box::default(),
            hasher: self.hasher,
            sources: self.sources,
            warnings: Vec::new(),
        };
        let mut warnings = Warnings::default();
        add_ranges(&mut table, self.ranges, &mut warnings);
        table.exact = index(&table, RuleKind::Exact, &mut warnings);
        table.prefixes = index(&table, RuleKind::Prefix, &mut warnings);
        table.lengths = prefix_lengths(&table);
        table.warnings = warnings.finish();
        table
    }

    fn next(&self) -> u32 {
        self.rules.len() as u32
    }

    /// The index of an agent among those known.
    fn intern(&mut self, target: Target) -> u32 {
        if let Some(index) = self.known.get(&target) {
            return *index;
        }
        let index = self.agents.len() as u32;
        let target = Arc::new(target);
        self.agents.push(Arc::clone(&target));
        self.known.insert(target, index);
        index
    }

    /// The number of a name, which is the beginning of the text at `start`.
    fn name(&mut self, start: u32, name: &str) -> u32 {
        let texts = self.texts.as_bytes();
        let bytes = |name: &Name| {
            let start = name.start as usize;
            let text = texts.get(start..start + usize::from(name.length));
            text.unwrap_or_default()
        };
        let hasher = &self.hasher;
        let hash = hasher.hash_one(name.as_bytes());
        if let Some(known) = self.names.find(hash, |it| bytes(it) == name.as_bytes()) {
            return known.first;
        }
        let number = self.names.len() as u32;
        let entry = Name {
            start,
            length: name.len() as u16,
            first: number,
            end: number,
        };
        self.names
            .insert_unique(hash, entry, |it| hasher.hash_one(bytes(it)));
        number
    }
}

/// Cuts the ranges into pieces and tells each name where its pieces are.
fn add_ranges(table: &mut RouteTable, mut ranges: Vec<Range>, warnings: &mut Warnings) {
    ranges.sort_unstable_by_key(|range| (range.name, range.lo, range.rule));
    let mut pieces = Pieces::default();
    let mut places = vec![(0, 0); table.names.len()];
    for of_name in ranges.chunk_by(|one, other| one.name == other.name) {
        let first = pieces.len() as u32;
        pieces.add(of_name, |stronger, weaker| {
            warnings.add(|| {
                format!(
                    "{} overlaps {}, which comes first and wins",
                    titled(table, weaker),
                    titled(table, stronger)
                )
            });
        });
        let place = of_name
            .first()
            .and_then(|range| places.get_mut(range.name as usize));
        if let Some(place) = place {
            *place = (first, pieces.len() as u32);
        }
    }
    pieces.shrink();
    table.pieces = pieces;
    for name in &mut table.names {
        (name.first, name.end) = places.get(name.first as usize).copied().unwrap_or_default();
    }
}

/// The rules of one kind by their texts; of equal ones the first.
fn index(table: &RouteTable, kind: RuleKind, warnings: &mut Warnings) -> HashTable<Entry> {
    let of_kind = || {
        let rules = table.rules.iter().enumerate();
        rules.filter(move |(_, record)| record.kind == kind)
    };
    let mut index = HashTable::with_capacity(of_kind().count());
    let text = |rule: u32| table.text(RuleRef(rule)).as_bytes();
    for (rule, _) in of_kind() {
        let rule = rule as u32;
        let hash = table.hasher.hash_one(text(rule));
        let same = |other: &Entry| text(other.rule) == text(rule);
        match index.find(hash, same) {
            Some(first) => warnings.add(|| {
                format!(
                    "{} never matches: {} is the same and comes first",
                    titled(table, rule),
                    titled(table, first.rule)
                )
            }),
            None => {
                let entry = Entry {
                    hash: hash as u32,
                    rule,
                };
                index.insert_unique(hash, entry, |it| table.hasher.hash_one(text(it.rule)));
            }
        }
    }
    index
}

/// The lengths of prefixes, the longest first.
fn prefix_lengths(table: &RouteTable) -> Box<[u16]> {
    let prefixes = table
        .rules
        .iter()
        .filter(|record| record.kind == RuleKind::Prefix);
    let mut lengths: Vec<u16> = prefixes.map(|record| record.length).collect();
    lengths.sort_unstable_by(|one, other| other.cmp(one));
    lengths.dedup();
    lengths.into_boxed_slice()
}

/// `relay.routes[3] ("client-1-1000")`.
pub(super) fn titled(table: &RouteTable, rule: u32) -> String {
    let rule = RuleRef(rule);
    format!("{} ({:?})", table.name(rule), table.text(rule))
}

/// What to tell the operator, within bounds.
#[derive(Default)]
struct Warnings {
    kept: Vec<String>,
    more: usize,
}

impl Warnings {
    fn add(&mut self, warning: impl FnOnce() -> String) {
        match self.kept.len() < WARNINGS_MAX {
            true => self.kept.push(warning()),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            let more = format!("{} more routes overlap or never match", self.more);
            self.kept.push(more);
        }
        self.kept
    }
}
