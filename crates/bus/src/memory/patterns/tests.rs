use std::sync::Arc;

use protocol::subject::Pattern;

use super::super::budget::Budget;
use super::super::registry::{Attached, Registry};
use super::Patterns;
use crate::{BusError, Message, Sink, SinkId};

#[test]
fn tree_agrees_with_the_patterns_themselves() {
    let names = [
        "a", "b", "a.a", "a.b", "b.a", "a.b.c", "a..b", ".a", "a.", "a.*", "*.>",
    ];
    let patterns: Vec<Pattern> = [
        "a", "*", ">", "a.*", "*.a", "a.>", "*.*", "*.>", "a.b.c", "*.b.>", "*.*.*",
    ]
    .map(|pattern| Pattern::new(pattern).expect(pattern))
    .into();
    let tree = Tree::new(1_000);
    let sinks: Vec<_> = patterns.iter().map(|_| tree.sink()).collect();
    for (sink, pattern) in sinks.iter().zip(&patterns) {
        tree.insert(pattern, sink).expect("room");
        tree.insert(pattern, sink).expect("room");
    }
    for name in names {
        let expected: Vec<SinkId> = sinks
            .iter()
            .zip(&patterns)
            .filter(|(_, pattern)| pattern.covers_text(name))
            .map(|(sink, _)| sink.id)
            .collect();
        assert_eq!(tree.covering(name), expected, "{name}");
    }
    for (sink, pattern) in sinks.iter().zip(&patterns) {
        tree.patterns.remove(pattern, sink.id, &tree.registrations);
        tree.patterns.remove(pattern, sink.id, &tree.registrations);
    }
    tree.assert_empty();
}

#[test]
fn sink_is_removed_from_all_its_patterns() {
    let tree = Tree::new(1_000);
    let (gone, stays) = (tree.sink(), tree.sink());
    for pattern in ["a.b", "a.*", ">"] {
        let pattern = Pattern::new(pattern).expect(pattern);
        tree.insert(&pattern, &gone).expect("room");
        tree.insert(&pattern, &stays).expect("room");
    }
    tree.patterns.remove_sink(gone.id, &tree.registrations);
    assert_eq!(tree.covering("a.b"), [stays.id]);
    tree.patterns.remove_sink(stays.id, &tree.registrations);
    tree.assert_empty();
}

#[test]
fn registrations_have_a_limit() {
    let tree = Tree::new(2);
    let sink = tree.sink();
    let [a, b, c] = ["a.>", "b.>", "c.>"].map(|pattern| Pattern::new(pattern).expect(pattern));
    tree.insert(&a, &sink).expect("room");
    tree.insert(&b, &sink).expect("room");
    let refused = Err(BusError::LimitExceeded {
        limit: "patterns_max",
    });
    assert_eq!(tree.insert(&c, &sink), refused);
    assert!(tree.covering("c.d").is_empty());
    tree.patterns.remove(&a, sink.id, &tree.registrations);
    tree.insert(&c, &sink).expect("room again");
}

struct Tree {
    patterns: Patterns,
    registrations: Budget,
    registry: Registry,
}

impl Tree {
    fn new(max: usize) -> Self {
        Self {
            patterns: Patterns::default(),
            registrations: Budget::new("patterns_max", max),
            registry: Registry::default(),
        }
    }

    fn sink(&self) -> Arc<Attached> {
        let id = self.registry.attach(Arc::new(Nowhere));
        self.registry
            .with(id, |attached| Ok(Arc::clone(attached)))
            .expect("attached")
    }

    fn insert(&self, pattern: &Pattern, sink: &Arc<Attached>) -> Result<(), BusError> {
        self.patterns.insert(pattern, sink, &self.registrations)
    }

    fn covering(&self, name: &str) -> Vec<SinkId> {
        self.patterns
            .covering(name)
            .iter()
            .map(|sink| sink.id)
            .collect()
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.registrations.used(), 0);
        assert!(self.patterns.root.read().expect("no panic").is_empty());
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn has_room(&self) -> bool {
        true
    }

    fn deliver(&self, _: Arc<Message>) {}
}
