//! The wire format of Stratix clients and agents, as pure codecs (`contracts`: relay
//! 1.3 and 1.4).

mod message;

pub use message::{Kind, Message};
