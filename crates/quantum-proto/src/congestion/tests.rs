//! The draft's example cases and our goals, on a bottleneck in virtual time.

mod cubic;
mod goals;
mod link;
