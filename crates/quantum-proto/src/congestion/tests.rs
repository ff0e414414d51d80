//! What is asked of congestion control, on a bottleneck in virtual time. The draft's own cases
//! stand beside the state machine.

mod cubic;
mod goals;
pub(super) mod link;
mod parts;
