//! What the server does to a session: the server API, a gap in a stream.

use bytes::Bytes;

use super::output::{Output, Recover, Request, Subscribed};
use super::subscribe::Plan;
use super::{Context, Session, Step, Waiting, push};
use crate::claims::{Overrides, ServerSubscription};
use crate::code::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::message::{self, Publication, Push, StreamPosition};

/// Most operations kept while a request is under way; more than that and the client
/// is sent away to come back in a known state.
const OPERATIONS_MAX: usize = 64;

/// Something the server wants of one session.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Subscribe the client.
    Subscribe(Box<ServerSubscribe>),
    /// End a subscription.
    Unsubscribe {
        /// Which.
        channel: Box<str>,
        /// With which code.
        code: UnsubscribeCode,
    },
    /// The stream behind a subscription has a gap, or is another one.
    InsufficientState {
        /// Which.
        channel: Box<str>,
    },
    /// Set when the connection expires, and what is said about it.
    Refresh {
        /// Close it as expired.
        expired: bool,
        /// In Unix seconds; 0 means never; `None` leaves it.
        expires_at: Option<u64>,
        /// Replaces the connection info.
        info: Option<Bytes>,
    },
    /// End the connection.
    Disconnect(Disconnect),
}

/// Details of [`Operation::Subscribe`].
#[derive(Debug, Clone, Default)]
pub struct ServerSubscribe {
    /// The channel.
    pub channel: String,
    /// What others see of the subscriber here.
    pub info: Bytes,
    /// Given to the client with the subscription.
    pub data: Bytes,
    /// Channel options for this subscription.
    pub overrides: Overrides,
    /// Publications after this position are sent at once.
    pub recover_since: Option<StreamPosition>,
    /// When the subscription expires, in Unix seconds; 0 means never.
    pub expires_at: u64,
}

#[derive(Debug)]
pub(super) struct ServerSubscribing {
    plan: Box<Plan>,
}

impl Session {
    /// Carries out an operation, now or after the request under way.
    pub fn operate(&mut self, cx: Context<'_>, operation: Operation, out: &mut Vec<Output>) {
        if let Some(waiting) = &mut self.waiting {
            return match operation {
                Operation::Disconnect(disconnect) => self.close(disconnect, out),
                Operation::Refresh { expired: true, .. } => {
                    self.close(Disconnect::CONNECTION_EXPIRED, out);
                }
                later => {
                    if !postpone(waiting, later) {
                        self.close(Disconnect::INSUFFICIENT_STATE, out);
                    }
                }
            };
        }
        match operation {
            Operation::Disconnect(disconnect) => self.close(disconnect, out),
            _ if !self.is_connected() => {}
            Operation::Subscribe(subscribe) => self.server_subscribe(cx, &subscribe, out),
            Operation::Unsubscribe { channel, code } => {
                if let Some(index) = self.position_of(&channel) {
                    self.drop_subscription(index, Some(code), out);
                    self.plan_expiry(cx.settings);
                }
            }
            Operation::InsufficientState { channel } => {
                let Some(index) = self.position_of(&channel) else {
                    return;
                };
                if self.subs[index].is_server_side() {
                    return self.close(Disconnect::INSUFFICIENT_STATE, out);
                }
                self.drop_subscription(index, Some(UnsubscribeCode::INSUFFICIENT_STATE), out);
                self.plan_expiry(cx.settings);
            }
            Operation::Refresh { expired: true, .. } => {
                self.close(Disconnect::CONNECTION_EXPIRED, out);
            }
            Operation::Refresh {
                expired: false,
                expires_at,
                info,
            } => {
                self.server_refresh(cx, expires_at, info, out);
            }
        }
    }

    fn server_refresh(
        &mut self,
        cx: Context<'_>,
        expires_at: Option<u64>,
        info: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        if let Some(identity) = &mut self.identity {
            if let Some(at) = expires_at {
                identity.expires_at = at;
            }
            if let Some(info) = info {
                identity.info = info;
            }
        }
        self.plan_expiry(cx.settings);
        let (expires, ttl) = self.connection_ttl(cx);
        let refresh = message::Refresh { expires, ttl };
        push(
            out,
            Push {
                refresh: Some(refresh),
                ..Push::default()
            },
        );
    }

    fn server_subscribe(
        &mut self,
        cx: Context<'_>,
        subscribe: &ServerSubscribe,
        out: &mut Vec<Output>,
    ) {
        // Subscribed already is what was wanted (C7).
        if self.position_of(&subscribe.channel).is_some() {
            return;
        }
        if self.subs.len() >= cx.settings.client.channel_limit {
            return self.close(Disconnect::CHANNEL_LIMIT, out);
        }
        // The API has checked the name; settings that changed since may forbid it.
        let Ok(resolved) = self.look_up(cx, &subscribe.channel) else {
            return;
        };
        let sub = ServerSubscription {
            channel: subscribe.channel.clone(),
            info: subscribe.info.clone(),
            data: subscribe.data.clone(),
            overrides: subscribe.overrides,
        };
        let planned = self.plan_server_side(cx, resolved, &sub, subscribe.expires_at);
        let Ok(mut plan) = planned else { return };
        if let Some(since) = &subscribe.recover_since
            && plan.is_recoverable()
        {
            let mode = resolved.options.force_recovery_mode;
            plan.ask.recover = Some(Recover {
                since: since.clone(),
                mode,
            });
        }
        let ask = plan.ask.clone();
        let step = ServerSubscribing {
            plan: Box::new(plan),
        };
        self.ask(Step::ServerSubscribe(step), Request::Subscribe(ask), out);
    }

    pub(super) fn finish_server_subscribe(
        &mut self,
        cx: Context<'_>,
        subscribing: ServerSubscribing,
        result: Result<Subscribed, ErrorCode>,
        out: &mut Vec<Output>,
    ) {
        // The API call has been answered; a bus that refuses now is a passing fault,
        // and the client does not know of the attempt.
        let Ok(found) = result else { return };
        let channel = subscribing.plan.ask.channel.as_str().to_owned();
        let (index, result) = self.settle(*subscribing.plan, found);
        self.plan_expiry(cx.settings);
        let subscribe = message::Subscribe {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: result.data,
        };
        let told = Push {
            channel: channel.clone(),
            subscribe: Some(subscribe.into()),
            ..Push::default()
        };
        push(out, told);
        for publication in result.publications {
            push_publication(out, &channel, publication);
        }
        self.announce(index, out);
    }
}

/// Keeps an operation for later, if there is room.
fn postpone(waiting: &mut Waiting, operation: Operation) -> bool {
    // Each publication behind a gap reports the gap again: once is enough.
    if let Operation::InsufficientState { channel } = &operation
        && waiting.operations.iter().any(|kept| {
            matches!(kept, Operation::InsufficientState { channel: known } if known == channel)
        })
    {
        return true;
    }
    let has_room = waiting.operations.len() < OPERATIONS_MAX;
    if has_room {
        waiting.operations.push_back(operation);
    }
    has_room
}

fn push_publication(out: &mut Vec<Output>, channel: &str, publication: Publication) {
    let told = Push {
        channel: channel.to_owned(),
        publication: Some(publication.into()),
        ..Push::default()
    };
    push(out, told);
}
