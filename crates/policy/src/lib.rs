//! When to admit a call, to wait, to try again, to give up.
//!
//! State machines for every kind of upstream: they decide, they do nothing.
//! Time is a number of milliseconds of a clock that never goes back, chance is a
//! random `u64`; both are arguments, so each machine runs through years in a test
//! that takes microseconds. Who calls them holds a lock around them, runs the timers,
//! and reports what came of each call.
//!
//! The order in which a call is judged is fixed, and [`Gate`] keeps it:
//!
//! 1. [`Deadline`]: what is too late anyway must not cost anybody anything.
//! 2. [`Breaker`], only read: an upstream known to be down needs no queue.
//! 3. [`Concurrency`]: a slot, or a place in a bounded queue.
//! 4. [`Rate`]: after the slot, so that a call that found no slot spends no token.
//! 5. The breaker's probe, reserved last: a probe that was taken must be used.
//!
//! [`Balance`] chooses among the endpoints of a target, before the gate of the one that it
//! chooses is asked.
//!
//! [`Ledger`] keeps what identities spend, on the wall clock: its windows are those of
//! the calendar.
//!
//! [`Class`] is what an upstream's kind says about an outcome, [`Retries`] and
//! [`Budget`] say whether it is tried again.
#![warn(missing_docs)]

mod adaptive;
mod backoff;
mod balance;
mod breaker;
mod budget;
mod class;
mod concurrency;
mod deadline;
mod gate;
mod rate;
mod refusal;
mod settings;
mod spend;
mod window;

#[cfg(test)]
mod chance;

pub use backoff::{Backoff, Retries};
pub use balance::{Balance, Ejection, EndpointState, Outcome};
pub use breaker::{Breaker, BreakerSettings, BreakerState, FailureRate, Pass, Transition};
pub use budget::{Budget, BudgetSettings};
pub use class::{Class, Verdict};
pub use concurrency::{Concurrency, ConcurrencySettings, Entrance, LimitMode};
pub use deadline::{Deadline, Timeouts};
pub use gate::{Entry, Gate, GateState};
pub use rate::{Rate, RateTable, TokenLine};
pub use refusal::Refusal;
pub use settings::{Policy, PolicyError, Settings};
pub use spend::{
    Amount, Exceeded, Ledger, Reservation, SpendLimit, SpendLimits, SpendWindow, Spent,
};
