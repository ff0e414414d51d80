//! One client's protocol state, as a pure state machine.
//!
//! The owner feeds it ([`Session::frame`], [`Session::resume`],
//! [`Session::operate`], [`Session::time`]) and carries out, in order, what
//! stands in `out` afterwards. Three rules make it simple to drive:
//!
//! 1. A call appends to `out` and never reads it.
//! 2. A [`Output::Request`] is always the last output of a call. The session
//!    then waits; frames that come meanwhile are kept (bounded) and continued
//!    by [`Session::resume`] with the answer. So commands run in order, one at
//!    a time, whether the bus answers at once or over a network.
//! 3. After an [`Output::Close`] nothing more is said; the owner calls
//!    [`Session::end`] to learn which channels to leave.
//!
//! Publications do not pass through here: `router::fanout` writes one prepared
//! frame to all subscribers. The session only decides who is subscribed, from
//! which position, and what is answered.
//!
//! A resting session is one small struct: what is in progress lives in one
//! box, what a token said in another.

mod access;
mod commands;
mod connect;
mod operations;
mod output;
mod recovery;
mod relay;
mod subscribe;
mod subscription;
mod waiting;

pub use operations::{Operation, ServerSubscribe};
pub use output::{
    HistoryAsk, Output, Published, Recover, Request, Response, SubscribeAsk, Subscribed,
};
pub use recovery::Recovery;
pub use relay::{Told, Via};
pub use subscription::Subscription;

use bytes::Bytes;

use crate::calls::Calls;
use crate::claims::ConnectionClaims;
use crate::code::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::codec::{self, Encoding};
use crate::dialect::{Dialect, Pulse};
use crate::message::{ClientInfo, Command, Push, Reply};
use crate::settings::{ClientSettings, Namespaces};
use crate::subjects::Subjects;
use waiting::{Step, Waiting};

/// A connection's public id, shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub u128);

impl std::fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(formatter)
    }
}

impl std::str::FromStr for ClientId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::parse_str(text).map(|id| Self(id.as_u128()))
    }
}

/// The time, read once by the owner and passed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch; may step.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }
}

/// What sessions are told by their owner; shared by all, replaced whole on reload.
#[derive(Debug)]
pub struct Settings {
    /// Limits and timers.
    pub client: ClientSettings,
    /// Channel options.
    pub namespaces: Namespaces,
    /// Whether rpc method `ping` answers.
    pub rpc_ping: bool,
    /// Other rpc methods, answered by whoever serves their subject.
    pub calls: Calls,
    /// Most bytes of frames kept while a request is under way (3013); each frame counts 16
    /// more. Should hold one frame of the largest size at least.
    pub backlog_max: usize,
    /// How Stratix connections are kept alive.
    pub stratix_pulse: Pulse,
    /// What live-data clients may subscribe to.
    pub live_subjects: Subjects,
    /// The server's version, for the connect reply.
    pub version: &'static str,
    /// This node's id, for the connect reply of emulated transports.
    pub node: String,
}

/// What a call needs besides the session.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The settings in force.
    pub settings: &'a Settings,
}

/// How the client is connected, as far as the protocol cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Frames go both ways.
    WebSocket,
    /// The client's frames come as separate requests that name this session.
    Emulated {
        /// The secret the client shows with each request.
        session: u128,
    },
}

/// Who the client is; set when connect has succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The user; empty means anonymous.
    pub user: Box<str>,
    /// What others may see about the connection.
    pub info: Bytes,
    /// The token's id, for revocation.
    pub token_id: Option<Box<str>>,
    /// When the token was issued, in Unix seconds.
    pub issued_at: Option<u64>,
    /// When the connection expires, in Unix seconds; 0 means never.
    pub expires_at: u64,
    /// All that the connection may have, whatever the namespaces allow.
    pub subjects: Option<Box<Subjects>>,
}

/// One client's protocol state. See the module's documentation.
#[derive(Debug)]
pub struct Session {
    /// The bytes of a [`ClientId`]: as a number it would align the whole to 16.
    client: [u8; 16],
    /// The secret of an emulated transport.
    emulated: Option<Box<u128>>,
    encoding: Encoding,
    dialect: Dialect,
    phase: Phase,
    /// A ping was sent and its pong has not come.
    pong_awaited: bool,
    /// What a token said that came before the connect command, until that comes.
    verified: Option<Box<ConnectionClaims>>,
    identity: Option<Box<Identity>>,
    subs: Vec<Subscription>,
    waiting: Option<Box<Waiting>>,
    /// When `time` must be called, in ms: stale deadline, next ping or missing pong.
    alarm_ms: u64,
    /// Earliest expiry of connection or subscriptions, grace included, in Unix seconds;
    /// `u32::MAX`, in the year 2106, is never.
    expiry_s: u32,
    /// Theoretical arrival time of the command limiter, in microseconds.
    rate_us: u64,
}

/// Paid by every connection, resting or not.
const _: () = assert!(size_of::<Session>() <= 96);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No connect command yet.
    Fresh,
    /// Connect is under way.
    Connecting,
    Connected,
    /// Connect was answered with an error: nothing more is accepted.
    Refused,
    Closed,
}

impl Session {
    /// A session that waits for its connect command, or for [`Session::begin`].
    pub fn new(
        cx: Context<'_>,
        client: ClientId,
        transport: Transport,
        encoding: Encoding,
        verified: Option<ConnectionClaims>,
    ) -> Self {
        Self::of_dialect(
            cx,
            Dialect::Centrifuge,
            client,
            transport,
            encoding,
            verified,
        )
    }

    /// As [`Session::new`], for a client of this dialect.
    pub fn of_dialect(
        cx: Context<'_>,
        dialect: Dialect,
        client: ClientId,
        transport: Transport,
        encoding: Encoding,
        verified: Option<ConnectionClaims>,
    ) -> Self {
        Self {
            dialect,
            client: client.0.to_ne_bytes(),
            emulated: match transport {
                Transport::WebSocket => None,
                Transport::Emulated { session } => Some(Box::new(session)),
            },
            encoding,
            phase: Phase::Fresh,
            pong_awaited: false,
            verified: verified.map(Box::new),
            identity: None,
            subs: Vec::new(),
            waiting: None,
            alarm_ms: cx.now.mono_ms + millis(cx.settings.client.stale_close_delay),
            expiry_s: u32::MAX,
            rate_us: 0,
        }
    }

    /// Takes one frame of the client: one or more commands.
    pub fn frame(&mut self, cx: Context<'_>, frame: &[u8], out: &mut Vec<Output>) {
        if self.phase == Phase::Closed {
            return;
        }
        let Some(waiting) = &mut self.waiting else {
            let left = self.run(cx, frame, out);
            if let Some(waiting) = &mut self.waiting
                && left > 0
            {
                waiting.backlog.keep(&frame[frame.len() - left..]);
            }
            return;
        };
        // An answer to a ping is about time, not order: it must not wait for its turn.
        if self.pong_awaited && codec::is_pong(self.encoding, frame) {
            return self.pong(cx, out);
        }
        if !waiting
            .backlog
            .has_room(frame.len(), cx.settings.backlog_max)
        {
            return self.close(Disconnect::TOO_MANY_REQUESTS, out);
        }
        waiting.backlog.keep(frame);
    }

    /// Continues with the answer to the last [`Output::Request`].
    pub fn resume(&mut self, cx: Context<'_>, response: Response, out: &mut Vec<Output>) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let Waiting {
            step,
            mut backlog,
            mut operations,
        } = *waiting;
        self.continue_step(cx, step, response, out);
        while self.is_free()
            && let Some(operation) = operations.pop_front()
        {
            self.operate(cx, operation, out);
        }
        while self.is_free()
            && let Some((frame, done)) = backlog.take_first()
        {
            let left = self.run(cx, &frame[done..], out);
            if left > 0 {
                let done = frame.len() - left;
                backlog.put_back(frame, done);
            }
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.backlog = backlog;
            waiting.operations = operations;
        }
    }

    /// Says that [`Session::deadline_ms`] or [`Session::expiry_s`] has passed.
    pub fn time(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        if self.phase == Phase::Closed {
            return;
        }
        if cx.now.unix_s() >= self.expiry_s() {
            self.expire(cx, out);
        }
        if self.phase == Phase::Closed || cx.now.mono_ms < self.alarm_ms {
            return;
        }
        match self.phase {
            Phase::Fresh | Phase::Connecting | Phase::Refused => {
                self.close(Disconnect::STALE, out);
            }
            Phase::Connected if self.pong_awaited => self.close(Disconnect::NO_PONG, out),
            Phase::Connected => self.ping(cx, out),
            Phase::Closed => {}
        }
    }

    /// Ends the session from the server's side.
    pub fn close(&mut self, disconnect: Disconnect, out: &mut Vec<Output>) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.waiting = None;
            out.push(Output::Close(disconnect));
        }
    }

    /// Ends the session and hands over the subscriptions to be left.
    pub fn end(&mut self) -> Vec<Subscription> {
        self.phase = Phase::Closed;
        self.waiting = None;
        std::mem::take(&mut self.subs)
    }

    /// When [`Session::time`] wants to be called, on the clock of [`Now::mono_ms`].
    pub fn deadline_ms(&self) -> u64 {
        self.alarm_ms
    }

    /// When something expires, in Unix seconds; `u64::MAX` means never.
    pub fn expiry_s(&self) -> u64 {
        match self.expiry_s {
            u32::MAX => u64::MAX,
            at_s => u64::from(at_s),
        }
    }

    /// The connection's public id.
    pub fn client(&self) -> ClientId {
        ClientId(u128::from_ne_bytes(self.client))
    }

    /// How frames are encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What the client speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How the client is connected.
    pub fn transport(&self) -> Transport {
        match self.emulated.as_deref() {
            None => Transport::WebSocket,
            Some(&session) => Transport::Emulated { session },
        }
    }

    /// Who the client is, once that is known.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Whether connect has succeeded and the session has not ended.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// The subscriptions, server-side ones included.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subs
    }

    /// What others see of this client in a channel.
    pub fn info(&self, chan_info: Bytes) -> ClientInfo {
        ClientInfo {
            user: self.user().to_owned(),
            client: self.client().to_string(),
            conn_info: self
                .identity
                .as_ref()
                .map(|i| i.info.clone())
                .unwrap_or_default(),
            chan_info,
        }
    }

    /// Carries out the commands of a frame up to one that has to wait for an answer;
    /// how many bytes are left behind it.
    fn run(&mut self, cx: Context<'_>, frame: &[u8], out: &mut Vec<Output>) -> usize {
        let mut commands = codec::commands(self.encoding, frame);
        while let Some(command) = commands.next() {
            match command {
                Err(_) => self.close(Disconnect::BAD_REQUEST, out),
                Ok(_) if !self.admit_command(cx) => self.close(Disconnect::TOO_MANY_REQUESTS, out),
                Ok(command) => self.command(cx, command, out),
            }
            if !self.is_free() {
                return commands.rest().len();
            }
        }
        0
    }

    /// Whether the next command may be carried out.
    fn is_free(&self) -> bool {
        self.phase != Phase::Closed && self.waiting.is_none()
    }

    /// If several requests are set, the first in the order of the fields counts.
    fn command(&mut self, cx: Context<'_>, command: Command, out: &mut Vec<Output>) {
        if command.id == 0 && command.send.is_none() {
            return self.pong(cx, out);
        }
        if let Some(request) = command.connect {
            return match self.phase {
                Phase::Fresh => self.connect(cx, command.id, *request, out),
                Phase::Connecting | Phase::Connected | Phase::Refused | Phase::Closed => {
                    self.close(Disconnect::BAD_REQUEST, out);
                }
            };
        }
        if self.phase != Phase::Connected {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        let id = command.id;
        if let Some(request) = command.subscribe {
            self.subscribe(cx, id, request, out);
        } else if let Some(request) = command.unsubscribe {
            self.unsubscribe(cx, id, &request, out);
        } else if let Some(request) = command.publish {
            self.publish(cx, id, request, out);
        } else if let Some(request) = command.presence {
            self.presence(cx, id, &request.channel, false, out);
        } else if let Some(request) = command.presence_stats {
            self.presence(cx, id, &request.channel, true, out);
        } else if let Some(request) = command.history {
            self.history(cx, id, request, out);
        } else if command.ping.is_some() {
            self.close(Disconnect::BAD_REQUEST, out);
        } else if command.send.is_some() {
            self.close(Disconnect::NOT_AVAILABLE, out);
        } else if let Some(request) = command.rpc {
            self.rpc(cx, id, &request, out);
        } else if let Some(request) = command.refresh {
            self.refresh(id, &request, out);
        } else if let Some(request) = command.sub_refresh {
            self.sub_refresh(id, &request, out);
        } else {
            self.close(Disconnect::BAD_REQUEST, out);
        }
    }

    fn continue_step(
        &mut self,
        cx: Context<'_>,
        step: Step,
        response: Response,
        out: &mut Vec<Output>,
    ) {
        match (step, response) {
            (Step::Connect(connecting), response) => {
                self.continue_connect(cx, *connecting, response, out);
            }
            (Step::Subscribe(subscribing), response) => {
                self.continue_subscribe(cx, subscribing, response, out);
            }
            (Step::ServerSubscribe(subscribing), Response::Subscribed(result)) => {
                self.finish_server_subscribe(cx, subscribing, result, out);
            }
            (Step::Publish { id }, Response::Published(result)) => match result {
                Ok(Published) => reply(out, id, |reply| reply.publish = Some(Default::default())),
                Err(code) => error(out, id, code),
            },
            (Step::Call { id }, Response::Called(result)) => self.called(id, result, out),
            (Step::History { id }, Response::History(result)) => match result {
                Ok(history) => reply(out, id, |reply| reply.history = Some(history)),
                Err(code) => error(out, id, code),
            },
            (Step::Presence { id }, Response::Presence(result)) => match result {
                Ok(presence) => reply(out, id, |reply| reply.presence = Some(presence)),
                Err(code) => error(out, id, code),
            },
            (Step::PresenceStats { id }, Response::PresenceStats(result)) => match result {
                Ok(stats) => reply(out, id, |reply| reply.presence_stats = Some(stats)),
                Err(code) => error(out, id, code),
            },
            (Step::Refresh { id }, Response::Authenticated(result)) => {
                self.finish_refresh(cx, id, result, out);
            }
            (Step::SubRefresh { id, channel }, Response::SubscriptionAuthorized(result)) => {
                self.finish_sub_refresh(cx, id, &channel, result, out);
            }
            // The owner answered a question that was not asked: its defect, not the client's.
            _ => self.close(Disconnect::INTERNAL_SERVER_ERROR, out),
        }
    }

    fn ask(&mut self, step: Step, request: Request, out: &mut Vec<Output>) {
        self.waiting = Some(Box::new(Waiting::new(step)));
        out.push(Output::Request(request));
    }

    fn ping(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        let pulse = self.dialect.pulse(cx.settings);
        if pulse.interval.is_zero() {
            self.alarm_ms = u64::MAX;
            return;
        }
        out.push(if self.dialect.profile().pings_in_protocol {
            Output::Reply(Reply::default())
        } else {
            Output::Ping
        });
        self.pong_awaited = !pulse.timeout.is_zero();
        let patience = if self.pong_awaited {
            pulse.timeout
        } else {
            pulse.interval
        };
        self.alarm_ms = cx.now.mono_ms + millis(patience);
    }

    fn pong(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        if !(self.phase == Phase::Connected && self.pong_awaited) {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        self.pong_came(cx);
    }

    fn pong_came(&mut self, cx: Context<'_>) {
        self.pong_awaited = false;
        // The next ping keeps its rhythm: it counts from the last one, not from the pong.
        let pulse = self.dialect.pulse(cx.settings);
        let pinged_ms = self.alarm_ms.saturating_sub(millis(pulse.timeout));
        self.alarm_ms = (pinged_ms + millis(pulse.interval)).max(cx.now.mono_ms + 1);
    }

    /// A leaky bucket in one number (GCRA).
    fn admit_command(&mut self, cx: Context<'_>) -> bool {
        let client = &cx.settings.client;
        if client.command_rate == 0 {
            return true;
        }
        let interval_us = 1_000_000 / u64::from(client.command_rate);
        let now_us = cx.now.mono_ms * 1_000;
        let tolerance_us = interval_us * u64::from(client.command_burst);
        let next = self.rate_us.max(now_us) + interval_us;
        if next > now_us + tolerance_us + interval_us {
            return false;
        }
        self.rate_us = next;
        true
    }

    fn user(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.user)
    }

    fn set_identity(&mut self, claims: &ConnectionClaims) {
        self.identity = Some(Box::new(Identity {
            user: claims.user.as_str().into(),
            info: claims.info.clone(),
            token_id: claims.token_id.as_deref().map(Into::into),
            issued_at: claims.issued_at,
            expires_at: claims.expires_at.unwrap_or(0),
            subjects: claims.subjects.clone().map(Box::new),
        }));
    }

    fn position_of(&self, channel: &str) -> Option<usize> {
        self.subs
            .iter()
            .position(|sub| sub.channel.as_str() == channel)
    }

    /// Works out again when the next thing expires, each grace included.
    fn plan_expiry(&mut self, settings: &Settings) {
        let with_grace = |at: u64, grace: std::time::Duration| match at {
            0 => u64::MAX,
            at => at.saturating_add(grace.as_secs()),
        };
        let connection = self.identity.as_ref().map_or(u64::MAX, |identity| {
            with_grace(identity.expires_at, settings.client.expired_close_delay)
        });
        let earliest_s = self
            .subs
            .iter()
            .map(|sub| with_grace(sub.expires_at, settings.client.expired_sub_close_delay))
            .fold(connection, u64::min);
        self.expiry_s = u32::try_from(earliest_s).unwrap_or(u32::MAX);
    }

    fn expire(&mut self, cx: Context<'_>, out: &mut Vec<Output>) {
        let now_s = cx.now.unix_s();
        let client = &cx.settings.client;
        let connection_s = self
            .identity
            .as_ref()
            .map_or(0, |identity| identity.expires_at);
        if connection_s != 0
            && now_s >= connection_s.saturating_add(client.expired_close_delay.as_secs())
        {
            return self.close(Disconnect::CONNECTION_EXPIRED, out);
        }
        let grace_s = client.expired_sub_close_delay.as_secs();
        while let Some(index) = self
            .subs
            .iter()
            .position(|sub| sub.expires_at != 0 && now_s >= sub.expires_at.saturating_add(grace_s))
        {
            if self.subs[index].is_server_side() {
                return self.close(Disconnect::SUBSCRIPTION_EXPIRED, out);
            }
            self.drop_subscription(index, Some(UnsubscribeCode::SUBSCRIPTION_EXPIRED), out);
        }
        self.plan_expiry(cx.settings);
    }
}

fn reply(out: &mut Vec<Output>, id: u32, fill: impl FnOnce(&mut Reply)) {
    let mut reply = Reply {
        id,
        ..Reply::default()
    };
    fill(&mut reply);
    out.push(Output::Reply(reply));
}

fn error(out: &mut Vec<Output>, id: u32, code: ErrorCode) {
    reply(out, id, |reply| reply.error = Some(code.to_error()));
}

fn push(out: &mut Vec<Output>, push: Push) {
    out.push(Output::Reply(Reply {
        push: Some(push.into()),
        ..Reply::default()
    }));
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
