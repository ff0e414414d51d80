//! From the bus to the sessions of one worker, and from them to the bus.
//!
//! A [`Router`] belongs to one worker and is never shared: what its sessions ask
//! is carried out in [`dispatch`], what the bus delivers is spread in [`fanout`].
//! A publication is encoded once per [`Flavor`] and channel, however many
//! subscribers there are; what they get is the same [`Frame`].
#![warn(missing_docs)]

mod dispatch;
mod fanout;
mod frame;
pub mod proxy;
pub mod relay;
pub mod services;
pub mod table;

pub use dispatch::{Asking, Found, Router, Subscriber, Subscribing, policy};
pub use fanout::{Delivered, Receiver};
pub use frame::{Flavor, Frame, Framing, WrapError, publication, raw_payload};
