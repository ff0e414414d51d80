//! What the gateway understands of model APIs, from the bytes that pass.
//!
//! Bodies are never held or changed: [`Meter`] reads an answer beside its way to the
//! caller, [`Asker`] a request. Both keep a few hundred bytes whatever the body's size.
//! Everything here is pure: bytes in, facts out.
//!
//! * **A token is four characters** wherever nobody has counted: for the input of a
//!   request before it is answered, and for the output of an answer whose usage never
//!   came. Such figures say that they are estimates.
//! * **What is broken is not understood**, and passes all the same: judging it is the
//!   caller's or the upstream's task.

mod ask;
mod cost;
pub mod in_band;
mod sse;
mod usage;
mod walk;

pub use ask::{Ask, Asker};
pub use cost::{Prices, micro_cost};
pub use sse::{Piece, Scanner};
pub use usage::{Meter, Shape, Usage};

/// Characters that make a token if nobody has counted.
pub const CHARACTERS_PER_TOKEN: u64 = 4;
