//! What waits for one agent, and in which order it goes.
//!
//! Messages of one client and priority form a *line*: they go one at a time, the next
//! after the one before is settled, so that no retry overtakes. Lines take turns. More
//! urgent lines go first, but out of sixteen turns at least one belongs to bulk and three
//! to interactive messages, so that nobody starves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use outbox::{Priority, RecordId};
use protocol::stratix;
use upstream::ws_agent::Delivery;

/// A message that waits or is being sent.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: RecordId,
    pub(super) client: Arc<str>,
    pub(super) message_id: Arc<str>,
    pub(super) priority: Priority,
    pub(super) key: u128,
    pub(super) at_ms: u64,
    pub(super) size: usize,
    /// Tries made, also before a restart.
    pub(super) attempts: u32,
    /// A try was made by a process before this one.
    pub(super) was_tried_before_restart: bool,
    /// When the first try was made, in Unix ms, if one was.
    pub(super) first_attempt_ms: Option<u64>,
    /// The message, unless memory was short: then it is read from the outbox.
    pub(super) held: Option<Arc<Delivery>>,
}

/// Whose line, and which of theirs.
pub(super) type LineName = (Arc<str>, Priority);

/// All that waits for one agent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: HashMap<LineName, Line>,
    /// Clients with a message that may go, by priority.
    ready: [VecDeque<Arc<str>>; 3],
    turn: u8,
    len: usize,
}

#[derive(Debug, Default)]
struct Line {
    items: VecDeque<Item>,
    /// Messages of it that are on their way, from this lane or from one that it was in
    /// before; what waits does not start before they are settled.
    busy: u32,
}

impl Queue {
    /// Puts a message into its line: at the end, unless it comes from another lane and
    /// younger ones are here already.
    pub(super) fn push(&mut self, item: Item) {
        let name = (Arc::clone(&item.client), item.priority);
        let (client, priority) = name.clone();
        let line = self.lines.entry(name).or_default();
        let was_ready = line.busy > 0 || !line.items.is_empty();
        match line.items.back() {
            Some(last) if last.id > item.id => {
                let place = line.items.partition_point(|other| other.id < item.id);
                line.items.insert(place, item);
            }
            _ => line.items.push_back(item),
        }
        self.len += 1;
        if !was_ready {
            self.ready[index(priority)].push_back(client);
        }
    }

    /// The next message to be sent; its line waits until [`Queue::done`] or
    /// [`Queue::put_back`].
    pub(super) fn take(&mut self) -> Option<Item> {
        self.turn = (self.turn + 1) % 16;
        let order = match self.turn {
            15 => [2, 0, 1],
            3 | 7 | 11 => [1, 0, 2],
            _ => [0, 1, 2],
        };
        let (place, client) = order
            .into_iter()
            .find_map(|place| Some((place, self.ready[place].pop_front()?)))?;
        let line = self.lines.get_mut(&(client, PRIORITIES[place]))?;
        let item = line.items.pop_front()?;
        line.busy += 1;
        Some(item)
    }

    /// A message taken is settled: its line goes on.
    pub(super) fn done(&mut self, client: &Arc<str>, priority: Priority) {
        self.len = self.len.saturating_sub(1);
        self.free(client, priority, VecDeque::push_back);
    }

    /// A message taken could not be sent: it is the first of its line again, and its line
    /// the first of all.
    pub(super) fn put_back(&mut self, item: Item) {
        let name = (Arc::clone(&item.client), item.priority);
        if let Some(line) = self.lines.get_mut(&name) {
            line.items.push_front(item);
        }
        self.free(&name.0, name.1, VecDeque::push_front);
    }

    /// Takes out the first message of a line that does not travel, if it is the one meant.
    pub(super) fn remove_first(
        &mut self,
        client: &Arc<str>,
        priority: Priority,
        id: RecordId,
    ) -> Option<Item> {
        let name = (Arc::clone(client), priority);
        let line = self.lines.get_mut(&name)?;
        if line.items.front()?.id != id {
            return None;
        }
        let item = line.items.pop_front();
        self.len = self.len.saturating_sub(1);
        if line.items.is_empty() && line.busy == 0 {
            self.lines.remove(&name);
            self.ready[index(priority)].retain(|ready| ready != client);
        }
        item
    }

    /// Takes everything that does not travel, line by line, and says which lines have a
    /// message on its way.
    pub(super) fn take_lines(&mut self) -> Vec<(LineName, VecDeque<Item>, bool)> {
        self.ready.iter_mut().for_each(VecDeque::clear);
        let mut taken = Vec::with_capacity(self.lines.len());
        for (name, line) in std::mem::take(&mut self.lines) {
            self.len = self.len.saturating_sub(line.items.len());
            taken.push((name, line.items, line.busy > 0));
        }
        taken
    }

    /// Makes a line wait for a message that is on its way from another lane.
    pub(super) fn reserve(&mut self, name: &LineName) {
        let line = self.lines.entry(name.clone()).or_default();
        line.busy += 1;
        self.ready[index(name.1)].retain(|ready| *ready != name.0);
    }

    /// What a line waited for is settled, or comes back as its first.
    pub(super) fn unreserve(&mut self, name: &LineName, back: Option<Item>) {
        if let Some(item) = back {
            self.len += 1;
            let line = self.lines.entry(name.clone()).or_default();
            line.items.push_front(item);
        }
        self.free(&name.0, name.1, VecDeque::push_front);
    }

    /// Whether nothing waits, travels, or is on its way from another lane.
    pub(super) fn is_unused(&self) -> bool {
        self.len == 0 && self.lines.is_empty()
    }

    /// Messages that wait or travel.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn free(
        &mut self,
        client: &Arc<str>,
        priority: Priority,
        list: impl FnOnce(&mut VecDeque<Arc<str>>, Arc<str>),
    ) {
        let name = (Arc::clone(client), priority);
        let Some(line) = self.lines.get_mut(&name) else {
            return;
        };
        line.busy = line.busy.saturating_sub(1);
        if line.busy > 0 {
            return;
        }
        if line.items.is_empty() {
            self.lines.remove(&name);
        } else {
            list(&mut self.ready[index(priority)], name.0);
        }
    }
}

/// How a client's word for urgency is stored.
pub(super) fn stored_priority(priority: stratix::Priority) -> Priority {
    match priority {
        stratix::Priority::Control => Priority::Control,
        stratix::Priority::Interactive => Priority::Interactive,
        stratix::Priority::Bulk => Priority::Bulk,
    }
}

const PRIORITIES: [Priority; 3] = [Priority::Control, Priority::Interactive, Priority::Bulk];

fn index(priority: Priority) -> usize {
    match priority {
        Priority::Control => 0,
        Priority::Interactive => 1,
        Priority::Bulk => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(client: &str, priority: Priority, seq: u64) -> Item {
        Item {
            id: RecordId { seq, place: 0 },
            client: client.into(),
            message_id: seq.to_string().into(),
            priority,
            key: u128::from(seq),
            at_ms: 0,
            size: 1,
            attempts: 0,
            was_tried_before_restart: false,
            first_attempt_ms: None,
            held: None,
        }
    }

    fn take_and_settle(queue: &mut Queue) -> Option<u64> {
        let item = queue.take()?;
        queue.done(&item.client, item.priority);
        Some(item.id.seq)
    }

    #[test]
    fn a_line_goes_one_at_a_time_and_in_order() {
        let mut queue = Queue::default();
        for seq in 1..=3 {
            queue.push(item("a", Priority::Interactive, seq));
        }
        let first = queue.take().unwrap();
        assert!(queue.take().is_none(), "the line is busy");
        queue.put_back(first);
        let seqs: Vec<u64> = std::iter::from_fn(|| take_and_settle(&mut queue)).collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!((queue.len(), queue.lines.len()), (0, 0));
    }

    #[test]
    fn clients_take_turns() {
        let mut queue = Queue::default();
        for seq in 0..6 {
            queue.push(item(if seq < 3 { "a" } else { "b" }, Priority::Bulk, seq));
        }
        let seqs: Vec<u64> = std::iter::from_fn(|| take_and_settle(&mut queue)).collect();
        assert_eq!(seqs, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn urgent_messages_go_first_and_nobody_starves() {
        let mut queue = Queue::default();
        for seq in 0..300 {
            let priority = PRIORITIES[(seq % 3) as usize];
            queue.push(item(&format!("c{seq}"), priority, seq));
        }
        let mut taken = [0; 3];
        for _ in 0..100 {
            let seq = take_and_settle(&mut queue).unwrap();
            taken[(seq % 3) as usize] += 1;
        }
        assert!(taken[0] > 60, "{taken:?}");
        assert!(taken[1] >= 15, "{taken:?}");
        assert!(taken[2] >= 5, "{taken:?}");
    }

    #[test]
    fn what_travels_is_not_taken_out() {
        let mut queue = Queue::default();
        queue.push(item("a", Priority::Bulk, 1));
        queue.push(item("a", Priority::Bulk, 2));
        let client: Arc<str> = "a".into();
        let id = |seq| RecordId { seq, place: 0 };
        queue.push(item("a", Priority::Bulk, 3));
        let first = queue.take().unwrap();
        assert!(queue.remove_first(&client, Priority::Bulk, id(1)).is_none());
        assert!(queue.remove_first(&client, Priority::Bulk, id(3)).is_none());
        assert!(queue.remove_first(&client, Priority::Bulk, id(2)).is_some());
        assert!(queue.remove_first(&client, Priority::Bulk, id(3)).is_some());
        assert!(queue.take().is_none(), "the line is busy");
        queue.put_back(first);
        assert!(queue.remove_first(&client, Priority::Bulk, id(1)).is_some());
        assert!(queue.take().is_none());
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_line_that_moves_waits_for_what_travels() {
        let (mut old, mut new) = (Queue::default(), Queue::default());
        for seq in 1..=3 {
            old.push(item("a", Priority::Bulk, seq));
        }
        let first = old.take().unwrap();
        for (name, items, is_busy) in old.take_lines() {
            assert!(is_busy);
            new.reserve(&name);
            items.into_iter().for_each(|item| new.push(item));
        }
        // One that was taken for the new lane before the others came over.
        new.push(item("a", Priority::Bulk, 4));
        assert!(new.take().is_none());
        old.done(&first.client, first.priority);
        assert!(old.is_unused());
        let name = (Arc::clone(&first.client), first.priority);
        new.unreserve(&name, Some(first));
        let seqs: Vec<u64> = std::iter::from_fn(|| take_and_settle(&mut new)).collect();
        assert_eq!(seqs, [1, 2, 3, 4]);
        assert!(new.is_unused());
    }

    #[test]
    fn a_line_that_waits_for_nothing_is_gone() {
        let mut queue = Queue::default();
        let name: LineName = ("a".into(), Priority::Bulk);
        queue.reserve(&name);
        assert!(!queue.is_unused());
        queue.unreserve(&name, None);
        assert!(queue.is_unused());
        queue.push(item("a", Priority::Bulk, 2));
        queue.push(item("a", Priority::Bulk, 1));
        let seqs: Vec<u64> = std::iter::from_fn(|| take_and_settle(&mut queue)).collect();
        assert_eq!(seqs, [1, 2], "an older one from another lane goes first");
    }
}
