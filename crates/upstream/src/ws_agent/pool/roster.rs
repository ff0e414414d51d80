//! Which links there are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::super::Target;
use super::super::link::Link;

/// Names a link as long as it is there; the ids of released links do not come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    index: u32,
    generation: u32,
}

/// The links by id and by target.
#[derive(Default)]
pub(super) struct Roster {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_target: HashMap<ByTarget, u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    link: Option<Arc<Link>>,
}

/// A link that is equal to others by its target.
struct ByTarget(Arc<Link>);

impl Borrow<Target> for ByTarget {
    fn borrow(&self) -> &Target {
        &self.0.target
    }
}

impl Hash for ByTarget {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.target.hash(state);
    }
}

impl PartialEq for ByTarget {
    fn eq(&self, other: &Self) -> bool {
        self.0.target == other.0.target
    }
}

impl Eq for ByTarget {}

impl Roster {
    pub(super) fn get(&self, id: LinkId) -> Option<Arc<Link>> {
        let slot = self.slots.get(id.index as usize)?;
        let link = slot.link.as_ref()?;
        (slot.generation == id.generation).then(|| Arc::clone(link))
    }

    pub(super) fn find(&self, target: &Target) -> Option<Arc<Link>> {
        let &index = self.by_target.get(target)?;
        self.slots.get(index as usize)?.link.clone()
    }

    /// Adds a link for a target that has none.
    pub(super) fn add(&mut self, target: &Target) -> LinkId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let generation = slot.generation;
        let id = LinkId { index, generation };
        let link = Arc::new(Link::new(id, Arc::new(target.clone())));
        slot.link = Some(Arc::clone(&link));
        self.by_target.insert(ByTarget(link), index);
        id
    }

    pub(super) fn remove(&mut self, id: LinkId) {
        let Some(link) = self.get(id) else {
            return;
        };
        self.by_target.remove::<Target>(&link.target);
        let slot = &mut self.slots[id.index as usize];
        slot.link = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        let links = self.slots.iter().filter_map(|slot| slot.link.as_ref());
        links.map(Arc::clone).collect()
    }
}
