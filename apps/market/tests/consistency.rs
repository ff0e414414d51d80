//! Random markets, random moments: whoever has a snapshot and the batches after it has the truth.

use std::collections::BTreeMap;

use api::Message as _;
use api::xy::md::v1;
use bus::Now;
use market::aggregator::{Aggregator, Grouping, Limits};
use market::generator::Generator;

const GROUPS: usize = 3;

/// Price and volume of every symbol.
type Prices = BTreeMap<String, (f64, u64)>;

/// A batch of each group that changed.
type Cuts = BTreeMap<usize, Vec<u8>>;

/// What a client of one group does.
#[derive(Debug, Default, Clone)]
struct Client {
    seq: u64,
    prices: Prices,
}

impl Client {
    fn of(payload: &[u8]) -> Self {
        let batch = v1::SnapshotBatch::decode(payload).expect("it is a snapshot");
        let entries = batch.snapshots.into_iter();
        let prices = entries.map(|one| (one.symbol, (one.last, one.volume)));
        Self {
            seq: batch.seq,
            prices: prices.collect(),
        }
    }

    fn apply(&mut self, payload: &[u8]) {
        let batch = v1::TickBatch::decode(payload).expect("it is a batch");
        if batch.seq <= self.seq {
            return;
        }
        assert_eq!(batch.seq, self.seq + 1, "no batch is missing");
        self.seq = batch.seq;
        for tick in batch.ticks {
            let known = self.prices.entry(tick.symbol).or_default();
            *known = (tick.price, known.1 + tick.volume);
        }
    }
}

#[test]
fn snapshot_and_following_batches_are_the_truth() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut market = Market::new();
        // Clients begin at any moment, with whatever snapshot there is.
        let mut clients: Vec<(usize, Client)> = Vec::new();
        for _ in 0..random.below(400) {
            match random.below(10) {
                0..=5 => market.trade(&mut random),
                6..=7 => {
                    let is_taken = random.below(4) > 0;
                    let cuts = market.cut(is_taken);
                    tell(&mut clients, &cuts);
                }
                8 => {
                    let group = random.below(GROUPS);
                    clients.push((group, Client::of(&market.snapshot(group))));
                }
                _ => {
                    let cuts = market.restart();
                    tell(&mut clients, &cuts);
                }
            }
        }
        let cuts = market.cut(true);
        tell(&mut clients, &cuts);
        for (group, client) in clients {
            assert_eq!(client.prices, market.truth(group), "seed {seed}");
        }
        for group in 0..GROUPS {
            let known = Client::of(&market.snapshot(group)).prices;
            assert_eq!(known, market.truth(group), "seed {seed}");
        }
    }
}

#[test]
fn one_seed_makes_the_same_bytes() {
    let run = |seed| {
        let mut aggregator = aggregator();
        let mut generator = Generator::new(50, seed, 0.3);
        let mut out = Vec::new();
        for round in 0..100_u64 {
            let now = at(round * 33);
            generator.step(now.unix_ms.cast_signed(), |one| {
                aggregator.take_tick(&one.tick, now).expect("it is a tick");
                aggregator
                    .take_quote(&one.quote, now)
                    .expect("it is a quote");
            });
            aggregator.cut_ticks(now, |offer| {
                out.extend_from_slice(offer.payload);
                true
            });
            if round % 10 == 0 {
                for group in 0..GROUPS {
                    out.extend(
                        aggregator
                            .snapshot(group, now, 0)
                            .expect("it exists")
                            .payload,
                    );
                }
            }
        }
        out
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

/// An aggregator, and what it should know.
struct Market {
    aggregator: Aggregator,
    trades: u64,
    truth: Vec<Prices>,
    /// What a stream would keep: the last snapshot of each group, and the batches since.
    kept: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Market {
    fn new() -> Self {
        let mut market = Self {
            aggregator: aggregator(),
            trades: 0,
            truth: vec![Prices::new(); GROUPS],
            kept: vec![(Vec::new(), Vec::new()); GROUPS],
        };
        for group in 0..GROUPS {
            market.snapshot(group);
        }
        market
    }

    fn trade(&mut self, random: &mut Random) {
        self.trades += 1;
        let symbol = format!("S{}", random.below(20));
        let now = at(self.trades);
        let price = 1.0 + random.below(1000) as f64 / 8.0;
        let volume = random.below(100) as u64;
        let group = self.aggregator.grouping().group_of(&symbol);
        let known = self.truth[group].entry(symbol.clone()).or_default();
        *known = (price, known.1 + volume);
        let subject = format!("xy.src.tick.demo.{symbol}");
        let tick = v1::Tick {
            ts_ms: now.unix_ms.cast_signed(),
            symbol,
            price,
            volume,
        };
        self.aggregator
            .take(&subject, None, &tick.encode_to_vec(), now)
            .expect("it is a tick");
    }

    fn cut(&mut self, is_taken: bool) -> Cuts {
        let mut cuts = BTreeMap::new();
        self.aggregator.cut_ticks(at(self.trades), |offer| {
            if is_taken {
                cuts.insert(offer.group, offer.payload.to_vec());
            }
            is_taken
        });
        for (group, payload) in &cuts {
            self.kept[*group].1.push(payload.clone());
        }
        cuts
    }

    fn snapshot(&mut self, group: usize) -> Vec<u8> {
        let now = at(self.trades);
        let snapshot = self.aggregator.snapshot(group, now, 0);
        let payload = snapshot.expect("there is such a group").payload.to_vec();
        self.kept[group] = (payload.clone(), Vec::new());
        payload
    }

    /// The process ends in good order, and another takes its place.
    fn restart(&mut self) -> Cuts {
        let cuts = self.cut(true);
        let mut after = aggregator();
        for (group, (snapshot, batches)) in self.kept.iter().enumerate() {
            let name = format!("g{group:02}");
            after
                .restore_snapshot(&name, snapshot)
                .expect("it is a snapshot");
            for batch in batches {
                after.restore_ticks(&name, batch).expect("it is a batch");
            }
        }
        self.aggregator = after;
        cuts
    }

    fn truth(&self, group: usize) -> Prices {
        self.truth[group].clone()
    }
}

fn tell(clients: &mut [(usize, Client)], cuts: &Cuts) {
    for (group, client) in clients {
        if let Some(payload) = cuts.get(group) {
            client.apply(payload);
        }
    }
}

fn aggregator() -> Aggregator {
    let limits = Limits {
        symbols_max: 1000,
        skew_max_ms: 0,
    };
    Aggregator::new(Grouping::new(GROUPS, 1).expect("it is a grouping"), limits)
}

fn at(ms: u64) -> Now {
    Now {
        mono_ms: ms,
        unix_ms: 1_700_000_000_000 + ms,
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
