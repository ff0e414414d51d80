//! Linear equations over symbols, kept in reduced echelon form.
//!
//! Each equation has a pivot: a column where it has 1 and all others have 0. So a new equation is
//! reduced by one pass over the others, an unknown that becomes known touches each of them once,
//! and an equation with nothing but its pivot is solved.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::field::{inverse, multiply_accumulate, scale};

/// One equation: the coefficients of 256 unknowns, by their numbers modulo 256, and the symbol
/// that they add up to. One run of bytes, so that one pass adds two of them.
#[derive(Debug)]
pub(super) struct Equation {
    bytes: Vec<u8>,
    pivot: u8,
}

/// What became of an equation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is consistent with the others; for want of room `dropped` older ones had to go.
    Kept { dropped: u64 },
    /// Without unknowns, its symbol is not zero.
    Contradiction,
}

/// At most [`EQUATIONS`] of them and [`BYTES`] bytes.
#[derive(Debug, Default)]
pub(super) struct Equations {
    /// Oldest first.
    all: VecDeque<Equation>,
    bytes: usize,
}

impl Equation {
    pub(super) fn new(symbol: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(COLUMNS + symbol.len());
        bytes.resize(COLUMNS, 0);
        bytes.extend_from_slice(symbol);
        Self { bytes, pivot: 0 }
    }

    /// Gives the unknown `seq` a coefficient.
    pub(super) fn set(&mut self, seq: u64, coefficient: u8) {
        self.bytes[seq as usize % COLUMNS] = coefficient;
    }

    /// Subtracts a symbol that is known.
    pub(super) fn subtract(&mut self, symbol: &[u8], coefficient: u8) {
        multiply_accumulate(&mut self.bytes[COLUMNS..], symbol, coefficient);
    }

    /// Adds a multiple of another one; symbols are zero beyond their ends.
    fn add(&mut self, other: &Self, coefficient: u8) {
        if self.bytes.len() < other.bytes.len() {
            let more = other.bytes.len() - self.bytes.len();
            self.bytes.reserve_exact(more);
            self.bytes.resize(other.bytes.len(), 0);
        }
        multiply_accumulate(&mut self.bytes, &other.bytes, coefficient);
    }

    fn at(&self, column: u8) -> u8 {
        self.bytes[usize::from(column)]
    }

    fn unknowns(&self) -> impl Iterator<Item = u8> {
        let coefficients = (0..=u8::MAX).zip(&self.bytes[..COLUMNS]);
        coefficients
            .filter(|(_, coefficient)| **coefficient != 0)
            .map(|(column, _)| column)
    }

    fn symbol(&self) -> &[u8] {
        &self.bytes[COLUMNS..]
    }
}

impl Equations {
    pub(super) fn insert(&mut self, mut equation: Equation) -> Inserted {
        for other in &self.all {
            let coefficient = equation.at(other.pivot);
            equation.add(other, coefficient);
        }
        let Some(pivot) = equation.unknowns().next() else {
            let is_zero = equation.symbol().iter().all(|byte| *byte == 0);
            return match is_zero {
                true => Inserted::Kept { dropped: 0 },
                false => Inserted::Contradiction,
            };
        };
        equation.pivot = pivot;
        let one = inverse(equation.at(pivot));
        scale(&mut equation.bytes, one);
        for other in &mut self.all {
            let coefficient = other.at(pivot);
            if coefficient != 0 {
                self.bytes -= other.bytes.capacity();
                other.add(&equation, coefficient);
                self.bytes += other.bytes.capacity();
            }
        }
        self.bytes += equation.bytes.capacity();
        self.all.push_back(equation);
        let mut dropped = 0;
        while self.all.len() > EQUATIONS || self.bytes > BYTES {
            self.remove(0);
            dropped += 1;
        }
        Inserted::Kept { dropped }
    }

    /// The unknown `seq` is known now; gives the number of equations that contradict it and
    /// were dropped.
    pub(super) fn learn(&mut self, seq: u64, symbol: &[u8]) -> u64 {
        let column = (seq % COLUMNS as u64) as u8;
        let mut refused = 0;
        let mut unpivoted = None;
        let mut index = 0;
        while let Some(equation) = self.all.get_mut(index) {
            let coefficient = equation.at(column);
            if coefficient == 0 {
                index += 1;
                continue;
            }
            if symbol.len() > equation.symbol().len() {
                self.remove(index);
                refused += 1;
                continue;
            }
            equation.subtract(symbol, coefficient);
            equation.set(seq, 0);
            if equation.pivot == column {
                unpivoted = self.remove(index);
            } else {
                index += 1;
            }
        }
        if let Some(equation) = unpivoted
            && self.insert(equation) == Inserted::Contradiction
        {
            refused += 1;
        }
        refused
    }

    /// Takes out an equation that has one unknown left: its column and its symbol.
    pub(super) fn pop_solved(&mut self) -> Option<(u8, Vec<u8>)> {
        let solved = |it: &Equation| it.unknowns().nth(1).is_none();
        let index = self.all.iter().position(solved)?;
        let mut equation = self.remove(index)?;
        Some((equation.pivot, equation.bytes.split_off(COLUMNS)))
    }

    /// Drops the equations that mention a number of these; gives how many.
    pub(super) fn forget(&mut self, seqs: Range<u64>) -> u64 {
        if self.all.is_empty() {
            return 0;
        }
        if seqs.end - seqs.start >= COLUMNS as u64 {
            return self.clear();
        }
        let before = self.all.len();
        self.all.retain(|equation| {
            let mentions = |seq| equation.bytes[seq as usize % COLUMNS] != 0;
            !seqs.clone().any(mentions)
        });
        self.bytes = self.all.iter().map(|it| it.bytes.capacity()).sum();
        (before - self.all.len()) as u64
    }

    /// Drops all; gives how many.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.all.len() as u64;
        *self = Self::default();
        dropped
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, index: usize) -> Option<Equation> {
        let equation = self.all.remove(index)?;
        self.bytes -= equation.bytes.capacity();
        Some(equation)
    }
}

const COLUMNS: usize = 256;
const EQUATIONS: usize = 64;
const BYTES: usize = 64 << 10;
