//! A bounded memory of what was used lately.

use std::hash::Hash;

use hashbrown::HashMap;

/// Forgets what has not been used while as many others as half its size were.
#[derive(Debug)]
pub(super) struct TwoGenerations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> TwoGenerations<K, V> {
    /// Remembers at most so many.
    pub(super) fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (max / 2).max(1),
        }
    }

    /// What is remembered, which this counts as a use, or what is made now.
    pub(super) fn get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.young.get(key) {
            return value.clone();
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        let value = self.old.remove(key).unwrap_or_else(make);
        self.young.insert(key.clone(), value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut memory = TwoGenerations::new(8);
        memory.get_or_insert_with(&0, || "first");
        for key in 1..100 {
            memory.get_or_insert_with(&key, || "other");
            assert_eq!(memory.get_or_insert_with(&0, || "again"), "first");
            assert!(memory.young.len() + memory.old.len() <= 8);
        }
        assert_eq!(memory.get_or_insert_with(&1, || "new"), "new");
    }
}
