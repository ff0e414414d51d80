//! Subscribing, from request or token to the subscription kept.

use std::sync::Arc;

use bytes::Bytes;

use super::access::is_wildcard;
use super::output::{Output, Recover, Request, Response, SubscribeAsk, Subscribed};
use super::recovery::Recovery;
use super::subscription::{Subscription, Traits};
use super::{Context, Session, Step, error, push, reply};
use crate::channel::Channel;
use crate::claims::{Overrides, ServerSubscription, SubscriptionClaims, TokenError};
use crate::code::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::message::{StreamPosition, SubscribeRequest, SubscribeResult};
use crate::settings::{RecoveryMode, ResolvedOptions};

/// SDKs set this bit when `recovered: false` shall be an error (112).
const FLAG_REJECT_UNRECOVERED: i64 = 2;

/// A subscribe command under way.
#[derive(Debug)]
pub(super) enum Subscribing {
    /// Its token is being checked.
    Authorizing {
        id: u32,
        request: Box<SubscribeRequest>,
    },
    /// The bus is being asked.
    Entering {
        id: u32,
        plan: Box<Plan>,
        reject_unrecovered: bool,
    },
}

/// A subscription decided on, before the bus has agreed.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ask: SubscribeAsk,
    pub(super) traits: Traits,
    pub(super) expires_at: u64,
    pub(super) info: Bytes,
    pub(super) data: Bytes,
}

/// What a token grants for one subscription; nothing, if there was no token.
#[derive(Debug, Default)]
struct Grant {
    expires_at: u64,
    info: Bytes,
    data: Bytes,
    overrides: Overrides,
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: Box<SubscribeRequest>,
        out: &mut Vec<Output>,
    ) {
        let channel = request.channel.as_str();
        if channel.is_empty() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        if channel.len() > cx.settings.namespaces.max_length() {
            return error(out, id, ErrorCode::BadRequest);
        }
        if self.position_of(channel).is_some() {
            return error(out, id, ErrorCode::AlreadySubscribed);
        }
        if self.subs.len() >= cx.settings.client.channel_limit {
            return error(out, id, ErrorCode::LimitExceeded);
        }
        if let Err(code) = self.look_up(cx, channel) {
            return error(out, id, code);
        }
        match request.r#type {
            0 => {}
            4 => return error(out, id, ErrorCode::NotAvailable),
            _ => return error(out, id, ErrorCode::PermissionDenied),
        }
        if request.tf.is_some() {
            return error(out, id, ErrorCode::BadRequest);
        }
        if !matches!(request.delta.as_str(), "" | "fossil") {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        if !request.token.is_empty() {
            let token = request.token.clone();
            let step = Step::Subscribe(Subscribing::Authorizing { id, request });
            return self.ask(step, Request::AuthorizeSubscription { token }, out);
        }
        self.enter(cx, id, &request, None, out);
    }

    pub(super) fn continue_subscribe(
        &mut self,
        cx: Context<'_>,
        subscribing: Subscribing,
        response: Response,
        out: &mut Vec<Output>,
    ) {
        match (subscribing, response) {
            (
                Subscribing::Authorizing { id, request },
                Response::SubscriptionAuthorized(result),
            ) => match result {
                Ok(claims) => self.authorized(cx, id, &request, claims, out),
                Err(TokenError::Expired) => error(out, id, ErrorCode::TokenExpired),
                Err(TokenError::Invalid(_) | TokenError::Revoked) => {
                    error(out, id, ErrorCode::PermissionDenied);
                }
                Err(TokenError::Unavailable(_)) => error(out, id, ErrorCode::Internal),
            },
            (
                Subscribing::Entering {
                    id,
                    plan,
                    reject_unrecovered,
                },
                Response::Subscribed(result),
            ) => match result {
                Ok(found) => self.entered(cx, id, *plan, found, reject_unrecovered, out),
                Err(code) => error(out, id, code),
            },
            _ => self.close(Disconnect::INTERNAL_SERVER_ERROR, out),
        }
    }

    fn authorized(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: &SubscribeRequest,
        claims: SubscriptionClaims,
        out: &mut Vec<Output>,
    ) {
        if claims.channel.is_empty() {
            return error(out, id, ErrorCode::PermissionDenied);
        }
        if !self.is_own_token(&claims, &request.channel) {
            return self.close(Disconnect::INVALID_TOKEN, out);
        }
        if claims
            .expires_at
            .is_some_and(|at| at != 0 && at <= cx.now.unix_s())
        {
            return error(out, id, ErrorCode::TokenExpired);
        }
        let grant = Grant {
            expires_at: claims.expires_at.unwrap_or(0),
            info: claims.info,
            data: claims.data,
            overrides: claims.overrides,
        };
        self.enter(cx, id, request, Some(grant), out);
    }

    /// Whether a subscription token was issued to this client for this channel.
    pub(super) fn is_own_token(&self, claims: &SubscriptionClaims, channel: &str) -> bool {
        claims.user == self.user()
            && claims.channel == channel
            && claims
                .client
                .as_deref()
                .is_none_or(|id| id == self.client().to_string())
    }

    fn enter(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: &SubscribeRequest,
        grant: Option<Grant>,
        out: &mut Vec<Output>,
    ) {
        let channel = request.channel.as_str();
        let resolved = match self.look_up(cx, channel) {
            Ok(resolved) => resolved,
            Err(code) => return error(out, id, code),
        };
        let wildcard = match is_wildcard(cx, self.dialect, channel, &resolved.options) {
            Ok(wildcard) => wildcard,
            Err(code) => return error(out, id, code),
        };
        if grant.is_none() && !self.may_subscribe(cx, channel, &resolved.options) {
            return error(out, id, ErrorCode::PermissionDenied);
        }
        let wish = Wish {
            positioned: request.positioned,
            recoverable: request.recoverable,
            join_leave: request.join_leave,
        };
        let mut plan = self.plan(cx, resolved, channel, wish, grant.unwrap_or_default());
        if wildcard {
            plan.as_wildcard();
        }
        let options = &resolved.options;
        let reject_unrecovered = request.flag & FLAG_REJECT_UNRECOVERED != 0;
        if plan.is_recoverable() {
            let mode = options.force_recovery_mode;
            if request.recover {
                let since = StreamPosition {
                    offset: request.offset,
                    epoch: request.epoch.clone(),
                };
                plan.ask.recover = Some(Recover { since, mode });
            } else if options.auto_cache_recover && mode == RecoveryMode::Cache {
                plan.ask.recover = Some(Recover {
                    since: StreamPosition::default(),
                    mode,
                });
            }
        } else if request.recover && reject_unrecovered {
            return error(out, id, ErrorCode::UnrecoverablePosition);
        }
        let ask = plan.ask.clone();
        let step = Subscribing::Entering {
            id,
            plan: Box::new(plan),
            reject_unrecovered,
        };
        self.ask(Step::Subscribe(step), Request::Subscribe(ask), out);
    }

    fn entered(
        &mut self,
        cx: Context<'_>,
        id: u32,
        plan: Plan,
        found: Subscribed,
        reject_unrecovered: bool,
        out: &mut Vec<Output>,
    ) {
        let expires_at = plan.expires_at;
        let (index, mut result) = self.settle(plan, found);
        if reject_unrecovered && result.was_recovering && !result.recovered {
            self.drop_subscription(index, None, out);
            return error(out, id, ErrorCode::UnrecoverablePosition);
        }
        if expires_at != 0 {
            result.expires = true;
            result.ttl = ttl(expires_at, cx);
        }
        self.plan_expiry(cx.settings);
        reply(out, id, |reply| reply.subscribe = Some(result.into()));
        self.announce(index, out);
    }

    /// Plans a subscription that the server makes for the client.
    pub(super) fn plan_server_side(
        &self,
        cx: Context<'_>,
        resolved: &Arc<ResolvedOptions>,
        sub: &ServerSubscription,
        expires_at: u64,
    ) -> Result<Plan, ErrorCode> {
        let grant = Grant {
            expires_at,
            info: sub.info.clone(),
            data: sub.data.clone(),
            overrides: sub.overrides,
        };
        // A server-side subscription takes whatever its namespace offers.
        let wish = Wish {
            positioned: true,
            recoverable: true,
            join_leave: false,
        };
        let mut plan = self.plan(cx, resolved, &sub.channel, wish, grant);
        if is_wildcard(cx, self.dialect, &sub.channel, &resolved.options)? {
            plan.as_wildcard();
        }
        plan.traits = plan.traits.with(Traits::SERVER_SIDE, true);
        Ok(plan)
    }

    fn plan(
        &self,
        cx: Context<'_>,
        resolved: &Arc<ResolvedOptions>,
        channel: &str,
        wish: Wish,
        grant: Grant,
    ) -> Plan {
        let options = &resolved.options;
        let overrides = grant.overrides;
        let force_positioning = overrides
            .force_positioning
            .unwrap_or(options.force_positioning);
        let force_recovery = overrides.force_recovery.unwrap_or(options.force_recovery);
        let join_leave = overrides.join_leave.unwrap_or(options.join_leave);
        let force_push = overrides
            .force_push_join_leave
            .unwrap_or(options.force_push_join_leave);
        let presence = overrides.presence.unwrap_or(options.presence);
        let reads_history = self.may(super::access::Action::History, channel, options);
        let reads_presence = self.may(super::access::Action::Presence, channel, options);

        let recoverable = options.has_history()
            && (force_recovery || (wish.recoverable && (options.allow_recovery || reads_history)));
        let positioned = options.has_history()
            && (recoverable
                || force_positioning
                || (wish.positioned && (options.allow_positioning || reads_history)));
        let pushes = force_push || (wish.join_leave && join_leave && reads_presence);
        let info = presence.then(|| Arc::new(self.info(grant.info.clone())));
        Plan {
            ask: SubscribeAsk {
                channel: Channel::new(channel),
                wildcard: false,
                positioned,
                join_leave_pushes: pushes,
                presence: info,
                recover: None,
                options: Arc::clone(resolved),
                recovery_max: cx.settings.client.recovery_max_publication_limit,
            },
            traits: Traits::default()
                .with(Traits::RECOVERABLE, recoverable)
                .with(Traits::PRESENCE, presence)
                .with(Traits::JOIN_LEAVE, join_leave),
            expires_at: grant.expires_at,
            info: grant.info,
            data: grant.data,
        }
    }

    /// Keeps the subscription; where, and what the client is told of it.
    pub(super) fn settle(&mut self, plan: Plan, found: Subscribed) -> (usize, SubscribeResult) {
        let mut result = SubscribeResult {
            recoverable: plan.is_recoverable(),
            positioned: plan.ask.positioned,
            data: plan.data,
            ..SubscribeResult::default()
        };
        match &plan.ask.recover {
            Some(asked) => {
                let recovery = Recovery::decide(asked, found, plan.ask.recovery_max);
                result.was_recovering = true;
                result.recovered = recovery.recovered;
                result.publications = recovery.publications;
                result.epoch = recovery.position.epoch;
                result.offset = recovery.position.offset;
            }
            None if plan.ask.positioned => {
                let top = found.top.unwrap_or_default();
                result.epoch = top.epoch;
                result.offset = top.offset;
            }
            None => {}
        }
        let index = self.subs.len();
        self.subs.reserve_exact(1);
        self.subs.push(Subscription {
            channel: plan.ask.channel,
            info: (!plan.info.is_empty()).then(|| Box::new(plan.info)),
            expires_at: plan.expires_at,
            traits: plan.traits,
        });
        (index, result)
    }

    /// Publishes that the client came, where that is published.
    pub(super) fn announce(&mut self, index: usize, out: &mut Vec<Output>) {
        let Some(sub) = self.subs.get_mut(index) else {
            return;
        };
        if !sub.traits.has(Traits::JOIN_LEAVE) {
            return;
        }
        sub.traits = sub.traits.with(Traits::JOINED, true);
        let channel = sub.channel.clone();
        let chan_info = sub.chan_info();
        out.push(Output::Join {
            channel,
            info: Arc::new(self.info(chan_info)),
        });
    }

    /// Leaves a channel; the client is told if there is a code.
    pub(super) fn drop_subscription(
        &mut self,
        index: usize,
        told: Option<UnsubscribeCode>,
        out: &mut Vec<Output>,
    ) {
        let sub = self.subs.swap_remove(index);
        self.subs.shrink_to_fit();
        let told = told.map(|code| code.to_push(&sub.channel));
        out.push(Output::Leave(sub));
        if let Some(told) = told {
            push(out, told);
        }
    }
}

/// What a client asks for beyond the channel.
#[derive(Debug, Clone, Copy)]
struct Wish {
    positioned: bool,
    recoverable: bool,
    join_leave: bool,
}

impl Plan {
    pub(super) fn is_recoverable(&self) -> bool {
        self.traits.has(Traits::RECOVERABLE)
    }

    /// A pattern has no stream and no presence: only publications reach its subscribers.
    fn as_wildcard(&mut self) {
        self.ask.wildcard = true;
        self.ask.positioned = false;
        self.ask.join_leave_pushes = false;
        self.ask.presence = None;
        self.traits = Traits::default().with(Traits::WILDCARD, true);
    }
}

/// Seconds until `expires_at`, at least one: 0 would mean "never".
pub(super) fn ttl(expires_at: u64, cx: Context<'_>) -> u32 {
    u32::try_from(expires_at.saturating_sub(cx.now.unix_s()).max(1)).unwrap_or(u32::MAX)
}
