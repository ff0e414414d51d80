use super::*;
use crate::chance::Chance;

/// An upstream that works at so many calls at once, each for so long; the rest queue in it.
struct Upstream {
    at_once: f64,
    work_ms: f64,
}

impl Upstream {
    /// Runs for so many seconds with at most `wanted` calls at once, all latencies varied
    /// by a fifth.
    fn run(
        &self,
        adaptive: &mut Adaptive,
        chance: &mut Chance,
        now: &mut u64,
        s: u64,
        wanted: u32,
    ) {
        let end = *now + s * 1_000;
        while *now < end {
            let in_flight = adaptive.limit().min(wanted);
            adaptive.saw(in_flight);
            let latency = self.work_ms * (f64::from(in_flight) / self.at_once).max(1.0);
            // What ends within ten milliseconds.
            let ended = (f64::from(in_flight) * 10.0 / latency).round() as u32;
            *now += 10;
            for _ in 0..ended.max(1) {
                let varied = latency * (0.8 + chance.below(400) as f64 / 1_000.0);
                let elapsed = Duration::from_secs_f64(varied / 1e3);
                adaptive.sample(elapsed, Verdict::Success, in_flight, *now);
            }
        }
    }
}

const FORTY: Upstream = Upstream {
    at_once: 40.0,
    work_ms: 10.0,
};

#[test]
fn it_finds_the_level_of_the_upstream_and_stays_there() {
    let (mut adaptive, mut chance, mut now) = (Adaptive::new(1, 1_000), Chance(1), 5_000);
    FORTY.run(&mut adaptive, &mut chance, &mut now, 20, u32::MAX);
    assert!((40..90).contains(&adaptive.limit()), "{adaptive:?}");
    FORTY.run(&mut adaptive, &mut chance, &mut now, 3_600, u32::MAX);
    assert!((40..90).contains(&adaptive.limit()), "{adaptive:?}");
}

#[test]
fn what_is_not_used_neither_grows_nor_shrinks() {
    let (mut adaptive, mut chance, mut now) = (Adaptive::new(1, 1_000), Chance(2), 0);
    FORTY.run(&mut adaptive, &mut chance, &mut now, 20, u32::MAX);
    let before = adaptive.limit();
    FORTY.run(&mut adaptive, &mut chance, &mut now, 600, 4);
    assert_eq!(adaptive.limit(), before);
    let slow = Upstream {
        at_once: 40.0,
        work_ms: 500.0,
    };
    slow.run(&mut adaptive, &mut chance, &mut now, 600, 4);
    assert_eq!(adaptive.limit(), before);
}

#[test]
fn it_does_not_run_ahead_of_the_load() {
    let (mut adaptive, mut chance, mut now) = (Adaptive::new(1, 1_000), Chance(3), 0);
    FORTY.run(&mut adaptive, &mut chance, &mut now, 600, 25);
    assert!((20..=55).contains(&adaptive.limit()), "{adaptive:?}");
}

#[test]
fn an_upstream_that_loses_half_of_its_strength_gets_less() {
    let (mut adaptive, mut chance, mut now) = (Adaptive::new(1, 1_000), Chance(4), 0);
    FORTY.run(&mut adaptive, &mut chance, &mut now, 30, u32::MAX);
    let weaker = Upstream {
        at_once: 10.0,
        work_ms: 10.0,
    };
    weaker.run(&mut adaptive, &mut chance, &mut now, 20, u32::MAX);
    assert!((10..30).contains(&adaptive.limit()), "{adaptive:?}");
    FORTY.run(&mut adaptive, &mut chance, &mut now, 30, u32::MAX);
    assert!((40..90).contains(&adaptive.limit()), "{adaptive:?}");
}

#[test]
fn an_upstream_that_became_slower_for_good_is_believed() {
    for work_ms in [17.0, 25.0, 50.0, 200.0] {
        let (mut adaptive, mut chance, mut now) = (Adaptive::new(1, 1_000), Chance(5), 0);
        FORTY.run(&mut adaptive, &mut chance, &mut now, 30, u32::MAX);
        let slower = Upstream {
            at_once: 40.0,
            work_ms,
        };
        slower.run(&mut adaptive, &mut chance, &mut now, 120, u32::MAX);
        assert!(
            (35..90).contains(&adaptive.limit()),
            "{work_ms} {adaptive:?}"
        );
    }
}

#[test]
fn failures_lower_it_down_to_its_least() {
    let mut adaptive = Adaptive::new(3, 100);
    let begin = adaptive.limit();
    for now in 0..10_000 {
        let in_flight = adaptive.limit();
        adaptive.sample(Duration::ZERO, Verdict::Soft, in_flight, now);
        assert!(adaptive.limit() <= begin);
    }
    assert_eq!(adaptive.limit(), 3);
}

#[test]
fn cancelled_calls_say_nothing() {
    let mut adaptive = Adaptive::new(1, 100);
    for now in 0..10_000 {
        adaptive.sample(Duration::from_secs(9), Verdict::Neutral, 20, now);
    }
    assert_eq!((adaptive.limit(), adaptive.baseline), (20, None));
}

#[test]
fn the_bounds_hold_whatever_comes() {
    for seed in 0..50 {
        let mut chance = Chance(seed);
        let least = 1 + u32::try_from(chance.below(20)).unwrap();
        let most = least + u32::try_from(chance.below(50)).unwrap();
        let mut adaptive = Adaptive::new(least, most);
        let mut now = 0;
        for _ in 0..5_000 {
            now += chance.below(40);
            let verdict = match chance.below(20) {
                0 => Verdict::Failure,
                1 => Verdict::Neutral,
                _ => Verdict::Success,
            };
            let elapsed = Duration::from_nanos(chance.below(1 << 34));
            let in_flight = u32::try_from(chance.below(u64::from(most) + 1)).unwrap();
            adaptive.sample(elapsed, verdict, in_flight, now);
            let limit = adaptive.limit();
            assert!((least..=most).contains(&limit), "seed {seed}: {limit}");
        }
    }
}
