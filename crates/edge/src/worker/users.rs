//! Which connections are whose, in a few bytes each.

use hashbrown::{DefaultHashBuilder, HashTable};

use super::connection::Connection;
use super::slab::Slab;

/// Slots by user. The names stay in the sessions; a lookup compares with them.
#[derive(Default)]
pub(crate) struct Users {
    slots: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Users {
    pub(crate) fn add(&mut self, connections: &Slab<Connection>, slot: u32, user: &str) {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(user);
        let hasher = &self.hasher;
        self.slots.insert_unique(hash, slot, |&other| {
            hasher.hash_one(user_of(connections, other).unwrap_or_default())
        });
    }

    pub(crate) fn remove(&mut self, slot: u32, user: &str) {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(user);
        if let Ok(entry) = self.slots.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    /// The slots of a user's connections.
    pub(crate) fn of(&self, connections: &Slab<Connection>, user: &str) -> Vec<u32> {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(user);
        self.slots
            .iter_hash(hash)
            .copied()
            .filter(|&slot| user_of(connections, slot) == Some(user))
            .collect()
    }
}

fn user_of(connections: &Slab<Connection>, slot: u32) -> Option<&str> {
    Some(&connections.get(slot)?.session.identity()?.user)
}
