//! The source parts that arrived lately, as symbols.

use super::super::code::LENGTH;

/// At most [`SLOTS`] symbols, each at the place that its number has modulo that.
#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Slot>,
    bytes: usize,
}

/// Empty while the number is 0.
#[derive(Debug, Default)]
struct Slot {
    seq: u64,
    symbol: Vec<u8>,
}

impl Store {
    /// Keeps a copy; tells whether it is news and not too old to be kept.
    pub(super) fn add(&mut self, seq: u64, part: &[u8]) -> bool {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        let slot = &mut self.slots[place(seq)];
        if slot.seq >= seq {
            return false;
        }
        slot.seq = seq;
        self.bytes -= slot.symbol.capacity();
        slot.symbol.clear();
        slot.symbol.reserve_exact(LENGTH + part.len());
        slot.symbol
            .extend_from_slice(&(part.len() as u16).to_be_bytes());
        slot.symbol.extend_from_slice(part);
        self.bytes += slot.symbol.capacity();
        while self.bytes > BYTES {
            self.drop_oldest();
        }
        true
    }

    pub(super) fn get(&self, seq: u64) -> Option<&[u8]> {
        let slot = self.slots.get(place(seq))?;
        (slot.seq == seq && seq > 0).then_some(slot.symbol.as_slice())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        let filled = self.slots.iter_mut().filter(|slot| slot.seq > 0);
        if let Some(slot) = filled.min_by_key(|slot| slot.seq) {
            self.bytes -= slot.symbol.capacity();
            *slot = Slot::default();
        }
    }
}

fn place(seq: u64) -> usize {
    seq as usize % SLOTS
}

const SLOTS: usize = 64;
const BYTES: usize = 64 << 10;
