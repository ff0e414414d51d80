//! How calls of a service are admitted, tried again and given up.

use std::time::Duration;

use policy::{
    Backoff, BreakerSettings, BudgetSettings, ConcurrencySettings, LimitMode, Policy, PolicyError,
    Rate, Retries, Settings, Timeouts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How calls of a service are admitted, tried again and given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallPolicy {
    /// Time for a call with all its tries; a method may have less.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub timeout: Duration,
    /// Time for one try; 0 means that of the call.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub try_timeout: Duration,
    /// Further tries. A call that may have been carried out is tried again only if its
    /// method is `idempotent`.
    pub retries: CallRetries,
    /// When an endpoint that fails is left alone.
    pub breaker: CallBreaker,
    /// How many calls per second.
    pub rate: CallRate,
    /// How many calls at once.
    pub concurrency: CallConcurrency,
}

impl Default for CallPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            try_timeout: Duration::ZERO,
            retries: CallRetries::default(),
            breaker: CallBreaker::default(),
            rate: CallRate::default(),
            concurrency: CallConcurrency::default(),
        }
    }
}

/// Further tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallRetries {
    /// Tries after the first one.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Wait before the first of them; each further one is twice as long.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub base: Duration,
    /// Longest wait.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub max: Duration,
    /// Share of the calls under way that may be further tries, from 0 to 1.
    pub budget: f64,
}

impl Default for CallRetries {
    fn default() -> Self {
        Self {
            attempts: 2,
            base: Duration::from_millis(25),
            max: Duration::from_secs(1),
            budget: 0.2,
        }
    }
}

/// When an endpoint that fails is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallBreaker {
    /// Failures in a row after which it gets no calls for a while; 0 means never.
    pub failures: u32,
    /// How long it gets no calls before one is let through to see.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub open: Duration,
    /// Longest such time; it doubles each time the call let through fails.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub open_max: Duration,
}

impl Default for CallBreaker {
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(10),
            open_max: Duration::from_secs(120),
        }
    }
}

/// How many calls per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallRate {
    /// Sustained; 0 means no limit. More are refused.
    pub per_second: f64,
    /// Calls taken in a burst; 0 means those of one second.
    pub burst: u32,
}

/// How many calls at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallConcurrency {
    /// Calls under way; 0 means no limit.
    pub limit: u32,
    /// Calls that may wait for a place; more are refused.
    pub waiting: u32,
    /// How long one waits at most.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub wait: Duration,
}

impl Default for CallConcurrency {
    fn default() -> Self {
        Self {
            limit: 1_000,
            waiting: 100,
            wait: Duration::from_secs(1),
        }
    }
}

impl CallPolicy {
    /// What guards the service; the breakers of its endpoints apart.
    ///
    /// # Errors
    ///
    /// Which setting is out of its range, and what is accepted.
    pub fn compile(&self) -> Result<Policy, String> {
        let text = |error: PolicyError| error.to_string();
        let rate = match self.rate.per_second {
            0.0 => None,
            per_second => {
                let burst = match self.rate.burst {
                    0 => per_second.ceil().max(1.0) as u32,
                    burst => burst,
                };
                Some(Rate::new(per_second, burst).map_err(text)?)
            }
        };
        let retries = &self.retries;
        Policy::new(Settings {
            timeouts: Timeouts {
                total: Some(self.timeout),
                per_try: Some(self.try_timeout).filter(|time| !time.is_zero()),
            },
            retries: Retries {
                attempts: retries.attempts,
                backoff: Backoff::new(retries.base, 2.0, retries.max, 0.5).map_err(text)?,
                after_max: AFTER_MAX,
            },
            budget: BudgetSettings {
                share: retries.budget,
                ..BudgetSettings::default()
            },
            breaker: None,
            rate,
            concurrency: ConcurrencySettings {
                limit: self.concurrency.limit,
                mode: LimitMode::Fixed,
                waiting_max: self.concurrency.waiting,
                wait_max: self.concurrency.wait,
            },
        })
        .map_err(text)
    }

    /// The breaker of each endpoint; `None` if it is off.
    ///
    /// # Errors
    ///
    /// As [`CallPolicy::compile`].
    pub fn breaker(&self) -> Result<Option<BreakerSettings>, String> {
        let breaker = &self.breaker;
        if breaker.failures == 0 {
            return Ok(None);
        }
        let settings = BreakerSettings {
            consecutive: breaker.failures,
            rate: None,
            open: Backoff::new(breaker.open, 2.0, breaker.open_max, 0.1)
                .map_err(|error| error.to_string())?,
            probes: 1,
            ramp: RAMP,
        };
        // What is checked of a breaker is checked with the policy that has one.
        let checked = Policy::new(Settings {
            breaker: Some(settings.clone()),
            ..Settings::default()
        });
        checked.map_err(|error| error.to_string())?;
        Ok(Some(settings))
    }
}

/// The longest wait that a service can ask for.
const AFTER_MAX: Duration = Duration::from_secs(5);

/// How long an endpoint that is well again gets only a part of its calls.
const RAMP: Duration = Duration::from_secs(10);
