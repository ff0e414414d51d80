//! An `OpenClaw` gateway, spoken to as an operator.

use super::peer::{Input, Now, Output};

/// The state of the conversation with one gateway.
#[derive(Debug)]
pub(crate) struct Peer {}

impl Peer {
    /// Takes an input and appends what follows from it to `out`.
    pub(crate) fn handle(&mut self, _now: Now, _input: Input<'_>, _out: &mut Vec<Output>) {}

    /// When [`Input::Time`] is due; `u64::MAX` means never.
    pub(crate) fn deadline_ms(&self) -> u64 {
        u64::MAX
    }
}
