//! How many calls are under way at once, and how many may wait for that.
//!
//! Only the counting: who waits, in which order, and how they are woken is the
//! caller's. A slot that is free while somebody waits belongs to the first who waits;
//! who comes later queues, so that nobody is overtaken.
//!
//! The limit may move, by what [`Concurrency::sample`] is told or by other settings. A
//! lower one takes no slot away: new calls wait until enough have left.

use std::time::Duration;

use crate::adaptive::Adaptive;
use crate::class::Verdict;
use crate::settings::{PolicyError, within};

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// Calls under way at once; 0 is unlimited, or 1000 if the limit moves.
    pub limit: u32,
    /// Whether it moves.
    pub mode: LimitMode,
    /// Calls that may wait for a slot; beyond, they are refused.
    pub waiting_max: u32,
    /// How long one waits at most; up to an hour.
    pub wait_max: Duration,
}

/// Whether a limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitMode {
    /// It is what it is set to.
    #[default]
    Fixed,
    /// By the upstream's latency to the first byte, below what it is set to.
    Adaptive {
        /// It does not fall below; 1 up to the limit. With very few, an upstream that
        /// becomes slower for good has most of its calls refused for some seconds.
        least: u32,
    },
}

/// The count of slots taken and of those who wait.
#[derive(Debug, Clone)]
pub struct Concurrency {
    limit: u32,
    waiting_max: u32,
    in_flight: u32,
    waiting: u32,
    adaptive: Option<Adaptive>,
}

/// What a call finds at the entrance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// A slot; to be answered by [`Concurrency::leave`].
    Slot,
    /// A place in the queue; [`Concurrency::hand_on`] turns the first one into a slot,
    /// [`Concurrency::give_up`] gives it back.
    Queue,
    /// Nothing.
    Full,
}

impl ConcurrencySettings {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if let LimitMode::Adaptive { least } = self.mode {
            within(
                "least limit of calls at once",
                f64::from(least),
                1.0,
                f64::from(self.most()),
            )?;
        }
        let least = if self.waiting_max > 0 { 0.001 } else { 0.0 };
        within(
            "longest wait for a slot in seconds",
            self.wait_max.as_secs_f64(),
            least,
            3_600.0,
        )
    }

    /// What a limit that moves does not exceed.
    fn most(&self) -> u32 {
        match self.limit {
            0 => ADAPTIVE_MOST,
            limit => limit,
        }
    }
}

impl Default for ConcurrencySettings {
    /// No limit, so no queue.
    fn default() -> Self {
        Self {
            limit: 0,
            mode: LimitMode::Fixed,
            waiting_max: 0,
            wait_max: Duration::ZERO,
        }
    }
}

impl Concurrency {
    /// All slots are free.
    pub fn new(settings: &ConcurrencySettings) -> Self {
        let mut calls = Self {
            limit: 0,
            waiting_max: 0,
            in_flight: 0,
            waiting: 0,
            adaptive: None,
        };
        calls.adopt(settings);
        calls
    }

    /// Other settings for the calls that are there: nobody loses a slot or a place, and a
    /// limit that moved goes on from where it is. [`Concurrency::hand_on`] is due.
    pub fn adopt(&mut self, settings: &ConcurrencySettings) {
        self.waiting_max = settings.waiting_max;
        match settings.mode {
            LimitMode::Fixed => {
                self.adaptive = None;
                self.limit = settings.limit;
            }
            LimitMode::Adaptive { least } => {
                let most = settings.most();
                let adaptive = self
                    .adaptive
                    .get_or_insert_with(|| Adaptive::new(least, most));
                adaptive.bound(least, most);
                self.limit = adaptive.limit();
            }
        }
    }

    /// A call comes.
    pub fn enter(&mut self) -> Entrance {
        if self.waiting == 0 && self.has_room() {
            self.take();
            Entrance::Slot
        } else if self.waiting < self.waiting_max {
            self.waiting += 1;
            Entrance::Queue
        } else {
            Entrance::Full
        }
    }

    /// A call that had a slot ends. [`Concurrency::hand_on`] is due.
    pub fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// One who waits goes away.
    pub fn give_up(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Gives a free slot to the first who waits; `true` if there was such a pair.
    /// To be asked until it is `false`.
    #[must_use]
    pub fn hand_on(&mut self) -> bool {
        let pair = self.waiting > 0 && self.has_room();
        if pair {
            self.waiting -= 1;
            self.take();
        }
        pair
    }

    /// Tells a limit that moves how long a call took to its first byte; if it failed, how
    /// long until then. [`Concurrency::hand_on`] is due.
    pub fn sample(&mut self, elapsed: Duration, verdict: Verdict, now: u64) {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.sample(elapsed, verdict, self.in_flight, now);
            self.limit = adaptive.limit();
        }
    }

    /// How many calls at once are allowed now; 0 is unlimited.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Slots taken.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Calls that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    fn take(&mut self) {
        self.in_flight += 1;
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.saw(self.in_flight);
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight < u32::MAX && (self.limit == 0 || self.in_flight < self.limit)
    }
}

/// The most that a limit may find by itself if none is set.
const ADAPTIVE_MOST: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn concurrency(limit: u32, waiting_max: u32) -> Concurrency {
        Concurrency::new(&ConcurrencySettings {
            limit,
            waiting_max,
            wait_max: Duration::from_secs(1),
            ..ConcurrencySettings::default()
        })
    }

    fn adaptive(limit: u32, least: u32) -> ConcurrencySettings {
        ConcurrencySettings {
            limit,
            mode: LimitMode::Adaptive { least },
            waiting_max: 5,
            wait_max: Duration::from_secs(1),
        }
    }

    #[test]
    fn zero_is_unlimited() {
        let mut calls = concurrency(0, 0);
        assert!((0..10_000).all(|_| calls.enter() == Entrance::Slot));
    }

    #[test]
    fn slots_then_queue_then_nothing() {
        let mut calls = concurrency(2, 1);
        let found: Vec<_> = (0..4).map(|_| calls.enter()).collect();
        assert_eq!(
            found,
            [
                Entrance::Slot,
                Entrance::Slot,
                Entrance::Queue,
                Entrance::Full
            ]
        );
    }

    #[test]
    fn a_free_slot_belongs_to_the_first_who_waits() {
        let mut calls = concurrency(1, 2);
        assert_eq!(calls.enter(), Entrance::Slot);
        assert_eq!(calls.enter(), Entrance::Queue);
        assert!(!calls.hand_on());
        calls.leave();
        assert_eq!(calls.enter(), Entrance::Queue, "nobody is overtaken");
        assert!(calls.hand_on());
        assert!(!calls.hand_on());
        assert_eq!((calls.in_flight(), calls.waiting()), (1, 1));
    }

    #[test]
    fn who_gives_up_leaves_a_place() {
        let mut calls = concurrency(1, 1);
        assert_eq!(calls.enter(), Entrance::Slot);
        assert_eq!(calls.enter(), Entrance::Queue);
        calls.give_up();
        calls.leave();
        assert!(!calls.hand_on());
        assert_eq!(calls.enter(), Entrance::Slot);
    }

    #[test]
    fn a_limit_that_moves_lies_between_its_bounds() {
        assert!(adaptive(0, 1_000).check().is_ok());
        assert!(adaptive(0, 1_001).check().is_err());
        assert!(adaptive(10, 11).check().is_err());
        assert!(adaptive(10, 0).check().is_err());
        assert_eq!(Concurrency::new(&adaptive(0, 1)).limit(), 20);
        assert_eq!(Concurrency::new(&adaptive(7, 1)).limit(), 7);
    }

    #[test]
    fn other_settings_leave_everybody_where_they_are() {
        let mut calls = concurrency(2, 3);
        for _ in 0..5 {
            let _ = calls.enter();
        }
        calls.adopt(&ConcurrencySettings {
            limit: 1,
            waiting_max: 1,
            ..ConcurrencySettings::default()
        });
        assert_eq!((calls.in_flight(), calls.waiting()), (2, 3));
        assert_eq!(calls.enter(), Entrance::Full);
        calls.leave();
        assert!(!calls.hand_on(), "one is the limit now");
        calls.leave();
        assert!(calls.hand_on());
        assert!(!calls.hand_on());
        calls.adopt(&ConcurrencySettings::default());
        assert!(calls.hand_on() && calls.hand_on() && !calls.hand_on());
    }

    #[test]
    fn a_limit_that_moved_goes_on_from_where_it_is() {
        let mut calls = Concurrency::new(&adaptive(0, 1));
        (0..20).for_each(|_| assert_eq!(calls.enter(), Entrance::Slot));
        for now in 0..2_000 {
            calls.sample(Duration::from_millis(5), Verdict::Success, now);
        }
        let found = calls.limit();
        assert!(found > 20, "{found}");
        calls.adopt(&adaptive(500, 2));
        assert_eq!(calls.limit(), found);
        calls.adopt(&adaptive(10, 2));
        assert_eq!(calls.limit(), 10);
    }

    /// Fixed and moving limits, other settings in between: who gets a slot finds less than
    /// the limit taken, and the counts are those of a model.
    #[test]
    fn random_histories_never_exceed_the_limit() {
        for seed in 0..200 {
            let mut chance = Chance(seed);
            let mut small = |limit: u64| u32::try_from(chance.below(limit)).unwrap();
            let settings = |small: &mut dyn FnMut(u64) -> u32| ConcurrencySettings {
                limit: 1 + small(8),
                mode: match small(2) {
                    0 => LimitMode::Fixed,
                    _ => LimitMode::Adaptive { least: 1 },
                },
                waiting_max: small(4),
                wait_max: Duration::from_secs(1),
            };
            let mut now_settings = settings(&mut small);
            let mut calls = Concurrency::new(&now_settings);
            let (mut inside, mut queue, mut now) = (0_u32, 0_u32, 0_u64);
            for step in 0..3_000 {
                now += u64::from(small(30));
                let at = format!("seed {seed} step {step}");
                let room = inside < calls.limit();
                assert!(
                    calls.limit() >= 1 && calls.limit() <= now_settings.limit,
                    "{at}"
                );
                match small(12) {
                    0..=4 => match calls.enter() {
                        Entrance::Slot => {
                            assert!(room && queue == 0, "{at}");
                            inside += 1;
                        }
                        Entrance::Queue => {
                            assert!(queue < now_settings.waiting_max, "{at}");
                            assert!(!room || queue > 0, "{at}");
                            queue += 1;
                        }
                        Entrance::Full => {
                            assert!(queue >= now_settings.waiting_max, "{at}");
                            assert!(!room || queue > 0, "{at}");
                        }
                    },
                    5..=7 if inside > 0 => {
                        calls.leave();
                        inside -= 1;
                    }
                    8 if queue > 0 => {
                        calls.give_up();
                        queue -= 1;
                    }
                    9 | 10 => {
                        let verdict = match small(4) {
                            0 => Verdict::Failure,
                            _ => Verdict::Success,
                        };
                        let elapsed = Duration::from_millis(u64::from(small(50)));
                        calls.sample(elapsed, verdict, now);
                    }
                    11 if small(20) == 0 => {
                        now_settings = settings(&mut small);
                        calls.adopt(&now_settings);
                    }
                    _ => {}
                }
                loop {
                    let due = queue > 0 && inside < calls.limit();
                    assert_eq!(calls.hand_on(), due, "{at}");
                    if !due {
                        break;
                    }
                    queue -= 1;
                    inside += 1;
                }
                assert_eq!(
                    (calls.in_flight(), calls.waiting()),
                    (inside, queue),
                    "{at}"
                );
            }
        }
    }
}
