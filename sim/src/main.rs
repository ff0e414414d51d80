//! Simulations in virtual time: `cargo run --release -p sim -- quantum --seeds 10000`.
fn main() {}
