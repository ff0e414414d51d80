//! The receiver's side.

use std::collections::VecDeque;

use bytes::Bytes;

use super::LARGEST_SOURCE;
use super::code::{LARGEST_SYMBOL, LENGTH, Scheme};
use equations::{Equation, Equations, Inserted};
use store::Store;

use crate::frame::Repair;
use crate::packet::Numbering;

mod equations;
mod store;

/// Why a repair was refused. The peer is wrong or lies; the connection lives on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FecError {
    /// The scheme is none of ours, or does not allow this row or so many packets.
    #[error("repair of scheme {scheme} with row {row} over {covered} packets is not defined")]
    Undefined {
        /// The scheme.
        scheme: u8,
        /// The row.
        row: u8,
        /// How many packets it covers.
        covered: u32,
    },
    /// A symbol that cannot hold any source part, or a larger one than repairs may cover.
    #[error("repair symbol of {0} bytes is outside of the limits")]
    Length(usize),
    /// It contradicts the source parts or the other repairs.
    #[error("repair contradicts what else was received")]
    Contradiction,
}

/// Figures since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecoderStats {
    /// Repairs received.
    pub repairs: u64,
    /// Source parts rebuilt.
    pub recovered: u64,
    /// Repairs given up while something that they cover was still missing.
    pub unrecoverable: u64,
    /// Repairs refused, see [`FecError`].
    pub refused: u64,
}

/// Keeps what arrived, and solves for what did not.
///
/// Each repair is an equation over the source parts that it covers. Those that are here are
/// subtracted, the rest are unknowns; the equations are kept in reduced echelon form, so
/// that each new one, and each source part that comes late, yields at once whatever it makes
/// solvable.
///
/// Bounds: 64 source parts and 64 equations, 64 KiB of each; numbers more than 128 below or above
/// the newest are out of reach. The oldest goes first. Source parts are copied: they are slices
/// of receive buffers that would stay in memory as a whole. Nothing is kept from 4,096
/// source parts without a repair on until the next repair.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The highest number that arrived or was rebuilt.
    newest: u64,
    store: Store,
    equations: Equations,
    recovered: VecDeque<(u64, Bytes)>,
    /// Source parts since the last repair.
    idle: u32,
    stats: DecoderStats,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A source part arrived, by whatever way. What [`Decoder::poll_recovered`] gave may be handed
    /// in again.
    pub fn on_source(&mut self, seq: u64, part: &Bytes) {
        self.advance(seq);
        self.idle = self.idle.saturating_add(1);
        if self.idle > IDLE_SOURCES {
            self.store.clear();
            self.stats.unrecoverable += self.equations.clear();
            return;
        }
        if !(1..=LARGEST_SOURCE).contains(&part.len()) || !self.store.add(seq, part) {
            return;
        }
        let Some(symbol) = self.store.get(seq) else {
            return;
        };
        self.stats.refused += self.equations.learn(seq, symbol);
        self.collect();
    }

    /// A repair arrived; `numbering` is the peer's.
    ///
    /// # Errors
    /// The repair is wrong; it was dropped and counted.
    pub fn on_repair(&mut self, repair: &Repair, numbering: &Numbering) -> Result<(), FecError> {
        self.stats.repairs += 1;
        self.idle = 0;
        let taken = self.take(repair, numbering);
        if taken.is_err() {
            self.stats.refused += 1;
        }
        self.collect();
        taken
    }

    /// A source part that was rebuilt; to be asked until it gives none.
    pub fn poll_recovered(&mut self) -> Option<(u64, Bytes)> {
        self.recovered.pop_front()
    }

    /// Bytes kept, at most 128 KiB besides what waits for [`Decoder::poll_recovered`].
    pub fn memory(&self) -> usize {
        let waiting: usize = self.recovered.iter().map(|(_, part)| part.len()).sum();
        self.store.bytes() + self.equations.bytes() + waiting
    }

    /// Figures.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    fn take(&mut self, repair: &Repair, numbering: &Numbering) -> Result<(), FecError> {
        let covered = repair.mask.count_ones();
        let length = repair.symbol.len();
        let scheme = Scheme::of(repair.scheme, repair.row, covered)
            .filter(|_| repair.first != 0)
            .ok_or(FecError::Undefined {
                scheme: repair.scheme,
                row: repair.row,
                covered,
            })?;
        if !(LENGTH + 1..=LARGEST_SYMBOL).contains(&length) {
            return Err(FecError::Length(length));
        }
        let Some(first) = numbering.expand(repair.first, self.newest.max(1)) else {
            return Ok(());
        };
        let places = (0..32).filter(|bit| repair.mask >> bit & 1 == 1);
        let sources = (0..).zip(places.map(|bit| first.saturating_add(bit)));
        let missing = |seq: u64| self.store.get(seq).is_none();
        if !sources.clone().any(|(_, seq)| missing(seq)) {
            return Ok(());
        }
        if sources
            .clone()
            .any(|(_, seq)| missing(seq) && !self.reaches(seq))
        {
            self.stats.unrecoverable += 1;
            return Ok(());
        }
        let mut equation = Equation::new(&repair.symbol);
        for (place, seq) in sources {
            let coefficient = scheme.coefficient(repair.row, place, numbering.to_wire(seq));
            match self.store.get(seq) {
                Some(symbol) if symbol.len() > length => return Err(FecError::Contradiction),
                Some(symbol) => equation.subtract(symbol, coefficient),
                None => equation.set(seq, coefficient),
            }
        }
        match self.equations.insert(equation) {
            Inserted::Contradiction => Err(FecError::Contradiction),
            Inserted::Kept { dropped } => {
                self.stats.unrecoverable += dropped;
                Ok(())
            }
        }
    }

    /// Takes out what is solved.
    fn collect(&mut self) {
        while let Some((column, symbol)) = self.equations.pop_solved() {
            let Some(part) = content(&symbol) else {
                self.stats.refused += 1;
                continue;
            };
            let seq = self.number_of(column);
            self.stats.recovered += 1;
            let part = Bytes::copy_from_slice(part);
            self.store.add(seq, &part);
            if self.recovered.len() == WAITING_MAX {
                self.recovered.pop_front();
            }
            self.recovered.push_back((seq, part));
            self.advance(seq);
        }
    }

    /// Moves the reach of the equations; those that mention what falls out of it are given up.
    fn advance(&mut self, seq: u64) {
        if seq <= self.newest {
            return;
        }
        let gone = self.newest.saturating_sub(REACH - 1)..seq.saturating_sub(REACH - 1);
        self.newest = seq;
        self.stats.unrecoverable += self.equations.forget(gone);
    }

    fn reaches(&self, seq: u64) -> bool {
        seq > 0 && seq + REACH > self.newest && seq <= self.newest.saturating_add(REACH)
    }

    /// The number within reach that has this column.
    fn number_of(&self, column: u8) -> u64 {
        // The reach is 256 numbers wide, from `newest - 127` to `newest + 128`, so exactly one
        // of them fits.
        let end = self.newest.saturating_add(REACH);
        end - u64::from((end as u8).wrapping_sub(column))
    }
}

/// The source part in a symbol: its length must be possible, and nothing but zeros may follow it.
fn content(symbol: &[u8]) -> Option<&[u8]> {
    let (length, rest) = symbol.split_first_chunk::<LENGTH>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (part, padding) = rest.split_at_checked(length)?;
    let sound = (1..=LARGEST_SOURCE).contains(&length) && padding.iter().all(|byte| *byte == 0);
    sound.then_some(part)
}

/// How far below and above the newest number repairs may reach: four windows of 32.
const REACH: u64 = 128;
/// After so many source parts without a repair the sender makes none.
const IDLE_SOURCES: u32 = 4_096;
/// Recovered source parts that wait for the caller; more than the equations can give at once.
const WAITING_MAX: usize = 128;
