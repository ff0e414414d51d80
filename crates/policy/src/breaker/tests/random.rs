//! Random operations against what must always hold.

use super::*;

/// A fixed sequence per seed; quality does not matter here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What the test knows without looking into the breaker.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    open_until: Option<u64>,
    /// Half-open since the open time was over and a call came.
    half_open: bool,
    /// Probes of the present half-open state that are out.
    probes: u32,
    /// Rises with each transition.
    era: u64,
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let probes_max = 1 + u32::try_from(seed % 3).unwrap();
    let mut breaker = Breaker::new(BreakerSettings {
        consecutive: 3,
        rate: seed.is_multiple_of(2).then_some(FailureRate {
            share: 0.5,
            window: Duration::from_secs(2),
            minimum: 8,
        }),
        open: Backoff::new(Duration::from_millis(500), 2.0, Duration::from_secs(4), 0.3).unwrap(),
        probes: probes_max,
        ramp: Duration::from_millis(300 * (seed % 2)),
    });
    let mut model = Model::default();
    let mut out: Vec<(u64, Pass)> = Vec::new();
    for step in 0..2_000 {
        let at = format!("seed {seed} step {step} {model:?}");
        model.now += chance.below(120);
        let random = chance.below(u64::MAX);
        if chance.below(2) == 0 {
            admit(&mut breaker, &mut model, &mut out, random, probes_max, &at);
        } else if !out.is_empty() {
            let index = usize::try_from(chance.below(out.len() as u64)).unwrap();
            let (era, pass) = out.swap_remove(index);
            let verdict = match chance.below(8) {
                0..=3 => Verdict::Failure,
                4 => Verdict::Soft,
                5 => Verdict::Neutral,
                _ => Verdict::Success,
            };
            settle(&mut breaker, &mut model, era, pass, verdict, random, &at);
        }
    }
}

fn admit(
    breaker: &mut Breaker,
    model: &mut Model,
    out: &mut Vec<(u64, Pass)>,
    random: u64,
    probes_max: u32,
    at: &str,
) {
    let now = model.now;
    let open = model.open_until.is_some_and(|until| now < until);
    let full = model.half_open && model.probes >= probes_max;
    let looked = breaker.check(now);
    assert_eq!(looked, breaker.check(now), "looking changes nothing: {at}");
    match breaker.reserve(now, random) {
        Ok(pass) => {
            assert!(!open, "admitted while open: {at}");
            assert!(!full, "one probe too many: {at}");
            assert!(looked.is_ok(), "{at}");
            if model.open_until.take().is_some() {
                model.half_open = true;
                model.probes = 0;
                model.era += 1;
            }
            assert_eq!(pass.is_probe(), model.half_open, "{at}");
            model.probes += u32::from(pass.is_probe());
            out.push((model.era, pass));
        }
        Err(Refusal::BreakerOpen { retry_after }) => {
            let until = now + millis(retry_after);
            assert_eq!(model.open_until, Some(until), "{at}");
        }
        Err(Refusal::ProbeTaken) => assert!(full, "a free probe was refused: {at}"),
        Err(Refusal::Recovering { .. }) => {
            assert!(looked.is_ok() && !open && !model.half_open, "{at}");
        }
        Err(other) => panic!("{other} is not a breaker's: {at}"),
    }
}

fn settle(
    breaker: &mut Breaker,
    model: &mut Model,
    era: u64,
    pass: Pass,
    verdict: Verdict,
    random: u64,
    at: &str,
) {
    let probe = pass.is_probe();
    let before = breaker.state(model.now);
    let transition = breaker.settle(pass, verdict, None, model.now, random);
    if era != model.era {
        assert_eq!(transition, None, "a stale outcome counted: {at}");
        assert_eq!(breaker.state(model.now), before, "{at}");
        return;
    }
    match transition {
        Some(Transition::Opened(span)) => {
            assert_ne!(verdict, Verdict::Neutral, "{at}");
            assert!(span >= Duration::from_millis(350), "{at}");
            assert!(span <= Duration::from_millis(5_200), "{at}");
            model.open_until = Some(model.now + millis(span));
            model.half_open = false;
            model.era += 1;
        }
        Some(Transition::Closed) => {
            assert!(probe && verdict == Verdict::Success, "{at}");
            model.half_open = false;
            model.era += 1;
        }
        None if probe => {
            assert_eq!(verdict, Verdict::Neutral, "a probe had no effect: {at}");
            model.probes -= 1;
        }
        None => {}
    }
}

#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..300 {
        run(seed);
    }
}
