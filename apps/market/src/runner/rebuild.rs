//! The state of before the restart, from what the bus keeps.
//!
//! The bus has the last snapshot and the last batch of each group, and its streams have the
//! batches between. After an orderly stop none are needed: the last thing published is a snapshot.
//! After a crash the batches since the oldest of the snapshots are read.
//!
//! If batches are missing all the same (no stream keeps them, or they are too many), prices of
//! symbols that moved in them are those of the snapshot until they move again, and volumes lack
//! what was traded in them; numbers go on from the last batch, and the snapshot that is published
//! at once tells every client where to go on from.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Epoch, Message};
use hashbrown::HashMap;
use protocol::subject::{Pattern, SubjectError};
use tracing::{info, warn};

use super::publisher::{Mark, SNAPSHOTS, TICKS};
use crate::aggregator::{Aggregator, Grouping, Restored};

/// What the bus has kept.
#[derive(Debug, Default)]
pub(super) struct Past {
    snapshots: Vec<Arc<Message>>,
    /// In order within each group.
    batches: Vec<Arc<Message>>,
}

/// Reads what the bus has kept of these groups. If it can't say after a few tries, there is no
/// past: streams begin anew under a new epoch, which clients notice.
pub(super) async fn read(bus: &Bus, grouping: &Grouping, snapshot_interval: Duration) -> Past {
    for left in (0..TRIES).rev() {
        match read_once(bus, grouping, snapshot_interval).await {
            Ok(past) => return past,
            Err(error) => warn!(%error, left, "state of before is not available"),
        }
        if left > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Past::default()
}

async fn read_once(
    bus: &Bus,
    grouping: &Grouping,
    snapshot_interval: Duration,
) -> Result<Past, BusError> {
    let (Ok(of_snapshots), Ok(of_ticks)) = (below(SNAPSHOTS), below(TICKS)) else {
        return Ok(Past::default());
    };
    let snapshots = bus.latest(&of_snapshots).await?;
    let last = bus.latest(&of_ticks).await?;
    let mut batches = Vec::new();
    if let Some(since_ms) = begin(&snapshots, &last, grouping, snapshot_interval) {
        match bus.since(&of_ticks, since_ms).await {
            Ok(found) => batches = found,
            Err(error) => warn!(%error, "batches since the last snapshots are not available"),
        }
    }
    batches.extend(last);
    Ok(Past { snapshots, batches })
}

/// From when on batches are wanted: from the oldest snapshot that has batches after it, but no
/// longer ago than snapshots can be while an aggregator runs. None if each snapshot is the last
/// thing of its group.
fn begin(
    snapshots: &[Arc<Message>],
    last: &[Arc<Message>],
    grouping: &Grouping,
    snapshot_interval: Duration,
) -> Option<u64> {
    let of_snapshots = snapshots
        .iter()
        .filter_map(|message| parts(message, SNAPSHOTS));
    let taken_at: HashMap<&str, u64> = of_snapshots
        .filter(|(name, _)| grouping.find(name).is_some())
        .map(|(name, snapshot)| (name, snapshot.time_ms))
        .collect();
    let of_batches = last.iter().filter_map(|message| parts(message, TICKS));
    let overtaken = of_batches.filter_map(|(name, batch)| {
        let taken_at = *taken_at.get(name)?;
        (batch.time_ms > taken_at).then_some((taken_at, batch.time_ms))
    });
    let (oldest, newest) =
        overtaken.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
    let window = u64::try_from(2 * snapshot_interval.as_millis()).unwrap_or(u64::MAX);
    let begin = oldest.max(newest.saturating_sub(window));
    Some(begin.saturating_sub(SKEW_MS))
}

/// Brings the state back, and says where each group's streams go on: those that have no past
/// under `epoch`.
pub(super) fn apply(aggregator: &mut Aggregator, past: &Past, epoch: Epoch) -> Vec<Mark> {
    let mut marks = vec![
        Mark {
            epoch,
            snapshots: 0
        };
        aggregator.grouping().len()
    ];
    for message in &past.snapshots {
        let Some((name, publication)) = parts(message, SNAPSHOTS) else {
            continue;
        };
        match aggregator.restore_snapshot(name, &publication.data) {
            Ok(Restored::Taken { group, .. }) => {
                if let Some(position) = publication.position {
                    marks[group] = Mark {
                        epoch: position.epoch,
                        snapshots: position.offset,
                    };
                }
            }
            Ok(Restored::Known) => {}
            Err(error) => warn!(subject = %message.channel, %error, "snapshot was left out"),
        }
    }
    for message in &past.batches {
        let Some((name, publication)) = parts(message, TICKS) else {
            continue;
        };
        let restored = aggregator.restore_ticks(name, &publication.data);
        match restored {
            Ok(Restored::Taken { group, is_gapped }) => {
                if let Some(position) = publication.position {
                    marks[group].epoch = position.epoch;
                }
                if is_gapped {
                    info!(
                        group = name,
                        "volumes lack what was traded since the last snapshot"
                    );
                }
            }
            Ok(Restored::Known) => {}
            Err(error) => warn!(subject = %message.channel, %error, "batch was left out"),
        }
    }
    marks
}

fn below(prefix: &str) -> Result<Pattern, SubjectError> {
    Pattern::new(&format!("{prefix}>"))
}

fn parts<'a>(message: &'a Message, prefix: &str) -> Option<(&'a str, &'a bus::Publication)> {
    let name = message.channel.as_str().strip_prefix(prefix)?;
    Some((name, message.publication()?))
}

const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How far the clock of the servers may be ahead of that of the aggregator of before.
const SKEW_MS: u64 = 2_000;
