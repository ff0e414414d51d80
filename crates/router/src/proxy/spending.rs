//! Who may spend how much on models, across all routes.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use lifecycle::Clock;
use policy::{Amount, Ledger, Reservation, SpendLimit, SpendLimits, Spent};

use super::refusal::Refusal;
use super::{Budget, Caller};

/// Callers whose spending is kept apart.
const CALLERS_MAX: usize = 200_000;

/// What callers have spent. One for all routes: a caller's budget is its own, whichever
/// model it asks.
#[derive(Debug)]
pub struct Spending {
    ledger: Mutex<Ledger<Box<str>>>,
    clock: Clock,
}

/// A part of a caller's budgets that a request under way holds.
#[derive(Debug)]
pub(super) struct Charge(Reservation<Box<str>>);

impl Spending {
    /// Nobody has spent anything.
    pub fn new(clock: Clock) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(CALLERS_MAX)),
            clock,
        }
    }

    /// Takes the most that a request can come to out of its caller's budgets. Guests
    /// share one account.
    pub(super) fn reserve(
        &self,
        caller: &Caller,
        budget: &Budget,
        tokens: u64,
        micro_cost: u64,
    ) -> Result<Charge, Refusal> {
        let limits = SpendLimits {
            tokens_per_minute: budget.tokens_per_minute,
            tokens_per_day: budget.tokens_per_day,
            micro_cost_per_day: micro(budget.cost_per_day),
            micro_cost_per_month: micro(budget.cost_per_month),
        };
        let key = account(caller);
        let amount = Amount { tokens, micro_cost };
        let now = self.clock.unix_ms();
        self.lock()
            .reserve(&key, amount, &limits, now)
            .map(Charge)
            .map_err(|exceeded| Refusal::Budget {
                which: match exceeded.which {
                    SpendLimit::TokensPerMinute => "tokens per minute",
                    SpendLimit::TokensPerDay => "tokens per day",
                    SpendLimit::CostPerDay => "cost per day",
                    SpendLimit::CostPerMonth => "cost per month",
                },
                retry_after: exceeded.retry_after,
            })
    }

    /// Gives back what was not used.
    pub(super) fn settle(&self, charge: Charge, tokens: u64, micro_cost: u64) {
        let now = self.clock.unix_ms();
        let amount = Amount { tokens, micro_cost };
        self.lock().settle(charge.0, amount, now);
    }

    /// What was spent since the last export, for a store; to be asked until there is
    /// nothing. What can't be stored is given back by [`Spending::restore`].
    pub fn export(&self, rows_max: usize) -> Vec<Spent<Box<str>>> {
        self.lock().export(rows_max)
    }

    /// Takes back what was exported and could not be stored.
    pub fn restore(&self, rows: Vec<Spent<Box<str>>>) {
        self.lock().restore(rows);
    }

    /// Takes sums from the store, which other gateways add to as well.
    pub fn import(&self, rows: impl IntoIterator<Item = Spent<Box<str>>>) {
        let now = self.clock.unix_ms();
        for row in rows {
            self.lock().import(&row, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger<Box<str>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a caller's account, as a store keeps it. What is too long for that, or no plain
/// text, goes by its hash: one odd name must not keep the others' sums from being stored.
fn account(caller: &Caller) -> Box<str> {
    let (kind, id) = match caller {
        Caller::Guest => return "guest".into(),
        Caller::User { id, .. } => ("user", &**id),
        Caller::Superuser(name) => ("superuser", &**name),
    };
    if id.len() <= ID_BYTES_MAX && !id.contains('\0') {
        return format!("{kind}:{id}").into();
    }
    let hash = digest(&SHA256, id.as_bytes());
    let mut name = format!("{kind}#");
    for byte in hash.as_ref() {
        let _written = write!(name, "{byte:02x}");
    }
    name.into()
}

/// Longer ones go by their hash; with what stands before it fits a store's column.
const ID_BYTES_MAX: usize = 200;

/// Whole millionths; a limit so small that it is none of them is still one.
fn micro(cost: f64) -> u64 {
    (cost * 1_000_000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_account_has_a_name_that_can_be_stored() {
        let user = |id: &str| Caller::User {
            id: id.into(),
            claims: Arc::default(),
        };
        assert_eq!(&*account(&Caller::Guest), "guest");
        assert_eq!(&*account(&user("ada")), "user:ada");
        assert_eq!(&*account(&Caller::Superuser("ada".into())), "superuser:ada");
        let long = account(&user(&"x".repeat(5_000)));
        assert_eq!(long.len(), "user#".len() + 64);
        assert_ne!(long, account(&user(&"x".repeat(5_001))));
        assert!(account(&user("a\0b")).starts_with("user#"));
    }
}
