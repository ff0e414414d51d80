//! The aggregator of market data.
//!
//! Ticks of a source come in one by one; what changed goes out as a batch per group of symbols
//! every 33 ms (`xy.md.tick.{group}`), and what each group stands at every few seconds and on
//! demand (`xy.md.snapshot.{group}`, `xy.md.req.snapshot.{group}`). A client that has a snapshot
//! and the batches after it has the truth; a gap in their numbers tells it to take another
//! snapshot.
//!
//! [`Aggregator`] is all of that as a function of its arguments; [`run`] puts it on a bus, with
//! the built-in [`Generator`] or the bus itself as the source.
#![warn(missing_docs)]

pub mod aggregator;
pub mod generator;
mod metrics;
mod runner;
mod settings;
pub mod wire;

pub use aggregator::Aggregator;
pub use generator::Generator;
pub use metrics::{Figures, Metrics};
pub use runner::{RunError, Setup, run};
pub use settings::{GeneratorSettings, Settings, SettingsError, Source, SubjectSettings};
