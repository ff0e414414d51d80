//! How long a server lets a connection rest, learned from those that it closed.
//!
//! A request on a connection that the server is just closing is lost, or has to be sent
//! again. So a server that was seen to close after 5 s of rest is not tried at 4.9 s. A
//! restart closes connections of any age at once and must teach nothing lasting: what
//! closes together is one sighting, it takes two to believe, and each is forgotten.

/// What was seen of one origin.
#[derive(Debug, Default)]
pub(super) struct Learned {
    seen: [Option<Sighting>; SIGHTINGS],
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    at_ms: u64,
    rested_ms: u64,
}

impl Learned {
    /// The server closed a connection that had rested so long.
    pub(super) fn note(&mut self, now_ms: u64, rested_ms: u64) {
        if rested_ms < REST_BELIEVED_MS {
            return;
        }
        let last = self.next.checked_sub(1).unwrap_or(SIGHTINGS - 1);
        if let Some(Some(sighting)) = self.seen.get_mut(last)
            && now_ms.saturating_sub(sighting.at_ms) < TOGETHER_MS
        {
            sighting.rested_ms = sighting.rested_ms.max(rested_ms);
            return;
        }
        if let Some(place) = self.seen.get_mut(self.next) {
            *place = Some(Sighting {
                at_ms: now_ms,
                rested_ms,
            });
        }
        self.next = (self.next + 1) % SIGHTINGS;
    }

    /// How long a connection may rest and still be used, as far as is known.
    pub(super) fn rest_max_ms(&self, now_ms: u64) -> Option<u64> {
        let recent = self
            .seen
            .iter()
            .flatten()
            .filter(|sighting| now_ms.saturating_sub(sighting.at_ms) < REMEMBERED_MS);
        let (count, least) = recent.fold((0, u64::MAX), |(count, least), sighting| {
            (count + 1, least.min(sighting.rested_ms))
        });
        (count >= SIGHTINGS_BELIEVED).then(|| least / 10 * 9)
    }
}

const SIGHTINGS: usize = 8;
const SIGHTINGS_BELIEVED: usize = 2;

/// Shorter rests are no setting of a server, but its failing.
const REST_BELIEVED_MS: u64 = 500;

/// What closes within this time closes for one reason.
const TOGETHER_MS: u64 = 250;

const REMEMBERED_MS: u64 = 10 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_closings_teach_nine_tenths_of_the_shorter_rest() {
        let mut learned = Learned::default();
        learned.note(10_000, 5_010);
        assert_eq!(learned.rest_max_ms(10_000), None);
        learned.note(20_000, 5_000);
        assert_eq!(learned.rest_max_ms(20_000), Some(4_500));
    }

    #[test]
    fn connections_that_close_together_are_one_sighting() {
        let mut learned = Learned::default();
        for rested_ms in [700, 3_000, 60_000] {
            learned.note(10_000, rested_ms);
        }
        assert_eq!(learned.rest_max_ms(10_000), None);
        learned.note(90_000, 60_000);
        assert_eq!(learned.rest_max_ms(90_000), Some(54_000));
    }

    #[test]
    fn what_was_learned_is_forgotten() {
        let mut learned = Learned::default();
        learned.note(1_000, 1_000);
        learned.note(10_000, 1_000);
        assert_eq!(learned.rest_max_ms(600_000), Some(900));
        assert_eq!(learned.rest_max_ms(601_000), None);
    }

    #[test]
    fn the_oldest_of_many_sightings_makes_room() {
        let mut learned = Learned::default();
        learned.note(0, 1_000);
        for turn in 1..=8 {
            learned.note(turn * 1_000, 5_000);
        }
        assert_eq!(learned.rest_max_ms(9_000), Some(4_500));
    }

    #[test]
    fn very_short_rests_teach_nothing() {
        let mut learned = Learned::default();
        learned.note(1_000, 499);
        learned.note(2_000, 1);
        assert_eq!(learned.rest_max_ms(2_000), None);
    }
}
