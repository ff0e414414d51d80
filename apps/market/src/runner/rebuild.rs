//! The state of before the restart, from what the bus keeps.
//!
//! The bus has the last snapshot and the last batch of each group. If the batch comes right after
//! the snapshot, or before, the state is whole. If batches between are missing, prices of symbols
//! that moved in them are those of the snapshot until they move again, and volumes lack what was
//! traded in them; numbers go on from the last batch, and the snapshot that is published at once
//! tells every client where to go on from. After an orderly stop nothing is missing: the last
//! thing published is a snapshot.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Epoch, Message};
use protocol::subject::Pattern;
use tracing::{info, warn};

use super::publisher::{Mark, SNAPSHOTS, TICKS};
use crate::aggregator::{Aggregator, Restored};

/// What the bus has kept.
#[derive(Debug, Default)]
pub(super) struct Past {
    snapshots: Vec<Arc<Message>>,
    batches: Vec<Arc<Message>>,
}

/// Reads what the bus has kept. If it can't say after a few tries, there is no past: streams begin
/// anew under a new epoch, which clients notice.
pub(super) async fn read(bus: &Bus) -> Past {
    for left in (0..TRIES).rev() {
        let (snapshots, batches) = (latest(bus, SNAPSHOTS).await, latest(bus, TICKS).await);
        match (snapshots, batches) {
            (Ok(snapshots), Ok(batches)) => return Past { snapshots, batches },
            (Err(error), _) | (_, Err(error)) => {
                warn!(%error, left, "state of before is not available");
            }
        }
        if left > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Past::default()
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

async fn latest(bus: &Bus, prefix: &str) -> Result<Vec<Arc<Message>>, bus::BusError> {
    match Pattern::new(&format!("{prefix}>")) {
        Ok(pattern) => bus.latest(&pattern).await,
        Err(_) => Ok(Vec::new()),
    }
}

fn parts<'a>(message: &'a Message, prefix: &str) -> Option<(&'a str, &'a bus::Publication)> {
    let name = message.channel.as_str().strip_prefix(prefix)?;
    Some((name, message.publication()?))
}

const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
