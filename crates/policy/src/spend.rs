//! What identities may spend: tokens and money, by the minute, the day and the month.
//!
//! What a model's answer costs is known when it is over, but it must be allowed before it
//! begins. So a call first *reserves* the most that it can cost, and *settles* what it did
//! cost when it ends, however it ends. Reserved counts like spent: together they never
//! exceed a limit when a reservation is made, no matter how many calls are made at once.
//! A call that costs more than it reserved is the only way past a limit, and the next
//! reservation sees it.
//!
//! * **Windows** are those of the calendar in UTC and begin empty. A call belongs to the
//!   windows in which it was reserved, also if it ends in later ones.
//! * **Amounts** are whole numbers: tokens, and millionths of the unit that prices have.
//! * **A reservation that nobody settles** counts in full until its windows are over. It
//!   is not part of [`Ledger::export`], so its owner settles it in full when it is dropped.
//! * **Keys** are bounded. Beyond the cap those are dropped whose windows are over; if
//!   there is none, further keys share one account, so that who makes up identities gets
//!   one budget for all of them.
//! * **Persistence** is by sums: [`Ledger::export`] says what was settled since the last
//!   time, to be added to what a store has, and [`Ledger::import`] takes the store's sums.
//!   So several nodes can share a store, and each sees what the others spent with the next
//!   import.
//!
//! Time is the wall clock's, in milliseconds since the Unix epoch. When it goes back, the
//! present windows stay until it has caught up.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

mod calendar;

use calendar::Periods;

/// Tokens and money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Tokens of a model, asked and answered.
    pub tokens: u64,
    /// Millionths of the unit that prices are given in.
    pub micro_cost: u64,
}

/// The most that an identity may spend; 0 is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpendLimits {
    /// Tokens in a minute.
    pub tokens_per_minute: u64,
    /// Tokens in a day.
    pub tokens_per_day: u64,
    /// Millionths of the unit of prices in a day.
    pub micro_cost_per_day: u64,
    /// The same in a month.
    pub micro_cost_per_month: u64,
}

/// A limit of [`SpendLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpendLimit {
    /// Tokens in a minute.
    TokensPerMinute,
    /// Tokens in a day.
    TokensPerDay,
    /// Money in a day.
    CostPerDay,
    /// Money in a month.
    CostPerMonth,
}

/// A window that is kept in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpendWindow {
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
}

/// A reservation would exceed a limit. Of several, the one that lasts longest is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} would be exceeded; its window ends in {retry_after:?}", which.as_str())]
pub struct Exceeded {
    /// Which.
    pub which: SpendLimit,
    /// Until its window ends. If the limit is lower than what was asked for, the next
    /// window is of no use either.
    pub retry_after: Duration,
}

/// Leave to spend so much; to be answered by [`Ledger::settle`].
#[derive(Debug)]
#[must_use = "a reservation that is not settled counts in full"]
pub struct Reservation<K> {
    key: K,
    amount: Amount,
    periods: Periods,
    /// It lies in the account that keys beyond the cap share.
    shared: bool,
}

/// What a key spent in a window: an addition in [`Ledger::export`], a sum in
/// [`Ledger::import`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent<K> {
    /// Who.
    pub key: K,
    /// Which kind of window.
    pub window: SpendWindow,
    /// When the window began, in milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// How much.
    pub amount: Amount,
}

/// What all keys spent and reserved.
#[derive(Debug)]
pub struct Ledger<K> {
    accounts: HashMap<K, Account>,
    keys_max: usize,
    shared: Account,
    periods: Periods,
    /// Keys whose account has something to export.
    dirty: Vec<K>,
    /// What is to be exported of windows that are over, and of keys without an account.
    loose: Vec<Spent<K>>,
    /// No sweep before.
    sweep_ms: u64,
}

#[derive(Debug, Default)]
struct Account {
    minute: Tally,
    day: Tally,
    month: Tally,
    dirty: bool,
}

/// One window of one account.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    start: u64,
    settled: Amount,
    reserved: Amount,
    /// The part of what is settled that was not exported.
    unsaved: Amount,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self {
        tokens: 0,
        micro_cost: 0,
    };

    /// The sum, at most the largest number.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            micro_cost: self.micro_cost.saturating_add(other.micro_cost),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            micro_cost: self.micro_cost.saturating_sub(other.micro_cost),
        }
    }
}

impl SpendLimit {
    /// As it is called in messages and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerMinute => "tokensPerMinute",
            Self::TokensPerDay => "tokensPerDay",
            Self::CostPerDay => "costPerDay",
            Self::CostPerMonth => "costPerMonth",
        }
    }
}

impl SpendWindow {
    /// As it is called in a store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The window that is called so.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Day, Self::Month]
            .into_iter()
            .find(|window| window.as_str() == name)
    }
}

impl<K> Reservation<K> {
    /// Whose it is.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// How much was reserved.
    pub fn amount(&self) -> Amount {
        self.amount
    }
}

impl<K: Eq + Hash + Clone> Ledger<K> {
    /// Nobody has spent anything. At most `keys_max` keys have accounts of their own.
    pub fn new(keys_max: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            keys_max,
            shared: Account::default(),
            periods: Periods::at(0),
            dirty: Vec::new(),
            loose: Vec::new(),
            sweep_ms: 0,
        }
    }

    /// Reserves the most that a call can cost, if no limit is exceeded by it together with
    /// all that is spent and reserved.
    pub fn reserve(
        &mut self,
        key: &K,
        amount: Amount,
        limits: &SpendLimits,
        now: u64,
    ) -> Result<Reservation<K>, Exceeded> {
        let periods = self.turn(now);
        let shared = !self.open(key, now);
        let account = match self.accounts.get_mut(key) {
            Some(account) => account,
            None => &mut self.shared,
        };
        account.check(amount, limits, &periods, now)?;
        for tally in account.tallies() {
            tally.reserved = tally.reserved.plus(amount);
        }
        Ok(Reservation {
            key: key.clone(),
            amount,
            periods,
            shared,
        })
    }

    /// Replaces what was reserved by what it came to.
    pub fn settle(&mut self, reservation: Reservation<K>, amount: Amount, now: u64) {
        self.turn(now);
        let Reservation {
            key,
            amount: reserved,
            periods,
            shared,
        } = reservation;
        let account = if shared {
            Some(&mut self.shared)
        } else {
            self.accounts.get_mut(&key)
        };
        let mut kept = [false; 2];
        if let Some(account) = account {
            account.minute.settle(periods.minute, reserved, amount);
            kept = [
                account.day.settle(periods.day, reserved, amount),
                account.month.settle(periods.month, reserved, amount),
            ];
            if shared {
                // It has no key to be exported by.
                kept = [false; 2];
            } else if !account.dirty && kept != [false; 2] {
                account.dirty = true;
                self.dirty.push(key.clone());
            }
        }
        let windows = [
            (SpendWindow::Day, periods.day),
            (SpendWindow::Month, periods.month),
        ];
        for ((window, start_ms), kept) in windows.into_iter().zip(kept) {
            if !kept {
                self.loosen(Spent {
                    key: key.clone(),
                    window,
                    start_ms,
                    amount,
                });
            }
        }
    }

    /// What was settled since the last export, about so many rows at most; to be asked
    /// until there is nothing. What cannot be stored is given back by [`Ledger::restore`].
    pub fn export(&mut self, rows_max: usize) -> Vec<Spent<K>> {
        let loose = self.loose.len().min(rows_max);
        let mut rows: Vec<_> = self.loose.drain(..loose).collect();
        while rows.len() < rows_max
            && let Some(key) = self.dirty.pop()
        {
            if let Some(account) = self.accounts.get_mut(&key) {
                account.dirty = false;
                rows.extend(account.unsaved(&key));
            }
        }
        rows
    }

    /// Takes back what was exported and could not be stored.
    pub fn restore(&mut self, rows: Vec<Spent<K>>) {
        for row in rows {
            if let Some(account) = self.accounts.get_mut(&row.key) {
                let tally = account.tally(row.window);
                if tally.start == row.start_ms {
                    tally.unsaved = tally.unsaved.plus(row.amount);
                    if !account.dirty {
                        account.dirty = true;
                        self.dirty.push(row.key);
                    }
                    continue;
                }
            }
            self.loosen(row);
        }
    }

    /// Takes a sum from the store, in which all is that was exported and not given back.
    /// What was settled since counts on top of it. A window that is over is left out, and
    /// so is a key beyond the cap.
    pub fn import(&mut self, row: &Spent<K>, now: u64) {
        let periods = self.turn(now);
        let current = match row.window {
            SpendWindow::Day => periods.day,
            SpendWindow::Month => periods.month,
        };
        if row.start_ms != current || !self.open(&row.key, now) {
            return;
        }
        if let Some(account) = self.accounts.get_mut(&row.key) {
            let tally = account.tally(row.window);
            tally.settled = row.amount.plus(tally.unsaved);
        }
    }

    /// What a key has spent and reserved in the present day and month.
    pub fn spent(&mut self, key: &K, now: u64) -> (Amount, Amount) {
        self.turn(now);
        if !self.accounts.contains_key(key) {
            return (Amount::ZERO, Amount::ZERO);
        }
        self.open(key, now);
        self.accounts
            .get(key)
            .map_or((Amount::ZERO, Amount::ZERO), |account| {
                (account.day.sum(), account.month.sum())
            })
    }

    /// Keys with an account of their own.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// No key has one.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The periods of now, or those before if the clock went back.
    fn turn(&mut self, now: u64) -> Periods {
        if now >= self.periods.minute_end() {
            self.periods = Periods::at(now);
        }
        self.periods
    }

    /// Sees to it that a key has an account with the present windows, if there is room.
    fn open(&mut self, key: &K, now: u64) -> bool {
        let periods = self.periods;
        if !self.accounts.contains_key(key) {
            if self.accounts.len() >= self.keys_max {
                self.sweep(now);
            }
            if self.accounts.len() >= self.keys_max {
                self.shared.turn(&periods);
                return false;
            }
        }
        let account = self.accounts.entry(key.clone()).or_default();
        if account.minute.start == periods.minute {
            return true;
        }
        let over = account.over(key, &periods);
        account.turn(&periods);
        for row in over {
            self.loosen(row);
        }
        true
    }

    /// Drops the accounts whose windows are all over or empty.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_ms {
            return;
        }
        self.sweep_ms = now.saturating_add(SWEEP_APART_MS);
        let periods = self.periods;
        let mut over = Vec::new();
        self.accounts.retain(|key, account| {
            over.extend(account.over(key, &periods));
            account.turn(&periods);
            account
                .tallies()
                .iter()
                .any(|tally| tally.sum() != Amount::ZERO)
        });
        let accounts = &self.accounts;
        self.dirty.retain(|key| accounts.contains_key(key));
        for row in over {
            self.loosen(row);
        }
    }

    /// Keeps a row for the export that belongs to no account. If nobody exports, the
    /// number of rows is bounded, and what is beyond is not stored.
    fn loosen(&mut self, row: Spent<K>) {
        let rows_max = self.keys_max.saturating_mul(4).max(LOOSE_LEAST);
        if row.amount != Amount::ZERO && self.loose.len() < rows_max {
            self.loose.push(row);
        }
    }
}

impl Account {
    fn check(
        &self,
        amount: Amount,
        limits: &SpendLimits,
        periods: &Periods,
        now: u64,
    ) -> Result<(), Exceeded> {
        let tokens = |tally: &Tally| tally.sum().plus(amount).tokens;
        let cost = |tally: &Tally| tally.sum().plus(amount).micro_cost;
        // The longest window first.
        let judged = [
            (
                SpendLimit::CostPerMonth,
                cost(&self.month),
                limits.micro_cost_per_month,
                periods.month_end,
            ),
            (
                SpendLimit::CostPerDay,
                cost(&self.day),
                limits.micro_cost_per_day,
                periods.day_end(),
            ),
            (
                SpendLimit::TokensPerDay,
                tokens(&self.day),
                limits.tokens_per_day,
                periods.day_end(),
            ),
            (
                SpendLimit::TokensPerMinute,
                tokens(&self.minute),
                limits.tokens_per_minute,
                periods.minute_end(),
            ),
        ];
        judged
            .into_iter()
            .find(|(_, sum, limit, _)| *limit > 0 && sum > limit)
            .map_or(Ok(()), |(which, _, _, end)| {
                Err(Exceeded {
                    which,
                    retry_after: Duration::from_millis(end.saturating_sub(now)),
                })
            })
    }

    /// What was not exported of windows that are over now.
    fn over<K: Clone>(&self, key: &K, periods: &Periods) -> Vec<Spent<K>> {
        [
            (SpendWindow::Day, self.day, periods.day),
            (SpendWindow::Month, self.month, periods.month),
        ]
        .into_iter()
        .filter(|(_, tally, start)| tally.start != *start && tally.unsaved != Amount::ZERO)
        .map(|(window, tally, _)| Spent {
            key: key.clone(),
            window,
            start_ms: tally.start,
            amount: tally.unsaved,
        })
        .collect()
    }

    /// Takes what was not exported.
    fn unsaved<K: Clone>(&mut self, key: &K) -> Vec<Spent<K>> {
        [SpendWindow::Day, SpendWindow::Month]
            .into_iter()
            .filter_map(|window| {
                let tally = self.tally(window);
                let amount = std::mem::take(&mut tally.unsaved);
                (amount != Amount::ZERO).then(|| Spent {
                    key: key.clone(),
                    window,
                    start_ms: tally.start,
                    amount,
                })
            })
            .collect()
    }

    fn turn(&mut self, periods: &Periods) {
        self.minute.turn(periods.minute);
        self.day.turn(periods.day);
        self.month.turn(periods.month);
    }

    fn tally(&mut self, window: SpendWindow) -> &mut Tally {
        match window {
            SpendWindow::Day => &mut self.day,
            SpendWindow::Month => &mut self.month,
        }
    }

    fn tallies(&mut self) -> [&mut Tally; 3] {
        [&mut self.minute, &mut self.day, &mut self.month]
    }
}

impl Tally {
    fn turn(&mut self, start: u64) {
        if self.start != start {
            *self = Self {
                start,
                ..Self::default()
            };
        }
    }

    /// `false` if the window is over.
    fn settle(&mut self, start: u64, reserved: Amount, amount: Amount) -> bool {
        let current = self.start == start;
        if current {
            self.reserved = self.reserved.minus(reserved);
            self.settled = self.settled.plus(amount);
            self.unsaved = self.unsaved.plus(amount);
        }
        current
    }

    fn sum(&self) -> Amount {
        self.settled.plus(self.reserved)
    }
}

/// A sweep looks at every key.
const SWEEP_APART_MS: u64 = 1_000;
/// Rows without an account that are kept at least for the export.
const LOOSE_LEAST: usize = 1_000;

#[cfg(test)]
mod tests;
