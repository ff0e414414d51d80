//! Who is on a channel.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use protocol::message::ClientInfo;

use super::budget::Budget;
use crate::{BusError, PresenceStats};

/// The clients of one channel, and how many connections each of their users has (so
/// that counting users does not walk over all clients).
#[derive(Debug, Default)]
pub(super) struct Presence {
    clients: HashSet<Present>,
    users: HashMap<Box<str>, usize>,
}

impl Presence {
    /// Adds a client, or replaces what is known about it.
    pub(super) fn add(&mut self, info: Arc<ClientInfo>, clients: &Budget) -> Result<(), BusError> {
        if let Some(before) = self.clients.take(info.client.as_str()) {
            self.release_user(&before.0.user);
        } else {
            clients.take(1)?;
        }
        *self.users.entry_ref(info.user.as_str()).or_insert(0) += 1;
        self.clients.insert(Present(info));
        Ok(())
    }

    pub(super) fn remove(&mut self, client: &str, clients: &Budget) {
        if let Some(gone) = self.clients.take(client) {
            clients.give(1);
            self.release_user(&gone.0.user);
        }
    }

    pub(super) fn list(&self) -> Vec<Arc<ClientInfo>> {
        self.clients
            .iter()
            .map(|present| Arc::clone(&present.0))
            .collect()
    }

    pub(super) fn stats(&self) -> PresenceStats {
        PresenceStats {
            clients: self.clients.len(),
            users: self.users.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn release_user(&mut self, user: &str) {
        if let Some(connections) = self.users.get_mut(user) {
            *connections -= 1;
            if *connections == 0 {
                self.users.remove(user);
            }
        }
    }
}

/// A client, found by its id without storing the id twice.
#[derive(Debug)]
struct Present(Arc<ClientInfo>);

impl Borrow<str> for Present {
    fn borrow(&self) -> &str {
        &self.0.client
    }
}

impl Hash for Present {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does, because `Borrow` promises so.
        self.0.client.as_str().hash(state);
    }
}

impl PartialEq for Present {
    fn eq(&self, other: &Self) -> bool {
        self.0.client == other.0.client
    }
}

impl Eq for Present {}
