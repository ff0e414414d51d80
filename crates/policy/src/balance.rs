//! Which of several endpoints gets the next call.
//!
//! Two are drawn by weight, *with replacement*, and the less loaded one is taken. So no
//! endpoint is ever without calls: the worst of all is still drawn twice now and then,
//! and what is measured there is fresh.
//!
//! * **Load** is latency × (1 + calls under way ÷ weight). The weight divides only the
//!   calls under way, since the draw honours it already: endpoints at rest are chosen
//!   exactly by weight, busy ones by how much of their share is in use.
//! * **Latency** is a peak that decays: a slower call counts at once, faster ones wear it
//!   off over ten seconds. A fifth more or less is no difference, and an endpoint that nobody has
//!   measured is taken to be like its rival.
//! * **Failure** is answered fast, so it must not look like speed: it adds a penalty of
//!   five seconds, or of what the endpoint asked for. The penalty fades with time, and
//!   each success halves it: one failure in a hundred must not send all calls elsewhere.
//! * **Cancelled calls** say that the endpoint takes at least as long as they lasted. They
//!   raise the latency and never lower it.
//! * **Ejection.** An endpoint with five hard failures in a row, or with a share of
//!   successes far below that of the others, gets no calls for 30 s times the number of
//!   ejections in a row, up to 300 s. At most half of the endpoints are out at the same
//!   time; and if nothing else is admitted, the ejected are used all the same.
//! * **Ramp.** What comes back, and what is new beside others, has its weight grow over
//!   ten seconds.
//!
//! What must hold: every [`Balance::began`] is answered by one [`Balance::ended`].

use std::time::Duration;

use crate::Verdict;

mod endpoint;

use endpoint::{Choice, Endpoint, LATENCY_LEAST_US, MICROS_PER_SECOND, RAMP_MS};

/// The endpoints of one target, by index, and what is known of them.
#[derive(Debug)]
pub struct Balance {
    endpoints: Vec<Endpoint>,
    /// Sums of the weights up to and with each endpoint.
    odds: Vec<u64>,
    /// Before this moment an endpoint may be ejected or on its ramp, so all are looked at.
    uneven_until: u64,
    scratch: Vec<u64>,
}

/// What a call came to, for [`Balance::ended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// From sending it to the first byte of its answer; to its end, if there was none.
    pub elapsed: Duration,
    /// What it says; [`Verdict::Neutral`] if it was cancelled or its request was wrong.
    pub verdict: Verdict,
    /// When the endpoint wants to be asked again; counts for failures, up to 300 s.
    pub after: Option<Duration>,
}

/// An endpoint was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// For so long.
    pub length: Duration,
    /// How many in a row, this one included.
    pub row: u32,
    /// It was compared with the others; otherwise it failed several times in a row.
    pub by_comparison: bool,
}

/// What an endpoint looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointState {
    /// Calls under way.
    pub pending: u32,
    /// Its latency as it is weighed now, without penalty; `None` if nothing was measured.
    pub latency: Option<Duration>,
    /// Ejected for so long; `None` if it is not.
    pub ejected: Option<Duration>,
}

impl Balance {
    /// Endpoints with these weights. One of weight 0 gets calls only if no other can;
    /// if all are 0, all are the same.
    pub fn new(weights: &[u32]) -> Self {
        let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let weighted = weights.iter().filter(|weight| **weight > 0).count();
        let average = all as f64 / weighted.max(1) as f64;
        let endpoints: Vec<_> = weights
            .iter()
            .map(|weight| {
                if all == 0 {
                    Endpoint::new(1, 1.0)
                } else if *weight == 0 {
                    Endpoint::new(0, 1.0)
                } else {
                    Endpoint::new(*weight, f64::from(*weight) / average)
                }
            })
            .collect();
        let odds = endpoints
            .iter()
            .scan(0_u64, |sum, endpoint| {
                *sum += u64::from(endpoint.weight);
                Some(*sum)
            })
            .collect();
        Self {
            scratch: Vec::with_capacity(weights.len()),
            endpoints,
            odds,
            uneven_until: 0,
        }
    }

    /// The same for other endpoints, with what is known of those that stay: `stays[i]` is
    /// the present index of the new endpoint `i`, or `None` if it is new. Calls under way
    /// are not carried over, they end where they began. New ones begin on a ramp.
    #[must_use]
    pub fn renewed(&self, weights: &[u32], stays: &[Option<usize>], now: u64) -> Self {
        let mut renewed = Self::new(weights);
        let any_stays = stays.iter().any(Option::is_some);
        for (index, endpoint) in renewed.endpoints.iter_mut().enumerate() {
            let old = stays
                .get(index)
                .copied()
                .flatten()
                .and_then(|old| self.endpoints.get(old));
            if let Some(old) = old {
                endpoint.latency = old.latency;
                endpoint.penalty = old.penalty;
                endpoint.health = old.health.clone();
            } else if any_stays {
                endpoint.health.back = Some(now);
            }
            if let Some(back) = endpoint.health.back {
                renewed.uneven_until = renewed.uneven_until.max(back.saturating_add(RAMP_MS));
            }
        }
        renewed
    }

    /// Chooses among the endpoints that are admitted: the caller's breakers say which.
    /// It may be asked more than once about the same one. `None` if it admits none.
    pub fn pick(
        &mut self,
        now: u64,
        random: u64,
        mut admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        if self.endpoints.len() == 1 {
            return admits(0).then_some(0);
        }
        if now >= self.uneven_until {
            let (first, second) = draw_two(&self.odds, random)?;
            if admits(first) && (first == second || admits(second)) {
                return Some(self.less_loaded(first, second, now));
            }
        }
        let admitted: Vec<bool> = (0..self.endpoints.len()).map(admits).collect();
        [Choice::Weighted, Choice::Spare, Choice::Any]
            .into_iter()
            .find_map(|choice| self.pick_from(&admitted, choice, now, random))
    }

    /// A call was sent to this endpoint.
    pub fn began(&mut self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.pending = endpoint.pending.saturating_add(1);
        }
    }

    /// A call to it ended. For a stream that is when it ends, unless its outcome was told
    /// before by [`Balance::answered`].
    pub fn ended(&mut self, endpoint: usize, now: u64, outcome: Outcome) -> Option<Ejection> {
        self.released(endpoint);
        self.answered(endpoint, now, outcome)
    }

    /// A call to it ended whose outcome was told before.
    pub fn released(&mut self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.pending = endpoint.pending.saturating_sub(1);
        }
    }

    /// A call's outcome is known while the call goes on, as with a stream that has begun;
    /// to be followed by [`Balance::released`].
    pub fn answered(&mut self, endpoint: usize, now: u64, outcome: Outcome) -> Option<Ejection> {
        if self.endpoints.len() < 2 {
            // There is no choice, so nothing needs to be known; state() says nothing then.
            return None;
        }
        let one = self.endpoints.get_mut(endpoint)?;
        one.measure(now, outcome);
        if one.health.is_out(now) {
            // These calls began before, or for want of others; it is judged when it is back.
            return None;
        }
        let by_row = one.health.count(outcome.verdict, now);
        if !matches!(outcome.verdict, Verdict::Failure | Verdict::Soft) {
            return None;
        }
        if !by_row && !self.is_far_behind(endpoint, now) {
            return None;
        }
        self.eject(endpoint, now, !by_row)
    }

    /// This endpoint is well again by what others know, such as its breaker: its ramp
    /// begins.
    pub fn recovered(&mut self, endpoint: usize, now: u64) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint)
            && !endpoint.health.is_out(now)
        {
            endpoint.health.back = Some(now);
            self.uneven_until = self.uneven_until.max(now.saturating_add(RAMP_MS));
        }
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// What an endpoint looks like; `None` if there is no such one.
    pub fn state(&self, endpoint: usize, now: u64) -> Option<EndpointState> {
        let endpoint = self.endpoints.get(endpoint)?;
        let ejected = endpoint.health.back.filter(|back| now < *back);
        Some(EndpointState {
            pending: endpoint.pending,
            latency: endpoint
                .latency
                .map(|latency| Duration::from_secs_f64(latency.decayed(now) / MICROS_PER_SECOND)),
            ejected: ejected.map(|back| Duration::from_millis(back - now)),
        })
    }

    fn pick_from(
        &mut self,
        admitted: &[bool],
        choice: Choice,
        now: u64,
        random: u64,
    ) -> Option<usize> {
        self.scratch.clear();
        let mut sum = 0_u64;
        for (endpoint, admitted) in self.endpoints.iter().zip(admitted) {
            if *admitted {
                sum += endpoint.share(choice, now);
            }
            self.scratch.push(sum);
        }
        let (first, second) = draw_two(&self.scratch, random)?;
        Some(self.less_loaded(first, second, now))
    }

    /// The first of the two on a tie, which is what makes endpoints at rest go by weight.
    fn less_loaded(&self, first: usize, second: usize, now: u64) -> usize {
        if first == second {
            return first;
        }
        let (Some(one), Some(other)) = (self.endpoints.get(first), self.endpoints.get(second))
        else {
            return first;
        };
        let (mine, theirs) = match (one.latency, other.latency) {
            (Some(mine), Some(theirs)) => alike(mine.decayed(now), theirs.decayed(now)),
            (Some(known), None) | (None, Some(known)) => {
                let known = known.decayed(now);
                (known, known)
            }
            (None, None) => (LATENCY_LEAST_US, LATENCY_LEAST_US),
        };
        if other.load(theirs, now) < one.load(mine, now) {
            second
        } else {
            first
        }
    }

    fn is_far_behind(&mut self, endpoint: usize, now: u64) -> bool {
        let (mut own, mut others) = ((0, 0), (0, 0));
        for (index, one) in self.endpoints.iter_mut().enumerate() {
            let (good, bad) = one.health.window.totals(now);
            let sums = if index == endpoint {
                &mut own
            } else {
                &mut others
            };
            *sums = (sums.0 + good, sums.1 + bad);
        }
        let enough = |(good, bad)| good + bad >= COMPARED_LEAST;
        let share = |(good, bad): (u64, u64)| good as f64 / (good + bad) as f64;
        enough(own) && enough(others) && share(own) + FAR_BEHIND < share(others)
    }

    fn eject(&mut self, endpoint: usize, now: u64, by_comparison: bool) -> Option<Ejection> {
        let out = self
            .endpoints
            .iter()
            .filter(|one| one.health.is_out(now))
            .count();
        if (out + 1) * 2 > self.endpoints.len() {
            return None;
        }
        let health = &mut self.endpoints.get_mut(endpoint)?.health;
        let relapse = health
            .back
            .is_some_and(|back| now < back.saturating_add(health.out_ms.max(RAMP_MS)));
        health.row = if relapse {
            health.row.saturating_add(1)
        } else {
            1
        };
        health.out_ms = EJECTED_MS
            .saturating_mul(u64::from(health.row))
            .min(EJECTED_MS_MAX);
        let back = now.saturating_add(health.out_ms);
        health.back = Some(back);
        health.consecutive = 0;
        health.window.clear();
        self.uneven_until = self.uneven_until.max(back.saturating_add(RAMP_MS));
        Some(Ejection {
            length: Duration::from_millis(health.out_ms),
            row: health.row,
            by_comparison,
        })
    }
}

/// Two draws with replacement from sums of shares; `None` if there is nothing to draw.
fn draw_two(sums: &[u64], random: u64) -> Option<(usize, usize)> {
    let all = sums.last().copied().filter(|all| *all > 0)?;
    let draw = |part: u64| {
        let at = (u128::from(part) * u128::from(all)) >> 32;
        sums.partition_point(|sum| u128::from(*sum) <= at)
    };
    Some((draw(random >> 32), draw(random & 0xffff_ffff)))
}

/// Latencies that differ by little are the same, or the one that is measured less often,
/// and so has decayed more, would always win.
fn alike(one: f64, other: f64) -> (f64, f64) {
    let most = one.max(other);
    if one.min(other) > most * ALIKE {
        (most, most)
    } else {
        (one, other)
    }
}

const ALIKE: f64 = 0.8;
/// Outcomes within that time, its own and those of the others, that a comparison needs.
const COMPARED_LEAST: u64 = 20;
/// So much lower a share of successes is far behind.
const FAR_BEHIND: f64 = 0.3;
const EJECTED_MS: u64 = 30_000;
const EJECTED_MS_MAX: u64 = 300_000;

#[cfg(test)]
mod tests;
