//! What happens in a round.

use std::time::Duration;

use super::agent::Manner;
use super::chance::Chance;

/// One round, from a start to a kill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// When the gateway is killed.
    pub(super) moment: Moment,
    /// How the agent behaves.
    pub(super) manner: Manner,
    /// Longest message in bytes.
    pub(super) size_max: u64,
}

/// When the gateway is killed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// So long after its process was started, while it may still read its log.
    Starting(Duration),
    /// So long after the first acknowledgement.
    Flowing(Duration),
    /// Just when it begins a new segment.
    Rolling,
}

impl Plan {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let moment = match chance.below(100) {
            0..=14 => Moment::Starting(Duration::from_micros(chance.below(150_000))),
            15..=17 => Moment::Rolling,
            _ => Moment::Flowing(Duration::from_micros(chance.below(150_000))),
        };
        let manner = match chance.below(10) {
            0 => Manner::Drops,
            1 => Manner::Forgets,
            2 => Manner::Refuses,
            3 => Manner::Slow,
            _ => Manner::Steady,
        };
        let size_max = match (moment, chance.below(10)) {
            (Moment::Rolling, _) => 1 << 20,
            (_, 0) => 512 << 10,
            (_, 1 | 2) => 32 << 10,
            _ => 2 << 10,
        };
        Self {
            moment,
            manner,
            size_max,
        }
    }
}
