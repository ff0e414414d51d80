//! The Centrifuge client protocol: codecs, codes, channels, and the session as a
//! pure state machine.
//!
//! Nothing here does I/O, reads a clock, starts a task or draws random numbers:
//! time and chance are arguments.
#![warn(missing_docs)]

pub mod agent;
pub mod calls;
pub mod channel;
pub mod claims;
pub mod code;
pub mod codec;
pub mod dialect;
pub mod duration;
pub mod live;
pub mod message;
pub mod session;
pub mod settings;
pub mod stratix;
pub mod subject;
pub mod subjects;
pub mod template;
