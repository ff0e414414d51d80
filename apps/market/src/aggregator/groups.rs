//! Which group a symbol belongs to.

use bytes::Bytes;
use hashbrown::HashMap;

/// How symbols are spread over groups, and how groups are called.
///
/// A symbol belongs to the group it was given to by name, or else to that of a hash of its name
/// that never changes. With more than one shard each group is cut into so many parts; each part
/// has a name of its own, `g00.s0`, and is a group in every respect.
#[derive(Debug, Clone)]
pub struct Grouping {
    groups: usize,
    shards: usize,
    names: Vec<Box<str>>,
    given: HashMap<Box<str>, usize>,
}

/// Why symbols can't be spread like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupingError {
    /// No groups or no shards, or too many.
    #[error("{groups} groups of {shards} shards are not between 1 and {GROUPS_MAX} in all")]
    Count {
        /// How many groups were asked for.
        groups: usize,
        /// How many shards of each.
        shards: usize,
    },
    /// A symbol is given to a group that does not exist.
    #[error("symbol {symbol:?} is given to group {group:?}, which does not exist")]
    NoGroup {
        /// The symbol.
        symbol: String,
        /// The name of what would be its group.
        group: String,
    },
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Box<str>,
    /// Number of the last batch taken.
    pub(super) seq: u64,
    /// Symbols with something to tell, each once.
    pub(super) changed: Vec<u32>,
    pub(super) members: Vec<u32>,
    /// The last snapshot made.
    pub(super) fresh: Option<Fresh>,
}

#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) seq: u64,
    pub(super) mono_ms: u64,
    pub(super) payload: Bytes,
}

impl Grouping {
    /// Groups `g00`, `g01` and so on, each of so many shards.
    pub fn new(groups: usize, shards: usize) -> Result<Self, GroupingError> {
        let count = groups.checked_mul(shards);
        if !count.is_some_and(|count| (1..=GROUPS_MAX).contains(&count)) {
            return Err(GroupingError::Count { groups, shards });
        }
        let digits = (groups - 1).max(10).ilog10() as usize + 1;
        let names = (0..groups).flat_map(|group| {
            (0..shards).map(move |shard| match shards {
                1 => format!("g{group:0digits$}").into(),
                _ => format!("g{group:0digits$}.s{shard}").into(),
            })
        });
        Ok(Self {
            groups,
            shards,
            names: names.collect(),
            given: HashMap::new(),
        })
    }

    /// Gives a symbol to a group (or shard) by its name. Counts for symbols that are not known
    /// yet.
    pub fn give(&mut self, symbol: &str, group: &str) -> Result<(), GroupingError> {
        let Some(index) = self.find(group) else {
            return Err(GroupingError::NoGroup {
                symbol: symbol.to_owned(),
                group: group.to_owned(),
            });
        };
        self.given.insert(symbol.into(), index);
        Ok(())
    }

    /// Gives symbols to the groups one by one, in their order, save those that have been given.
    pub fn deal<'a>(&mut self, symbols: impl Iterator<Item = &'a str>) {
        for (index, symbol) in symbols.enumerate() {
            let group = index % self.names.len();
            self.given.entry_ref(symbol).or_insert(group);
        }
    }

    /// The group of a symbol, counted from 0.
    pub fn group_of(&self, symbol: &str) -> usize {
        if let Some(&group) = self.given.get(symbol) {
            return group;
        }
        let hash = stable_hash(symbol.as_bytes());
        let group = (hash % self.groups as u64) as usize;
        let shard = (hash / self.groups as u64 % self.shards as u64) as usize;
        group * self.shards + shard
    }

    /// The group with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| **known == *name)
    }

    /// Name of a group, as it stands in its subjects; empty if there is no such group.
    pub fn name(&self, group: usize) -> &str {
        self.names.get(group).map_or("", |name| name)
    }

    /// How many groups there are, shards counted each.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            seq: 0,
            changed: Vec::new(),
            members: Vec::new(),
            fresh: None,
        }
    }
}

/// FNV-1a: the same on every machine and in every version, as groups are a matter between
/// restarts and between programs.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    // The low bits of FNV alone spread short names badly.
    hash ^ (hash >> 32)
}

const GROUPS_MAX: usize = 1000;
