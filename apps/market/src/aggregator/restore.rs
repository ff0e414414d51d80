//! How the state comes back after a restart: from what was published.

use super::Aggregator;
use super::symbols::{Quote, Told};
use crate::wire::{Batch, WireError};

/// What a message of before the restart has brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It is part of the state.
    Taken {
        /// Which group, counted from 0.
        group: usize,
        /// Whether batches are missing between the state and this one: prices are right, but
        /// volumes lack what those batches said, and a fresh snapshot is due.
        is_gapped: bool,
    },
    /// The state includes it, or it is of a group that no longer exists and has no number here.
    Known,
}

/// Why a message of before the restart is no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be read.
    #[error("message cannot be read")]
    Unreadable(#[from] WireError),
    /// It is another group's than its subject says.
    #[error("message is of another group than its subject")]
    OtherGroup,
    /// Its number is none that counting from 1 leads to.
    #[error("number {seq} of the message is out of range")]
    OutOfRange {
        /// The number.
        seq: u64,
    },
}

impl Aggregator {
    /// Takes a group's last snapshot, before any tick and any batch.
    ///
    /// `name` is the group of its subject. Symbols that belong to another group by now go there;
    /// what cannot be a symbol, or is one too many, is left out and counted as refused.
    pub fn restore_snapshot(
        &mut self,
        name: &str,
        payload: &[u8],
    ) -> Result<Restored, RestoreError> {
        let batch = read(name, payload)?;
        for snapshot in batch.snapshots()? {
            let number = match self.intern(snapshot.symbol) {
                Ok(number) => number,
                Err(reason) => {
                    self.counts.refused[reason as usize] += 1;
                    continue;
                }
            };
            let symbol = self.symbols.at_mut(number);
            // After a change of groups two may tell of one symbol.
            if snapshot.volume < symbol.told.volume || !is_price(snapshot.last) {
                continue;
            }
            // Without a price there has been no trade, and the time is the quote's.
            if snapshot.last > 0.0 {
                symbol.ts_ms = snapshot.ts_ms;
                symbol.price = snapshot.last;
                symbol.told = Told {
                    ts_ms: snapshot.ts_ms,
                    price: snapshot.last,
                    volume: snapshot.volume,
                };
            }
            if is_price(snapshot.bid) && is_price(snapshot.ask) {
                symbol.quote = Quote {
                    ts_ms: snapshot.ts_ms,
                    bid: snapshot.bid,
                    ask: snapshot.ask,
                    bid_size: snapshot.bid_size,
                    ask_size: snapshot.ask_size,
                };
            }
        }
        let Some(group) = self.grouping.find(name) else {
            return Ok(Restored::Known);
        };
        self.groups[group].seq = self.groups[group].seq.max(batch.seq);
        Ok(Restored::Taken {
            group,
            is_gapped: false,
        })
    }

    /// Takes a batch that was published after the snapshot, before any tick. Batches of one
    /// group come in the order of their numbers.
    pub fn restore_ticks(&mut self, name: &str, payload: &[u8]) -> Result<Restored, RestoreError> {
        let batch = read(name, payload)?;
        let Some(group) = self.grouping.find(name) else {
            return Ok(Restored::Known);
        };
        let seq = self.groups[group].seq;
        if batch.seq <= seq {
            return Ok(Restored::Known);
        }
        for tick in batch.ticks()? {
            let number = match self.intern(tick.symbol) {
                Ok(number) => number,
                Err(reason) => {
                    self.counts.refused[reason as usize] += 1;
                    continue;
                }
            };
            let symbol = self.symbols.at_mut(number);
            if tick.price > 0.0 && is_price(tick.price) {
                symbol.ts_ms = tick.ts_ms;
                symbol.price = tick.price;
            }
            symbol.told = Told {
                ts_ms: symbol.ts_ms,
                price: symbol.price,
                volume: symbol.told.volume.saturating_add(tick.volume),
            };
        }
        self.groups[group].seq = batch.seq;
        Ok(Restored::Taken {
            group,
            is_gapped: batch.seq != seq + 1,
        })
    }
}

fn read<'a>(name: &str, payload: &'a [u8]) -> Result<Batch<'a>, RestoreError> {
    let batch = Batch::read(payload)?;
    if batch.group != name {
        return Err(RestoreError::OtherGroup);
    }
    if batch.seq > SEQ_MAX {
        return Err(RestoreError::OutOfRange { seq: batch.seq });
    }
    Ok(batch)
}

fn is_price(price: f64) -> bool {
    price.is_finite() && price >= 0.0
}

/// Clients count in doubles, and thirty batches a second take ten million years to get here.
const SEQ_MAX: u64 = 1 << 53;
