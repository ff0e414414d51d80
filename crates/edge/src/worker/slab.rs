//! Where connections rest: pages of slots, so that growing never moves one.

/// A slot and which of its tenants: a key that outlives its connection is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

const PAGE: usize = 64;

/// Slots for `T`, found by index in constant time.
pub(crate) struct Slab<T> {
    pages: Vec<Box<[Slot<T>]>>,
    free: Option<u32>,
    len: usize,
}

struct Slot<T> {
    generation: u32,
    state: State<T>,
}

enum State<T> {
    Vacant { next: Option<u32> },
    Taken(T),
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            pages: Vec::new(),
            free: None,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The key the next [`Slab::insert`] will give.
    pub(crate) fn next_key(&mut self) -> Key {
        let slot = match self.free {
            Some(slot) => slot,
            None => self.grow(),
        };
        Key {
            slot,
            generation: self.slot(slot).map_or(0, |slot| slot.generation),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        let slot = &mut self.pages[key.slot as usize / PAGE][key.slot as usize % PAGE];
        if let State::Vacant { next } = slot.state {
            self.free = next;
        }
        slot.state = State::Taken(value);
        self.len += 1;
        key
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let entry = self.slot_mut(slot)?;
        if matches!(entry.state, State::Vacant { .. }) {
            return None;
        }
        entry.generation = entry.generation.wrapping_add(1);
        let state = std::mem::replace(&mut entry.state, State::Vacant { next: free });
        self.free = Some(slot);
        self.len -= 1;
        match state {
            State::Taken(value) => Some(value),
            State::Vacant { .. } => None,
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        match &self.slot(slot)?.state {
            State::Taken(value) => Some(value),
            State::Vacant { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match &mut self.slot_mut(slot)?.state {
            State::Taken(value) => Some(value),
            State::Vacant { .. } => None,
        }
    }

    /// Whether the key's connection is still the one in its slot.
    pub(crate) fn holds(&self, key: Key) -> bool {
        self.slot(key.slot).is_some_and(|slot| {
            slot.generation == key.generation && matches!(slot.state, State::Taken(_))
        })
    }

    /// The key of a taken slot.
    pub(crate) fn key(&self, slot: u32) -> Option<Key> {
        self.slot(slot).map(|entry| Key {
            slot,
            generation: entry.generation,
        })
    }

    /// How many slots there are, taken or not.
    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.pages.len() * PAGE).unwrap_or(u32::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.capacity()).filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.pages
            .get(slot as usize / PAGE)?
            .get(slot as usize % PAGE)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.pages
            .get_mut(slot as usize / PAGE)?
            .get_mut(slot as usize % PAGE)
    }

    /// Adds a page of vacant slots and returns its first.
    fn grow(&mut self) -> u32 {
        let first = self.capacity();
        let last = first + PAGE as u32 - 1;
        let page = (first..=last)
            .map(|slot| Slot {
                generation: 0,
                state: State::Vacant {
                    next: (slot < last).then_some(slot + 1),
                },
            })
            .collect();
        self.pages.push(page);
        self.free = Some(first);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_under_new_keys() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert!(slab.holds(first));
        assert_eq!(slab.remove(first.slot), Some("a"));
        assert_eq!(slab.remove(first.slot), None);
        let expected = slab.next_key();
        let second = slab.insert("b");
        assert_eq!(second, expected);
        assert_eq!(second.slot, first.slot);
        assert!(!slab.holds(first) && slab.holds(second));
    }

    #[test]
    fn many_connections_come_and_go() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..1_000).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.len(), 1_000);
        for key in keys.iter().step_by(2) {
            slab.remove(key.slot);
        }
        assert_eq!(slab.len(), 500);
        assert_eq!(slab.iter().count(), 500);
        let capacity = slab.capacity();
        for value in 0..500 {
            slab.insert(value);
        }
        assert_eq!(slab.capacity(), capacity);
    }
}
