//! Messages to the client's own agent, and clients that were known before the upgrade.

use bytes::Bytes;

use super::{Context, Output, Phase, Session, error, reply};
use crate::agent;
use crate::code::{Disconnect, ErrorCode};
use crate::message::{ConnectRequest, RpcResult};

/// The command by which a message for an agent came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `publish` with this id.
    Publish(u32),
    /// `rpc` with this id.
    Rpc(u32),
}

/// What became of a message for an agent: the receipt, as JSON, or why it was not taken.
pub type Told = Result<Bytes, ErrorCode>;

impl Session {
    /// Lets a client in that was known before the upgrade.
    pub fn begin(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        if self.phase == Phase::Fresh {
            self.connect(cx, 0, ConnectRequest::default(), out);
        }
    }

    /// Asks whether a message of a dialect may be taken; otherwise the session is closed
    /// over it. How many may be taken is the relay's to say.
    pub fn admit_message(&mut self, out: &mut Vec<Output>) -> bool {
        if self.phase != Phase::Connected {
            if self.phase != Phase::Closed {
                self.close(Disconnect::BAD_REQUEST, out);
            }
            return false;
        }
        true
    }

    /// Counts a message of a dialect that was refused as a command: who goes on sending
    /// what is refused is closed.
    pub fn message_refused(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        if self.phase == Phase::Connected && !self.admit_command(cx) {
            self.close(Disconnect::TOO_MANY_REQUESTS, out);
        }
    }

    /// Notes a sign of life, where any sign counts as an answer to a ping.
    pub fn heard(&mut self, cx: Context<'_>) {
        if self.phase == Phase::Connected
            && self.pong_awaited
            && !self.dialect.profile().pings_in_protocol
        {
            self.pong_came(cx);
        }
    }

    /// Answers the command behind an [`Output::Submit`].
    pub fn told(&mut self, via: Via, told: Told, out: &mut Vec<Output>) {
        if self.phase != Phase::Connected {
            return;
        }
        match (via, told) {
            (Via::Publish(id) | Via::Rpc(id), Err(code)) => error(out, id, code),
            (Via::Publish(id), Ok(_)) => {
                reply(out, id, |reply| reply.publish = Some(Default::default()));
            }
            (Via::Rpc(id), Ok(data)) => {
                reply(out, id, |reply| reply.rpc = Some(RpcResult { data }));
            }
        }
    }

    /// Whether this is the channel of the user's own agent.
    pub(super) fn owns(&self, channel: &str) -> bool {
        agent::client_of(channel).is_some_and(|client| client == self.user())
    }
}
