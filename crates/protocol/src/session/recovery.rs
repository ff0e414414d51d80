//! Whether a client can be given what it missed.

use super::output::{Recover, Subscribed};
use crate::message::{Publication, StreamPosition};
use crate::settings::RecoveryMode;

/// What recovering came to. It is never partial: all that was missed, or nothing
/// and an honest "no" (`contracts`: centrifuge 11.11).
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// Whether nothing is missing.
    pub recovered: bool,
    /// What was missed, ascending.
    pub publications: Vec<Publication>,
    /// The position the client counts on from.
    pub position: StreamPosition,
}

impl Recovery {
    /// Decides from what was asked and what the stream holds.
    pub fn decide(asked: &Recover, found: Subscribed, limit: usize) -> Self {
        let top = found.top.unwrap_or_default();
        let refused = |top: StreamPosition| Self {
            recovered: false,
            publications: Vec::new(),
            position: top,
        };
        let same_stream = asked.since.epoch.is_empty() || asked.since.epoch == top.epoch;
        match asked.mode {
            RecoveryMode::Cache => {
                let latest = found.publications.into_iter().next_back();
                let recovered = latest.is_some();
                let known = same_stream
                    && !asked.since.epoch.is_empty()
                    && asked.since.offset == top.offset;
                Self {
                    recovered,
                    publications: latest.filter(|_| !known).into_iter().collect(),
                    position: top,
                }
            }
            RecoveryMode::Stream if !same_stream || asked.since.offset > top.offset => refused(top),
            RecoveryMode::Stream => {
                let missed = top.offset - asked.since.offset;
                let all_there = usize::try_from(missed).is_ok_and(|missed| missed <= limit)
                    && found.publications.len() as u64 == missed
                    && (asked.since.offset + 1..)
                        .zip(&found.publications)
                        .all(|(offset, publication)| publication.offset == offset);
                if !all_there {
                    return refused(top);
                }
                let position = StreamPosition {
                    offset: asked.since.offset,
                    epoch: top.epoch,
                };
                Self {
                    recovered: true,
                    publications: found.publications,
                    position,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publications(offsets: std::ops::RangeInclusive<u64>) -> Vec<Publication> {
        offsets
            .map(|offset| Publication {
                offset,
                ..Publication::default()
            })
            .collect()
    }

    fn position(offset: u64, epoch: &str) -> StreamPosition {
        StreamPosition {
            offset,
            epoch: epoch.to_owned(),
        }
    }

    fn decide(since: StreamPosition, top: StreamPosition, held: Vec<Publication>) -> Recovery {
        let asked = Recover {
            since,
            mode: RecoveryMode::Stream,
        };
        Recovery::decide(
            &asked,
            Subscribed {
                top: Some(top),
                publications: held,
            },
            10,
        )
    }

    #[test]
    fn all_that_was_missed_is_recovered() {
        let result = decide(position(3, "a"), position(5, "a"), publications(4..=5));
        assert!(result.recovered);
        assert_eq!(result.publications.len(), 2);
        assert_eq!(result.position, position(3, "a"));
    }

    #[test]
    fn nothing_missed_is_recovered() {
        assert!(decide(position(5, "a"), position(5, "a"), vec![]).recovered);
        assert!(decide(position(0, ""), position(0, "a"), vec![]).recovered);
    }

    #[test]
    fn another_epoch_a_gap_or_too_much_is_refused_whole() {
        for result in [
            decide(position(3, "b"), position(5, "a"), publications(4..=5)),
            decide(position(3, "_"), position(3, "a"), vec![]),
            decide(position(1, "a"), position(5, "a"), publications(4..=5)),
            decide(position(6, "a"), position(5, "a"), vec![]),
            decide(position(u64::MAX, "a"), position(5, "a"), vec![]),
            decide(position(0, "a"), position(11, "a"), publications(1..=11)),
        ] {
            assert!(!result.recovered);
            assert!(result.publications.is_empty());
            assert_eq!(result.position.epoch, "a");
        }
    }

    #[test]
    fn cache_mode_gives_the_latest_unless_the_client_has_it() {
        let ask = |since| Recover {
            since,
            mode: RecoveryMode::Cache,
        };
        let found = || Subscribed {
            top: Some(position(5, "a")),
            publications: publications(5..=5),
        };
        let new = Recovery::decide(&ask(position(0, "")), found(), 10);
        assert!(new.recovered && new.publications.len() == 1);
        let known = Recovery::decide(&ask(position(5, "a")), found(), 10);
        assert!(known.recovered && known.publications.is_empty());
        let empty = Subscribed {
            top: Some(position(0, "a")),
            publications: vec![],
        };
        assert!(!Recovery::decide(&ask(position(0, "")), empty, 10).recovered);
    }
}
