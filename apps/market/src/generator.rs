//! A market that nobody trades on: prices that walk at random, the same for the same seed.
//!
//! Only sums and products are used, which every machine rounds alike, so that a seed gives the
//! same stream everywhere.

use crate::wire::{Snapshot, Tick};

/// The market.
#[derive(Debug, Clone)]
pub struct Generator {
    symbols: Vec<Walk>,
    /// Every symbol once; those of a step are drawn from its head.
    order: Vec<u32>,
    rate: f64,
    /// The part of a symbol that the last step did not draw.
    owed: f64,
    random: Random,
}

/// What a symbol came to in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move<'a> {
    /// Which symbol, counted from 0.
    pub index: usize,
    /// The trade.
    pub tick: Tick<'a>,
    /// Bid and ask after it; `last` and `volume` are not told.
    pub quote: Snapshot<'a>,
}

#[derive(Debug, Clone)]
struct Walk {
    name: Box<str>,
    /// Where the price is drawn to, in cents.
    home: f64,
    cents: f64,
    /// How far a step goes, as a share of the price.
    stride: f64,
}

impl Generator {
    /// A market of so many symbols, called `S000`, `S001` and so on, of which each step changes
    /// the share `rate` (0 to 1).
    pub fn new(symbols: usize, seed: u64, rate: f64) -> Self {
        let mut random = Random::new(seed);
        let digits = symbols.saturating_sub(1).max(100).ilog10() as usize + 1;
        let walks = (0..symbols).map(|index| {
            // From 5 to about 1,250; more of them cheap than dear.
            let home =
                (500.0 + 124_500.0 * random.share() * random.share() * random.share()).floor();
            Walk {
                name: format!("S{index:0digits$}").into(),
                home,
                cents: home,
                stride: 0.0002 + 0.0010 * random.share(),
            }
        });
        let walks: Vec<Walk> = walks.collect();
        Self {
            order: (0..walks.len() as u32).collect(),
            symbols: walks,
            rate: if rate.is_finite() {
                rate.clamp(0.0, 1.0)
            } else {
                0.0
            },
            owed: 0.0,
            random,
        }
    }

    /// Every symbol trades once, so that there is something to see from the beginning.
    pub fn open(&mut self, ts_ms: i64, mut each: impl FnMut(Move<'_>)) {
        for (index, walk) in self.symbols.iter_mut().enumerate() {
            each(walk.step(index, ts_ms, &mut self.random));
        }
    }

    /// A share of the symbols trades, each at most once.
    pub fn step(&mut self, ts_ms: i64, mut each: impl FnMut(Move<'_>)) {
        self.owed += self.rate * self.symbols.len() as f64;
        let count = (self.owed.floor() as usize).min(self.symbols.len());
        self.owed -= count as f64;
        for at in 0..count {
            let other = at + self.random.below(self.order.len() - at);
            self.order.swap(at, other);
            let index = self.order[at] as usize;
            each(self.symbols[index].step(index, ts_ms, &mut self.random));
        }
    }

    /// Names of the symbols, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.symbols.iter().map(|walk| &*walk.name)
    }
}

impl Walk {
    fn step(&mut self, index: usize, ts_ms: i64, random: &mut Random) -> Move<'_> {
        // Four draws make a bell; what leads away from home gets ever harder.
        let bell = random.share() + random.share() + random.share() + random.share() - 2.0;
        let pull = (self.home - self.cents) * 0.0005;
        self.cents = (self.cents * (1.0 + bell * self.stride) + pull)
            .clamp(self.home * 0.2, self.home * 5.0);
        let cents = self.cents.floor().max(2.0);
        let half_spread = (cents * 0.0001 * (1.0 + random.share())).floor().max(1.0);
        let trade_is_buy = random.below(2) == 0;
        let middle = if trade_is_buy {
            cents - half_spread
        } else {
            cents + half_spread
        };
        let (bid, ask) = ((middle - half_spread).max(1.0), middle + half_spread);
        // Mostly small, sometimes large, in lots of ten.
        let most = 1 + random.below(100);
        let lots = 1 + random.below(most);
        let symbol = self.name.as_bytes();
        Move {
            index,
            tick: Tick {
                ts_ms,
                symbol,
                price: cents / 100.0,
                volume: lots as u64 * 10,
            },
            quote: Snapshot {
                ts_ms,
                symbol,
                bid: bid / 100.0,
                ask: ask / 100.0,
                bid_size: 100 * (1 + random.below(50)) as u64,
                ask_size: 100 * (1 + random.below(50)) as u64,
                last: 0.0,
                volume: 0,
            },
        }
    }
}

/// SplitMix64: small, fast, and good enough for prices that nobody believes.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `end` must not be 0.
    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u64) -> Vec<(usize, f64, u64, f64, f64)> {
        let mut moves = Vec::new();
        let mut generator = Generator::new(50, seed, 0.23);
        let mut note = |one: Move<'_>| {
            moves.push((
                one.index,
                one.tick.price,
                one.tick.volume,
                one.quote.bid,
                one.quote.ask,
            ));
        };
        generator.open(1, &mut note);
        for ts_ms in 2..200 {
            generator.step(ts_ms, &mut note);
        }
        moves
    }

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
    }

    #[test]
    fn prices_stay_plausible_for_days() {
        let mut generator = Generator::new(20, 1, 1.0);
        let homes: Vec<f64> = generator.symbols.iter().map(|walk| walk.home).collect();
        for ts_ms in 0..100_000 {
            generator.step(ts_ms, |one| {
                let home = homes[one.index] / 100.0;
                let price = one.tick.price;
                assert!(
                    price >= home * 0.19 && price <= home * 5.0,
                    "{price} of {home}"
                );
                assert!(one.quote.bid < one.quote.ask, "{:?}", one.quote);
                assert!(one.quote.bid <= price && price <= one.quote.ask, "{one:?}");
                assert!(one.tick.volume > 0 && one.quote.bid_size > 0);
            });
        }
    }

    #[test]
    fn a_step_changes_the_share_that_was_asked_for() {
        let mut generator = Generator::new(50, 3, 0.05);
        let mut count = 0;
        for ts_ms in 0..100 {
            let mut seen = Vec::new();
            generator.step(ts_ms, |one| seen.push(one.index));
            count += seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert!(seen.len() == 2 || seen.len() == 3);
        }
        assert_eq!(count, 250);
    }

    #[test]
    fn names_have_the_digits_they_need() {
        let first = |symbols| {
            Generator::new(symbols, 1, 1.0)
                .names()
                .next()
                .map(str::to_owned)
        };
        assert_eq!(first(200).as_deref(), Some("S000"));
        assert_eq!(first(1_000).as_deref(), Some("S000"));
        assert_eq!(first(10_000).as_deref(), Some("S0000"));
        assert_eq!(first(0), None);
    }
}
