//! Which connections are whose, in a few bytes each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::connection::Connection;
use super::slab::Slab;

/// Slots by user. The names stay in the sessions; a lookup compares with them.
///
/// Anonymous connections are not listed: one user with most of the connections would
/// make of the table a list. Whoever wants those looks through all.
#[derive(Default)]
pub(crate) struct Users {
    slots: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Users {
    pub(crate) fn add(&mut self, connections: &Slab<Connection>, slot: u32, user: &str) {
        if user.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(user);
        let hasher = &self.hasher;
        self.slots.insert_unique(hash, slot, |&other| {
            hasher.hash_one(user_of(connections, other).unwrap_or_default())
        });
    }

    pub(crate) fn remove(&mut self, slot: u32, user: &str) {
        let hash = self.hasher.hash_one(user);
        if let Ok(entry) = self.slots.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    /// The slots of a user's connections.
    pub(crate) fn of(&self, connections: &Slab<Connection>, user: &str) -> Vec<u32> {
        if user.is_empty() {
            let anonymous = |(_, connection): &(u32, &Connection)| {
                connection.is_registered
                    && connection
                        .session
                        .identity()
                        .is_some_and(|identity| identity.user.is_empty())
            };
            return connections
                .iter()
                .filter(anonymous)
                .map(|(slot, _)| slot)
                .collect();
        }
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
