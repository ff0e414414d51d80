//! Agents behind WebSocket connections: one shared connection per agent.

mod delivery;
mod dial;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod link;
mod openclaw;
mod peer;
mod pool;
mod stratix_peer;
mod target;
mod tls;

pub use delivery::{Answer, AnswerKind, Delivery, DeliveryBody, Outcome};
pub use dial::{AgentUrl, UrlError};
pub use identity::{Identity, IdentityError};
pub use pool::{AgentTotals, Agents, AgentsConfig, LinkFigures, LinkId, LinkState, Listener};
pub use target::{AgentAuth, DataEncoding, Peer, Secret, Target};
