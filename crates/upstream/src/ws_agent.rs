//! Agents behind WebSocket connections: one shared connection per agent.

mod delivery;
mod openclaw;
mod peer;
mod target;

pub use delivery::{Answer, AnswerKind, Delivery, DeliveryBody, Outcome};
pub use target::{AgentAuth, DataEncoding, Peer, Secret, Target};
