//! What comes from the source, and what of it is refused.

use bus::Now;

use super::Aggregator;
use super::groups::stable_hash;
use super::symbols::{Origin, Quote};
use crate::wire::{Snapshot, Tick};

/// What a message of the source was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A price.
    Tick,
    /// Bid and ask.
    Quote,
    /// A sign of life.
    Heartbeat,
}

/// Why a message of the source was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its subject is none that a source publishes on.
    #[error("subject is none of a source")]
    Subject,
    /// Its payload is not the message that the subject promises.
    #[error("payload is not the message that its subject promises")]
    Malformed,
    /// The symbol is empty, longer than 64 bytes, or not printable text without spaces.
    #[error("symbol is not 1 to 64 bytes of printable text")]
    Symbol,
    /// Subject and payload name different symbols.
    #[error("subject and payload name different symbols")]
    Mismatch,
    /// A price that is not a number, is infinite, negative, or zero where there must be one.
    #[error("price is not a positive number")]
    Price,
    /// Its time is further from now than is allowed.
    #[error("time is too far from now")]
    Time,
    /// The symbol is new, and there are as many as may be.
    #[error("there are too many symbols")]
    TooMany,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Subject,
        Self::Malformed,
        Self::Symbol,
        Self::Mismatch,
        Self::Price,
        Self::Time,
        Self::TooMany,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Malformed => "malformed",
            Self::Symbol => "symbol",
            Self::Mismatch => "mismatch",
            Self::Price => "price",
            Self::Time => "time",
            Self::TooMany => "too_many",
        }
    }
}

impl Aggregator {
    pub(super) fn take_any(
        &mut self,
        subject: &str,
        offset: Option<u64>,
        payload: &[u8],
        now: Now,
    ) -> Result<Taken, Reason> {
        let rest = subject.strip_prefix("xy.src.").ok_or(Reason::Subject)?;
        let (kind, rest) = rest.split_once('.').ok_or(Reason::Subject)?;
        let origin = offset.map(|offset| (subject, offset));
        match kind {
            "tick" => {
                let tick = Tick::read(payload).map_err(|_| Reason::Malformed)?;
                names(rest, tick.symbol)?;
                self.apply_tick(&tick, origin, now)?;
                Ok(Taken::Tick)
            }
            "snapshot" => {
                let quote = Snapshot::read(payload).map_err(|_| Reason::Malformed)?;
                names(rest, quote.symbol)?;
                self.apply_quote(&quote, origin, now)?;
                Ok(Taken::Quote)
            }
            "heartbeat" => {
                self.heard_mono_ms = Some(now.mono_ms);
                self.counts.heartbeats += 1;
                Ok(Taken::Heartbeat)
            }
            _ => Err(Reason::Subject),
        }
    }

    pub(super) fn apply_tick(
        &mut self,
        tick: &Tick<'_>,
        origin: Option<(&str, u64)>,
        now: Now,
    ) -> Result<(), Reason> {
        if !(tick.price.is_finite() && tick.price > 0.0) {
            return Err(Reason::Price);
        }
        self.check_time(tick.ts_ms, now)?;
        let number = self.intern(tick.symbol)?;
        self.heard_mono_ms = Some(now.mono_ms);
        self.counts.ticks += 1;
        self.follow(number, origin);
        let symbol = self.symbols.at_mut(number);
        if tick.ts_ms >= symbol.ts_ms {
            symbol.ts_ms = tick.ts_ms;
            symbol.price = tick.price;
        } else {
            self.counts.reordered += 1;
        }
        symbol.volume_waiting = symbol.volume_waiting.saturating_add(tick.volume);
        if !symbol.is_changed {
            symbol.is_changed = true;
            self.groups[symbol.group as usize].changed.push(number);
        }
        Ok(())
    }

    pub(super) fn apply_quote(
        &mut self,
        quote: &Snapshot<'_>,
        origin: Option<(&str, u64)>,
        now: Now,
    ) -> Result<(), Reason> {
        // A side without offers has no price.
        for price in [quote.bid, quote.ask] {
            if !(price.is_finite() && price >= 0.0) {
                return Err(Reason::Price);
            }
        }
        self.check_time(quote.ts_ms, now)?;
        let number = self.intern(quote.symbol)?;
        self.heard_mono_ms = Some(now.mono_ms);
        self.counts.quotes += 1;
        self.follow(number, origin);
        let symbol = self.symbols.at_mut(number);
        if quote.ts_ms < symbol.quote.ts_ms {
            self.counts.reordered += 1;
            return Ok(());
        }
        symbol.quote = Quote {
            ts_ms: quote.ts_ms,
            bid: quote.bid,
            ask: quote.ask,
            bid_size: quote.bid_size,
            ask_size: quote.ask_size,
        };
        Ok(())
    }

    /// The number of a symbol, given to it if it is new.
    pub(super) fn intern(&mut self, name: &[u8]) -> Result<u32, Reason> {
        if let Some(number) = self.symbols.find(name) {
            return Ok(number);
        }
        let is_printable = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        if !(1..=SYMBOL_BYTES_MAX).contains(&name.len()) || !name.iter().all(is_printable) {
            return Err(Reason::Symbol);
        }
        let name = std::str::from_utf8(name).map_err(|_| Reason::Symbol)?;
        if self.symbols.len() >= self.limits.symbols_max {
            return Err(Reason::TooMany);
        }
        let group = self.grouping.group_of(name);
        let number = self.symbols.add(name, group);
        self.groups[group].members.push(number);
        Ok(number)
    }

    fn check_time(&self, ts_ms: i64, now: Now) -> Result<(), Reason> {
        let away = ts_ms.abs_diff(now.unix_ms.cast_signed());
        // A time of zero or less is none at all.
        if ts_ms <= 0 || self.limits.skew_max_ms != 0 && away > self.limits.skew_max_ms {
            return Err(Reason::Time);
        }
        Ok(())
    }

    /// Counts what the source numbered and what did not come.
    fn follow(&mut self, number: u32, origin: Option<(&str, u64)>) {
        let Some((subject, offset)) = origin else {
            return;
        };
        let known = &mut self.symbols.at_mut(number).origin;
        let subject_hash = stable_hash(subject.as_bytes());
        // Another venue, or a stream that began anew, says nothing of the one before.
        if known.subject_hash == subject_hash && offset > known.offset {
            let missing = &mut self.counts.missing;
            *missing = missing.saturating_add(offset - known.offset - 1);
        }
        *known = Origin {
            subject_hash,
            offset,
        };
    }
}

/// What follows the kind in a subject must be a venue and this symbol.
fn names(rest: &str, symbol: &[u8]) -> Result<(), Reason> {
    let (venue, named) = rest.split_once('.').ok_or(Reason::Subject)?;
    if venue.is_empty() {
        return Err(Reason::Subject);
    }
    if symbol.is_empty() {
        return Err(Reason::Symbol);
    }
    if named.as_bytes() != symbol {
        return Err(Reason::Mismatch);
    }
    Ok(())
}

/// Longest name of a symbol, in bytes.
const SYMBOL_BYTES_MAX: usize = 64;
