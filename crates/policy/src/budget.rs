//! One currency for everything that is sent beyond the first try.
//!
//! When an upstream fails, retries multiply the load exactly when it can bear least.
//! So retries, hedges and fallbacks together may be only a share of the calls under
//! way. A charge is made when the decision falls, before the wait: otherwise all calls
//! that wait would find the budget untouched. It is given back when the extra try ends.
//! The floor lets an upstream with little traffic have its retries at all.

use crate::settings::{PolicyError, within};

/// How much may be sent beyond the first tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetSettings {
    /// Share of the calls under way, those that queue included; 0 to 1.
    pub share: f64,
    /// Extra tries that are always allowed at the same time.
    pub floor: u32,
}

/// What is under way, and how much of it is extra.
#[derive(Debug, Clone)]
pub struct Budget {
    settings: BudgetSettings,
    active: u32,
    charged: u32,
}

impl BudgetSettings {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        within("budget share", self.share, 0.0, 1.0)
    }
}

impl Default for BudgetSettings {
    /// A fifth of what is under way, at least three.
    fn default() -> Self {
        Self {
            share: 0.2,
            floor: 3,
        }
    }
}

impl Budget {
    /// Nothing is under way.
    pub fn new(settings: BudgetSettings) -> Self {
        Self {
            settings,
            active: 0,
            charged: 0,
        }
    }

    /// Other settings for what is under way.
    pub fn adopt(&mut self, settings: BudgetSettings) {
        self.settings = settings;
    }

    /// A call came, and is under way or queues.
    pub fn began(&mut self) {
        self.active = self.active.saturating_add(1);
    }

    /// A call ended.
    pub fn ended(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Decides for one extra try; `true` must be answered by [`Budget::release`].
    #[must_use]
    pub fn charge(&mut self) -> bool {
        let share = (self.settings.share * f64::from(self.active)) as u32;
        let allowed = self.charged < share.max(self.settings.floor);
        if allowed {
            self.charged += 1;
        }
        allowed
    }

    /// The extra try ended or did not take place.
    pub fn release(&mut self) {
        self.charged = self.charged.saturating_sub(1);
    }

    /// Extra tries decided and not ended.
    pub fn charged(&self) -> u32 {
        self.charged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_active(calls: u32) -> Budget {
        let mut budget = Budget::new(BudgetSettings::default());
        (0..calls).for_each(|_| budget.began());
        budget
    }

    fn charges(budget: &mut Budget) -> usize {
        (0..1_000).take_while(|_| budget.charge()).count()
    }

    #[test]
    fn the_floor_is_always_there() {
        assert_eq!(charges(&mut with_active(0)), 3);
        assert_eq!(charges(&mut with_active(15)), 3);
    }

    #[test]
    fn the_share_grows_with_the_calls_under_way() {
        assert_eq!(charges(&mut with_active(100)), 20);
    }

    #[test]
    fn what_is_released_can_be_charged_again() {
        let mut budget = with_active(1);
        assert_eq!(charges(&mut budget), 3);
        budget.release();
        assert!(budget.charge());
        assert!(!budget.charge());
    }

    #[test]
    fn no_share_and_no_floor_is_no_retry() {
        let mut budget = Budget::new(BudgetSettings {
            share: 0.0,
            floor: 0,
        });
        budget.began();
        assert!(!budget.charge());
    }

    #[test]
    fn ended_calls_take_their_share_along() {
        let mut budget = with_active(100);
        (0..90).for_each(|_| budget.ended());
        assert_eq!(charges(&mut budget), 3);
    }
}
