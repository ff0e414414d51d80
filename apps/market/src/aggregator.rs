//! What every symbol stands at, and what changed since it was last told.
//!
//! Pure: no I/O, no clock, no task. Ticks go in one by one ([`Aggregator::take`]); what changed
//! comes out as a batch per group ([`Aggregator::cut_ticks`]), and what a group stands at as a
//! snapshot ([`Aggregator::snapshot`]).
//!
//! **Consistency.** Of each symbol there are two states: the latest, and the one after the last
//! batch that somebody took. A snapshot tells the second, together with the number of that batch,
//! so that the snapshot and the batches after it are the truth whenever either was made. A batch
//! that could not be published changes nothing: the group stays as it is, and what comes meanwhile
//! joins what is waiting.
//!
//! **Joining.** The latest price wins, by its own time and not by when it came; volumes are
//! summed. A tick that is older than what is known adds its volume only.
//!
//! **Bounds.** Symbols are capped and never forgotten; a new one beyond the cap is refused and
//! counted. No tick costs an allocation, save the first of its symbol.

mod groups;
mod restore;
mod source;
mod symbols;

use bus::Now;
use bytes::Bytes;

pub use groups::{Grouping, GroupingError};
pub use restore::{RestoreError, Restored};
pub use source::{Reason, Taken};

use crate::wire::{self, Snapshot, Tick};
use groups::{Fresh, Group};
use symbols::Symbols;

/// The state of all groups.
#[derive(Debug)]
pub struct Aggregator {
    grouping: Grouping,
    groups: Vec<Group>,
    symbols: Symbols,
    limits: Limits,
    counts: Counts,
    /// When something last came from the source, by the monotonic time.
    heard_mono_ms: Option<u64>,
    /// Batches are written here before they become bytes of their own.
    scratch: Vec<u8>,
}

/// What the aggregator refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most symbols; ticks of others are refused.
    pub symbols_max: usize,
    /// How far the time of a tick may be from now, in either direction, in milliseconds; 0 lets
    /// any time pass.
    pub skew_max_ms: u64,
}

/// What has happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ticks taken.
    pub ticks: u64,
    /// Quotes taken.
    pub quotes: u64,
    /// Heartbeats taken.
    pub heartbeats: u64,
    /// Messages refused, in the order of [`Reason::ALL`].
    pub refused: [u64; Reason::ALL.len()],
    /// Ticks that were older than what was known of their symbol.
    pub reordered: u64,
    /// Messages that the source numbered and that never came.
    pub missing: u64,
    /// Ticks within batches that were taken.
    pub ticks_out: u64,
    /// Batches that were taken.
    pub batches_out: u64,
}

/// A batch that is offered for publication.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Which group, counted from 0.
    pub group: usize,
    /// Its number: one more than that of the last batch taken.
    pub seq: u64,
    /// An encoded `TickBatch`.
    pub payload: &'a [u8],
}

/// What a group stood at.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    /// Number of the last batch that it includes.
    pub seq: u64,
    /// An encoded `SnapshotBatch`.
    pub payload: Bytes,
}

impl Aggregator {
    /// An aggregator that knows nothing yet.
    pub fn new(grouping: Grouping, limits: Limits) -> Self {
        let groups = (0..grouping.len())
            .map(|group| Group::new(grouping.name(group)))
            .collect();
        Self {
            grouping,
            groups,
            symbols: Symbols::default(),
            limits,
            counts: Counts::default(),
            heard_mono_ms: None,
            scratch: Vec::new(),
        }
    }

    /// Takes one message of the source.
    ///
    /// `subject` is `xy.src.tick.{venue}.{symbol}` with a `Tick`,
    /// `xy.src.snapshot.{venue}.{symbol}` with a `Snapshot`, of which bid, ask and their sizes
    /// count, or `xy.src.heartbeat.{venue}` with anything. `offset` is the message's place in
    /// the source's stream, if it has one: it tells what is missing.
    pub fn take(
        &mut self,
        subject: &str,
        offset: Option<u64>,
        payload: &[u8],
        now: Now,
    ) -> Result<Taken, Reason> {
        let outcome = self.take_any(subject, offset, payload, now);
        if let Err(reason) = outcome {
            self.counts.refused[reason as usize] += 1;
        }
        outcome
    }

    /// Takes a tick that did not come as bytes.
    pub fn take_tick(&mut self, tick: &Tick<'_>, now: Now) -> Result<(), Reason> {
        let outcome = self.apply_tick(tick, None, now);
        if let Err(reason) = outcome {
            self.counts.refused[reason as usize] += 1;
        }
        outcome
    }

    /// Takes a quote that did not come as bytes: bid, ask and their sizes.
    pub fn take_quote(&mut self, quote: &Snapshot<'_>, now: Now) -> Result<(), Reason> {
        let outcome = self.apply_quote(quote, None, now);
        if let Err(reason) = outcome {
            self.counts.refused[reason as usize] += 1;
        }
        outcome
    }

    /// Offers a batch for each group that changed, in the order of groups; whoever answers
    /// `true` has published it. What is not taken stays and is offered again, with what came
    /// meanwhile.
    pub fn cut_ticks(&mut self, now: Now, mut publish: impl FnMut(Offer<'_>) -> bool) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.changed.is_empty() {
                continue;
            }
            let seq = group.seq + 1;
            self.scratch.clear();
            let ts_ms = now.unix_ms.cast_signed();
            wire::begin_batch(&mut self.scratch, &group.name, seq, ts_ms);
            for &symbol in &group.changed {
                let state = self.symbols.at(symbol);
                let tick = Tick {
                    ts_ms: state.ts_ms,
                    symbol: state.name.as_bytes(),
                    price: state.price,
                    volume: state.volume_waiting,
                };
                wire::add_tick(&mut self.scratch, &tick);
            }
            let payload = &self.scratch;
            if !publish(Offer {
                group: index,
                seq,
                payload,
            }) {
                continue;
            }
            group.seq = seq;
            self.counts.batches_out += 1;
            self.counts.ticks_out += group.changed.len() as u64;
            for symbol in group.changed.drain(..) {
                self.symbols.at_mut(symbol).settle();
            }
        }
    }

    /// What a group stands at after the last batch that was taken. The same bytes again if
    /// nothing was published since and they are younger than `age_max_ms`. `None` if there is no
    /// such group.
    pub fn snapshot(&mut self, group: usize, now: Now, age_max_ms: u64) -> Option<GroupSnapshot> {
        let group = self.groups.get_mut(group)?;
        if let Some(fresh) = &group.fresh
            && fresh.seq == group.seq
            && now.mono_ms.saturating_sub(fresh.mono_ms) < age_max_ms
        {
            return Some(GroupSnapshot {
                seq: fresh.seq,
                payload: fresh.payload.clone(),
            });
        }
        self.scratch.clear();
        let ts_ms = now.unix_ms.cast_signed();
        wire::begin_batch(&mut self.scratch, &group.name, group.seq, ts_ms);
        for &symbol in &group.members {
            if let Some(snapshot) = self.symbols.at(symbol).snapshot() {
                wire::add_snapshot(&mut self.scratch, &snapshot);
            }
        }
        let payload = Bytes::copy_from_slice(&self.scratch);
        group.fresh = Some(Fresh {
            seq: group.seq,
            mono_ms: now.mono_ms,
            payload: payload.clone(),
        });
        Some(GroupSnapshot {
            seq: group.seq,
            payload,
        })
    }

    /// Number of the last batch of a group that was taken; 0 before the first.
    pub fn seq(&self, group: usize) -> u64 {
        self.groups.get(group).map_or(0, |group| group.seq)
    }

    /// Whether something waits to be published.
    pub fn is_dirty(&self) -> bool {
        self.groups.iter().any(|group| !group.changed.is_empty())
    }

    /// How symbols are spread over groups.
    pub fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// How many symbols are known.
    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }

    /// What has happened since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How long nothing has come from the source, in milliseconds; `None` if never anything did.
    pub fn silent_ms(&self, now: Now) -> Option<u64> {
        let heard = self.heard_mono_ms?;
        Some(now.mono_ms.saturating_sub(heard))
    }
}

#[cfg(test)]
mod tests;
