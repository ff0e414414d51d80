//! A policy as it is configured.

use crate::backoff::Retries;
use crate::breaker::BreakerSettings;
use crate::budget::BudgetSettings;
use crate::concurrency::ConcurrencySettings;
use crate::deadline::Timeouts;
use crate::rate::Rate;

/// What a policy consists of. The default limits nothing and tries once.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// How often they are tried again.
    pub retries: Retries,
    /// How much of the load retries may be.
    pub budget: BudgetSettings,
    /// When the upstream is left alone; `None`: never.
    pub breaker: Option<BreakerSettings>,
    /// How many calls per second; `None`: any number.
    pub rate: Option<Rate>,
    /// How many calls at once.
    pub concurrency: ConcurrencySettings,
}

/// Settings that were checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy(Settings);

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{setting} is {value}; accepted is {least} to {most}")]
pub struct PolicyError {
    /// Which.
    pub setting: &'static str,
    /// What it is.
    pub value: f64,
    /// The least that is accepted.
    pub least: f64,
    /// The most that is accepted.
    pub most: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            retries: Retries::NONE,
            budget: BudgetSettings::default(),
            breaker: None,
            rate: None,
            concurrency: ConcurrencySettings::default(),
        }
    }
}

impl Policy {
    /// Checks settings.
    pub fn new(settings: Settings) -> Result<Self, PolicyError> {
        let timeouts = [
            ("total timeout in seconds", settings.timeouts.total),
            ("timeout per try in seconds", settings.timeouts.per_try),
            (
                "longest wait an upstream can ask for in seconds",
                Some(settings.retries.after_max),
            ),
        ];
        for (setting, span) in timeouts {
            if let Some(span) = span {
                within(setting, span.as_secs_f64(), 0.001, TIMEOUT_MAX)?;
            }
        }
        within(
            "retries",
            f64::from(settings.retries.attempts),
            0.0,
            RETRIES_MAX,
        )?;
        settings.budget.check()?;
        settings.concurrency.check()?;
        if let Some(breaker) = &settings.breaker {
            breaker.check()?;
        }
        Ok(Self(settings))
    }

    /// What was checked.
    pub fn settings(&self) -> &Settings {
        &self.0
    }
}

/// `value` is a number from `least` to `most`.
pub(crate) fn within(
    setting: &'static str,
    value: f64,
    least: f64,
    most: f64,
) -> Result<(), PolicyError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(PolicyError {
        setting,
        value,
        least,
        most,
    })
}

/// Thirty days in seconds: long enough for every call, short enough for every timer.
const TIMEOUT_MAX: f64 = 30.0 * 86_400.0;
const RETRIES_MAX: f64 = 1_000.0;

#[cfg(test)]
mod tests;
