//! What goes out, on which subject and at which position.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Emit, Epoch, Now, Position};
use bytes::Bytes;
use protocol::channel::Channel;
use tracing::{debug, warn};

use crate::aggregator::{Aggregator, Grouping};
use crate::metrics::Metrics;

/// Publishes for all groups.
pub(super) struct Publisher {
    bus: Bus,
    lines: Vec<Line>,
    health: Channel,
    snapshot_interval_ms: u64,
    metrics: Arc<Metrics>,
    /// Whether the bus refused the last thing that was tried.
    is_refused: bool,
}

/// Where a group's streams stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Names the life of both streams.
    pub(super) epoch: Epoch,
    /// Offset of the last snapshot; that of the last batch is its `seq`.
    pub(super) snapshots: u64,
}

/// A group's subjects.
struct Line {
    ticks: Channel,
    snapshots: Channel,
    mark: Mark,
    /// When the next snapshot is due, by the monotonic time.
    due_ms: u64,
}

impl Publisher {
    /// The first snapshots are due at once, and from then on the groups take turns.
    pub(super) fn new(
        bus: Bus,
        grouping: &Grouping,
        marks: Vec<Mark>,
        snapshot_interval: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lines = marks.into_iter().enumerate().map(|(group, mark)| {
            let name = grouping.name(group);
            Line {
                ticks: Channel::from(format!("{TICKS}{name}")),
                snapshots: Channel::from(format!("{SNAPSHOTS}{name}")),
                mark,
                due_ms: 0,
            }
        });
        Self {
            lines: lines.collect(),
            bus,
            health: Channel::new("xy.exec.health"),
            snapshot_interval_ms: u64::try_from(snapshot_interval.as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
            metrics,
            is_refused: false,
        }
    }

    /// Publishes a batch of each group that changed. What the bus does not take waits for the
    /// next time.
    pub(super) fn tell_ticks(&mut self, aggregator: &mut Aggregator, now: Now) {
        aggregator.cut_ticks(now, |offer| {
            let Some(line) = self.lines.get(offer.group) else {
                return false;
            };
            let emit = Emit {
                channel: line.ticks.clone(),
                data: Bytes::copy_from_slice(offer.payload),
                position: Some(Position {
                    offset: offer.seq,
                    epoch: line.mark.epoch,
                }),
                keep: true,
            };
            self.emit(emit, now)
        });
    }

    /// Publishes the snapshots that are due.
    pub(super) fn tell_snapshots(&mut self, aggregator: &mut Aggregator, now: Now) {
        let count = self.lines.len() as u64;
        for group in 0..self.lines.len() {
            let due_ms = self.lines[group].due_ms;
            if due_ms > now.mono_ms || !self.tell_snapshot(aggregator, group, now) {
                continue;
            }
            let interval_ms = self.snapshot_interval_ms;
            self.lines[group].due_ms = if due_ms == 0 {
                now.mono_ms + interval_ms * (group as u64 + 1) / count
            } else {
                // From when it was due, so that lateness does not add up, unless it is so late
                // that the next one would be due as well.
                (due_ms + interval_ms).max(now.mono_ms + 1)
            };
        }
    }

    /// Publishes the snapshots of all groups.
    pub(super) fn tell_all_snapshots(&mut self, aggregator: &mut Aggregator, now: Now) {
        for group in 0..self.lines.len() {
            self.tell_snapshot(aggregator, group, now);
        }
    }

    /// Publishes a health message; there will be another if it is not taken.
    pub(super) fn tell_health(&mut self, message: Bytes, now: Now) {
        let emit = Emit {
            channel: self.health.clone(),
            data: message,
            position: None,
            keep: true,
        };
        self.emit(emit, now);
    }

    fn tell_snapshot(&mut self, aggregator: &mut Aggregator, group: usize, now: Now) -> bool {
        let Some(snapshot) = aggregator.snapshot(group, now, 0) else {
            return false;
        };
        let line = &self.lines[group];
        let offset = line.mark.snapshots.saturating_add(1);
        let emit = Emit {
            channel: line.snapshots.clone(),
            data: snapshot.payload,
            position: Some(Position {
                offset,
                epoch: line.mark.epoch,
            }),
            keep: true,
        };
        let is_taken = self.emit(emit, now);
        if is_taken {
            self.lines[group].mark.snapshots = offset;
            self.metrics.add_snapshot_out();
        }
        is_taken
    }

    fn emit(&mut self, emit: Emit, now: Now) -> bool {
        let channel = emit.channel.clone();
        let outcome = self.bus.emit(now, emit);
        if let Err(error) = outcome {
            self.metrics.add_busy();
            match (error, self.is_refused) {
                (BusError::Busy, _) | (_, true) => {
                    debug!(%channel, %error, "bus did not take a message");
                }
                (_, false) => warn!(%channel, %error, "bus did not take a message"),
            }
        }
        self.is_refused = outcome.is_err();
        outcome.is_ok()
    }
}

/// Subjects of batches, without the group.
pub(super) const TICKS: &str = "xy.md.tick.";
/// Subjects of snapshots, without the group.
pub(super) const SNAPSHOTS: &str = "xy.md.snapshot.";
