//! Who runs, since when, until when: tasks, threads, the clock, signals.
//!
//! This is the only crate that starts tasks and threads and reads the clock, so
//! that everything that runs has a name and an owner and takes part in the stop.

mod clock;
mod signals;
mod tasks;

pub use clock::Clock;
pub use signals::{Hangups, Stops};
pub use tasks::{Tasks, ThreadError, background_runtime, thread};
pub use tokio_util::sync::CancellationToken;
