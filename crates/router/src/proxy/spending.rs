//! Who may spend how much on models, across all routes.

use super::refusal::Refusal;
use super::{Budget, Caller};

/// What callers have spent. One for all routes: a caller's budget is its own, whichever
/// model it asks.
#[derive(Debug, Default)]
pub struct Spending {}

/// A part of a caller's budgets that a request under way holds.
#[derive(Debug)]
pub(super) struct Charge {}

impl Spending {
    /// Takes the most that a request can come to out of its caller's budgets.
    pub(super) fn reserve(
        &self,
        _caller: &Caller,
        _budget: &Budget,
        _tokens: u64,
        _micro_cost: u64,
    ) -> Result<Option<Charge>, Refusal> {
        Ok(None)
    }

    /// Gives back what was not used.
    pub(super) fn settle(&self, _charge: Charge, _tokens: u64, _micro_cost: u64) {}
}
