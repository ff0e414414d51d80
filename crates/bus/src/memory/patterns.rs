//! Wildcard subscriptions: a tree over the tokens of their patterns.
//!
//! A publication walks down the tree by the tokens of its channel, so what it costs
//! depends on how many patterns share its beginning, not on how many there are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;
use protocol::subject::Pattern;

use super::registry::Attached;
use super::{SinkId, budget::Budget};
use crate::BusError;

#[derive(Debug, Default)]
pub(super) struct Patterns {
    root: RwLock<Node>,
    /// Registrations in the tree, so that publishing takes no lock while there are none.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// Patterns that end here.
    here: Vec<Arc<Attached>>,
    /// Patterns that end here with `>`.
    rest: Vec<Arc<Attached>>,
}

impl Patterns {
    /// Registers a sink once per pattern, however often it is asked for.
    pub(super) fn insert(
        &self,
        pattern: &Pattern,
        sink: &Arc<Attached>,
        registrations: &Budget,
    ) -> Result<(), BusError> {
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        let path = pattern.as_str();
        if root
            .find(path)
            .is_some_and(|sinks| sinks.iter().any(|known| known.id == sink.id))
        {
            return Ok(());
        }
        registrations.take(1)?;
        root.sinks_mut(path).push(Arc::clone(sink));
        // Released after the tree has it: whoever sees the count sees the registration.
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(super) fn remove(&self, pattern: &Pattern, sink: SinkId, registrations: &Budget) {
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        self.gone(root.remove(Some(pattern.as_str()), sink), registrations);
    }

    pub(super) fn remove_sink(&self, sink: SinkId, registrations: &Budget) {
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        self.gone(root.remove_sink(sink), registrations);
    }

    /// The sinks whose patterns cover `subject`, each once.
    pub(super) fn covering(&self, subject: &str) -> Vec<Arc<Attached>> {
        let mut found = Vec::new();
        if self.count.load(Ordering::Acquire) == 0 {
            return found;
        }
        self.root
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .collect(Some(subject), &mut found);
        found.sort_unstable_by_key(|sink| sink.id);
        found.dedup_by_key(|sink| sink.id);
        found
    }

    fn gone(&self, removed: usize, registrations: &Budget) {
        self.count.fetch_sub(removed, Ordering::Release);
        registrations.give(removed);
    }
}

impl Node {
    fn find(&self, path: &str) -> Option<&[Arc<Attached>]> {
        let mut node = self;
        for token in path.split('.') {
            node = match token {
                ">" => return Some(&node.rest),
                "*" => node.any.as_deref()?,
                literal => node.literal.get(literal)?,
            };
        }
        Some(&node.here)
    }

    fn sinks_mut(&mut self, path: &str) -> &mut Vec<Arc<Attached>> {
        let mut node = self;
        for token in path.split('.') {
            node = match token {
                ">" => return &mut node.rest,
                "*" => node.any.get_or_insert_default(),
                literal => node.literal.entry_ref(literal).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes the sink at `path` and the nodes that stand empty then; returns how many
    /// registrations went.
    fn remove(&mut self, path: Option<&str>, sink: SinkId) -> usize {
        let Some(path) = path else {
            return remove_from(&mut self.here, sink);
        };
        let (token, below) = first_token(path);
        match token {
            ">" => remove_from(&mut self.rest, sink),
            "*" => {
                let removed = self
                    .any
                    .as_deref_mut()
                    .map_or(0, |node| node.remove(below, sink));
                self.any = self.any.take().filter(|node| !node.is_empty());
                removed
            }
            literal => {
                let Some(node) = self.literal.get_mut(literal) else {
                    return 0;
                };
                let removed = node.remove(below, sink);
                if node.is_empty() {
                    self.literal.remove(literal);
                }
                removed
            }
        }
    }

    fn remove_sink(&mut self, sink: SinkId) -> usize {
        let literal: usize = self
            .literal
            .values_mut()
            .map(|node| node.remove_sink(sink))
            .sum();
        let any = self
            .any
            .as_deref_mut()
            .map_or(0, |node| node.remove_sink(sink));
        self.literal.retain(|_, node| !node.is_empty());
        self.any = self.any.take().filter(|node| !node.is_empty());
        literal + any + remove_from(&mut self.here, sink) + remove_from(&mut self.rest, sink)
    }

    fn collect(&self, subject: Option<&str>, found: &mut Vec<Arc<Attached>>) {
        let Some(subject) = subject else {
            found.extend(self.here.iter().map(Arc::clone));
            return;
        };
        found.extend(self.rest.iter().map(Arc::clone));
        let (token, below) = first_token(subject);
        if let Some(node) = self.literal.get(token) {
            node.collect(below, found);
        }
        if let Some(node) = &self.any {
            node.collect(below, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

fn first_token(path: &str) -> (&str, Option<&str>) {
    match path.split_once('.') {
        Some((token, below)) => (token, Some(below)),
        None => (path, None),
    }
}

fn remove_from(sinks: &mut Vec<Arc<Attached>>, sink: SinkId) -> usize {
    let before = sinks.len();
    sinks.retain(|known| known.id != sink);
    before - sinks.len()
}

#[cfg(test)]
mod tests;
