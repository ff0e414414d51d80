//! One direction of an emulated link: a queue, a line with a rate, a way with a delay, and loss.
//!
//! Pure: time and chance are arguments. A packet waits in the queue (whose end is cut off when
//! it is full), takes its time on the line, and only then meets its fate, so that a lost packet
//! has used the line, as it does on a radio link. A link without loss therefore carries its
//! whole rate, and one with 5 % of loss 95 % of it.

use std::time::Duration;

/// What a link does to packets; the same in both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// There and back, without queue and line.
    pub(crate) rtt: Duration,
    /// Bits per second, counted with IP headers.
    pub(crate) rate: u64,
    /// The queue's size in products of rate and round-trip time.
    pub(crate) queue_bdp: f64,
    pub(crate) loss: Loss,
}

impl Shape {
    /// Bytes that the link holds in a round trip.
    pub(crate) fn bdp(&self) -> f64 {
        self.rate as f64 / 8.0 * self.rtt.as_secs_f64()
    }

    /// Bytes that the queue holds; a few packets at least, whatever the round trip.
    fn queue_bytes(&self) -> u64 {
        ((self.bdp() * self.queue_bdp) as u64).max(QUEUE_MIN)
    }
}

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loss {
    /// Each by itself with this probability.
    Independent(f64),
    /// This share of all, in runs of `mean` packets (Gilbert and Elliott's chain, whose bad
    /// state loses everything).
    Bursts { share: f64, mean: f64 },
}

/// What a direction has seen since the last mark.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    /// With IP headers, before loss and overflow: what the sender spent.
    pub(crate) bytes: u64,
    /// By chance.
    pub(crate) lost: u64,
    /// Because the queue was full.
    pub(crate) overflowed: u64,
    /// The longest that the queue was, in bytes.
    pub(crate) queue_max: u64,
    /// Its mean over time, in bytes.
    pub(crate) queue_mean: f64,
}

/// One direction. Times are nanoseconds since any fixed moment.
#[derive(Debug)]
pub(crate) struct Direction {
    delay: u64,
    /// Nanoseconds on the line per byte.
    per_byte: f64,
    queue_limit: u64,
    loss: Loss,
    chance: Chance,
    in_burst: bool,
    /// When the line has sent all that waits.
    free_at: u64,
    counts: Counts,
    marked_at: u64,
    /// Integral of the queue's length since the mark, in byte-nanoseconds, up to `seen_at`.
    area: f64,
    seen_at: u64,
}

impl Direction {
    pub(crate) fn new(shape: &Shape, seed: u64) -> Self {
        Self {
            delay: (shape.rtt / 2).as_nanos() as u64,
            per_byte: 8e9 / shape.rate.max(1) as f64,
            queue_limit: shape.queue_bytes(),
            loss: shape.loss,
            chance: Chance(seed),
            in_burst: false,
            free_at: 0,
            counts: Counts::default(),
            marked_at: 0,
            area: 0.0,
            seen_at: 0,
        }
    }

    /// A packet of so many bytes enters; returns when it comes out, if it does.
    pub(crate) fn enter(&mut self, now: u64, bytes: usize) -> Option<u64> {
        self.look(now);
        let waiting = self.waiting(now);
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        if waiting + bytes as u64 > self.queue_limit {
            self.counts.overflowed += 1;
            return None;
        }
        self.counts.queue_max = self.counts.queue_max.max(waiting + bytes as u64);
        self.free_at = self.free_at.max(now) + (bytes as f64 * self.per_byte) as u64;
        if self.is_lost() {
            self.counts.lost += 1;
            return None;
        }
        Some(self.free_at + self.delay)
    }

    /// Forgets what was counted.
    pub(crate) fn mark(&mut self, now: u64) {
        self.counts = Counts::default();
        self.area = 0.0;
        self.marked_at = now;
        self.seen_at = now;
    }

    /// What was counted since the mark.
    pub(crate) fn counts(&mut self, now: u64) -> Counts {
        self.look(now);
        let elapsed = now.saturating_sub(self.marked_at).max(1);
        Counts {
            queue_mean: self.area / elapsed as f64,
            ..self.counts
        }
    }

    /// Bytes that have not left the queue and the line.
    fn waiting(&self, now: u64) -> u64 {
        (self.free_at.saturating_sub(now) as f64 / self.per_byte) as u64
    }

    /// Adds the queue's length since the last look, during which it only shrank.
    fn look(&mut self, now: u64) {
        let before = self.free_at.saturating_sub(self.seen_at) as f64 / self.per_byte;
        let shrinking = self.free_at.clamp(self.seen_at, now.max(self.seen_at)) - self.seen_at;
        let after = before - shrinking as f64 / self.per_byte;
        self.area += (before + after) / 2.0 * shrinking as f64;
        self.seen_at = now.max(self.seen_at);
    }

    fn is_lost(&mut self) -> bool {
        match self.loss {
            Loss::Independent(share) => self.chance.is_under(share),
            Loss::Bursts { share, mean } => {
                self.in_burst = match self.in_burst {
                    true => !self.chance.is_under(1.0 / mean),
                    false => self.chance.is_under(share / (mean * (1.0 - share))),
                };
                self.in_burst
            }
        }
    }
}

/// A reproducible source of chance (splitmix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn is_under(&mut self, share: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 / (1_u64 << 53) as f64) < share
    }
}

/// Ten full packets: at a round trip of 1 ms a product of rate and delay is hardly more.
const QUEUE_MIN: u64 = 15_000;

#[cfg(test)]
mod tests;
