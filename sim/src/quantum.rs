//! Pairs of Quantum connections over a bad network.
//!
//! A run draws a scenario from its seed (`scenario`), plays it in virtual time (`world`) and asks
//! all the while whether what must hold does hold: of the applications (`traffic`), of each
//! connection (`node`), of the packets on the wire (`wire`), of what a server sends to addresses
//! that have not proved themselves (`ledger`). In some runs a peer lies (`lies`).
//!
//! The null cipher makes this possible: whoever watches opens every packet, and whoever lies seals
//! what no honest peer would. Sequence numbers begin shortly before they start over, in every run.

mod failure;
mod keys;
mod ledger;
mod lies;
mod node;
mod scenario;
mod traffic;
mod wire;
mod world;

pub(crate) use failure::{Failure, Figures};

use crate::chance::Chance;
use failure::Held;
use scenario::Scenario;
use world::World;

/// Runs one seed; gives what the run was about, and figures.
pub(crate) fn run(seed: u64, verbose: bool) -> Held<(&'static str, Figures)> {
    let mut chance = Chance::new(seed);
    let scenario = Scenario::draw(&mut chance);
    if verbose {
        println!("{scenario:#?}");
    }
    let kind = scenario.kind.label();
    let figures = World::new(scenario, chance, verbose)?.play()?;
    Ok((kind, figures))
}
