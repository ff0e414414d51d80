//! Symbols by name, and the state of each.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

use crate::wire::Snapshot;

/// All symbols. Numbers are given in the order in which symbols came, from 0.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    states: Vec<Symbol>,
    /// Numbers, by the hash of the name.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Default)]
pub(super) struct Symbol {
    pub(super) name: Box<str>,
    pub(super) group: u32,
    /// Whether it stands among the changed ones of its group.
    pub(super) is_changed: bool,
    /// Time of the latest price; 0 before the first.
    pub(super) ts_ms: i64,
    pub(super) price: f64,
    /// Traded since the last batch.
    pub(super) volume_waiting: u64,
    /// As of the last batch.
    pub(super) told: Told,
    pub(super) quote: Quote,
    pub(super) origin: Origin,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) ts_ms: i64,
    pub(super) price: f64,
    pub(super) volume: u64,
}

/// Batches have no quotes, so there is only the latest.
#[derive(Debug, Default)]
pub(super) struct Quote {
    pub(super) ts_ms: i64,
    pub(super) bid: f64,
    pub(super) ask: f64,
    pub(super) bid_size: u64,
    pub(super) ask_size: u64,
}

/// The last numbered message of the symbol's source.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) subject_hash: u64,
    pub(super) offset: u64,
}

impl Symbols {
    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let is_it = |&number: &u32| self.at(number).name.as_bytes() == name;
        self.table.find(hash, is_it).copied()
    }

    /// The name must be new.
    pub(super) fn add(&mut self, name: &str, group: usize) -> u32 {
        let number = self.states.len() as u32;
        self.states.push(Symbol {
            name: name.into(),
            group: group as u32,
            ..Symbol::default()
        });
        let (hasher, states) = (&self.hasher, &self.states);
        let hash_of = |&number: &u32| hasher.hash_one(states[number as usize].name.as_bytes());
        self.table
            .insert_unique(hasher.hash_one(name.as_bytes()), number, hash_of);
        number
    }

    /// Numbers come from here and nothing is ever removed, so there always is one.
    pub(super) fn at(&self, number: u32) -> &Symbol {
        &self.states[number as usize]
    }

    pub(super) fn at_mut(&mut self, number: u32) -> &mut Symbol {
        &mut self.states[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }
}

impl Symbol {
    /// What was waiting has been told.
    pub(super) fn settle(&mut self) {
        self.is_changed = false;
        self.told.ts_ms = self.ts_ms;
        self.told.price = self.price;
        self.told.volume = self.told.volume.saturating_add(self.volume_waiting);
        self.volume_waiting = 0;
    }

    /// As of the last batch; `None` if nothing has been told and there is no quote.
    pub(super) fn snapshot(&self) -> Option<Snapshot<'_>> {
        let ts_ms = self.told.ts_ms.max(self.quote.ts_ms);
        (self.told.price > 0.0 || self.quote.ts_ms != 0).then_some(Snapshot {
            ts_ms,
            symbol: self.name.as_bytes(),
            bid: self.quote.bid,
            ask: self.quote.ask,
            bid_size: self.quote.bid_size,
            ask_size: self.quote.ask_size,
            last: self.told.price,
            volume: self.told.volume,
        })
    }
}
