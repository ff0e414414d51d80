//! What clients and their agents have said lately, for clients that come back
//! (`contracts`: relay 1.5).
//!
//! In memory, bounded per client by number and age and in all by bytes; what is oldest
//! goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// Bounds of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most messages kept per client; 0 keeps none.
    pub per_client: usize,
    /// Most bytes of a payload that is kept; of larger messages only the rest is.
    pub message_size_max: usize,
    /// How long a message is kept, in milliseconds.
    pub ttl_ms: u64,
    /// Most bytes kept in all.
    pub bytes_max: usize,
}

/// One message of a client's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub message_id: Arc<str>,
    /// The message JSON.
    pub json: Bytes,
    at_ms: u64,
    seq: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryFigures {
    /// Clients with a history.
    pub clients: usize,
    /// Messages kept.
    pub messages: usize,
    /// Bytes kept.
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct History {
    clients: HashMap<Arc<str>, VecDeque<Remembered>>,
    /// All messages from the oldest on; some are gone already.
    order: VecDeque<(u64, Arc<str>)>,
    messages: usize,
    bytes: usize,
    next_seq: u64,
}

impl History {
    pub(super) fn add(
        &mut self,
        now_ms: u64,
        limits: &HistoryLimits,
        client: &Arc<str>,
        message_id: Arc<str>,
        json: Bytes,
    ) {
        if limits.per_client == 0 {
            return;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.messages += 1;
        self.bytes += cost(client, &message_id, &json);
        let own = self.clients.entry(Arc::clone(client)).or_default();
        own.push_back(Remembered {
            message_id,
            json,
            at_ms: now_ms,
            seq,
        });
        let surplus = own.len() > limits.per_client;
        self.order.push_back((seq, Arc::clone(client)));
        if surplus {
            self.drop_first(&Arc::clone(client));
        }
        self.trim(now_ms, limits);
        if self.order.len() > 2 * self.messages + 1_024 {
            let clients = &self.clients;
            self.order.retain(|(seq, client)| {
                let first = clients.get(client).and_then(|own| own.front());
                first.is_some_and(|first| first.seq <= *seq)
            });
        }
    }

    /// Drops a message that was not taken after all.
    pub(super) fn forget(&mut self, client: &str, message_id: &str) {
        let Some(own) = self.clients.get_mut(client) else {
            return;
        };
        let place = own.iter().rposition(|one| &*one.message_id == message_id);
        if let Some(gone) = place.and_then(|place| own.remove(place)) {
            self.messages -= 1;
            self.bytes -= cost(client, &gone.message_id, &gone.json);
        }
        if own.is_empty() {
            self.clients.remove(client);
        }
    }

    /// Drops what is too old or too much.
    pub(super) fn trim(&mut self, now_ms: u64, limits: &HistoryLimits) {
        while let Some((seq, client)) = self.order.front() {
            let first = self.clients.get(client).and_then(VecDeque::front);
            match first {
                Some(first) if first.seq == *seq => {
                    let is_old = first.at_ms + limits.ttl_ms <= now_ms;
                    if !is_old && self.bytes <= limits.bytes_max {
                        return;
                    }
                    let client = Arc::clone(client);
                    self.drop_first(&client);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }

    /// The messages after `after`, or the newest if that is unknown; oldest first, at most
    /// `limit`, which counts from the newest.
    pub(super) fn read(
        &self,
        now_ms: u64,
        limits: &HistoryLimits,
        client: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Remembered> {
        let Some(own) = self.clients.get(client) else {
            return Vec::new();
        };
        let known = after.and_then(|after| own.iter().rposition(|one| &*one.message_id == after));
        let from = known.map_or(0, |place| place + 1);
        let from = from.max(own.len().saturating_sub(limit.min(limits.per_client)));
        own.range(from..)
            .filter(|one| one.at_ms + limits.ttl_ms > now_ms)
            .cloned()
            .collect()
    }

    pub(super) fn figures(&self) -> HistoryFigures {
        HistoryFigures {
            clients: self.clients.len(),
            messages: self.messages,
            bytes: self.bytes,
        }
    }

    fn drop_first(&mut self, client: &Arc<str>) {
        let Some(own) = self.clients.get_mut(client) else {
            return;
        };
        if let Some(gone) = own.pop_front() {
            self.messages -= 1;
            self.bytes -= cost(client, &gone.message_id, &gone.json);
        }
        if own.is_empty() {
            self.clients.remove(client);
        }
    }
}

fn cost(client: &str, message_id: &str, json: &Bytes) -> usize {
    client.len() + message_id.len() + json.len() + 2 * size_of::<Remembered>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HistoryLimits = HistoryLimits {
        per_client: 3,
        message_size_max: 100,
        ttl_ms: 1_000,
        bytes_max: 1_000_000,
    };

    fn add(history: &mut History, now_ms: u64, limits: &HistoryLimits, client: &str, id: &str) {
        history.add(
            now_ms,
            limits,
            &client.into(),
            id.into(),
            id.to_owned().into(),
        );
    }

    fn ids(history: &History, now_ms: u64, after: Option<&str>, limit: usize) -> Vec<String> {
        let found = history.read(now_ms, &LIMITS, "a", after, limit);
        found.iter().map(|one| one.message_id.to_string()).collect()
    }

    #[test]
    fn a_client_gets_the_newest_or_what_came_after_its_last() {
        let mut history = History::default();
        for id in ["1", "2", "3", "4"] {
            add(&mut history, 0, &LIMITS, "a", id);
        }
        assert_eq!(ids(&history, 0, None, 100), ["2", "3", "4"]);
        assert_eq!(ids(&history, 0, None, 2), ["3", "4"]);
        assert_eq!(ids(&history, 0, Some("3"), 100), ["4"]);
        assert_eq!(ids(&history, 0, Some("4"), 100), [""; 0]);
        assert_eq!(ids(&history, 0, Some("1"), 100), ["2", "3", "4"], "unknown");
        assert!(history.read(0, &LIMITS, "b", None, 9).is_empty());
    }

    #[test]
    fn what_was_not_taken_is_not_remembered() {
        let mut history = History::default();
        for id in ["1", "2", "3"] {
            add(&mut history, 0, &LIMITS, "a", id);
        }
        history.forget("a", "2");
        history.forget("b", "2");
        assert_eq!(ids(&history, 0, None, 9), ["1", "3"]);
        history.trim(2_000, &LIMITS);
        assert_eq!(history.figures(), HistoryFigures::default());
    }

    #[test]
    fn what_is_old_goes_for_good() {
        let mut history = History::default();
        add(&mut history, 0, &LIMITS, "a", "1");
        add(&mut history, 500, &LIMITS, "a", "2");
        assert_eq!(ids(&history, 1_200, None, 9), ["2"]);
        history.trim(2_000, &LIMITS);
        assert_eq!(history.figures(), HistoryFigures::default());
    }

    #[test]
    fn memory_is_bounded_over_all_clients() {
        let mut history = History::default();
        let limits = HistoryLimits {
            bytes_max: 20_000,
            ..LIMITS
        };
        for round in 0..10_000_u64 {
            add(
                &mut history,
                round,
                &limits,
                &format!("c{}", round % 500),
                "m",
            );
            add(&mut history, round, &limits, "busy", "m");
            assert!(history.bytes <= limits.bytes_max);
            assert!(history.order.len() <= 2 * history.messages + 1_025);
        }
        let sum: usize = history.clients.values().map(VecDeque::len).sum();
        assert_eq!(sum, history.messages);
    }
}
