//! The connect command: token, identity, server-side subscriptions, reply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::access::is_wildcard;
use super::output::{Output, Recover, Request, Response};
use super::subscribe::{Plan, ttl};
use super::subscription::Traits;
use super::{Context, Phase, Session, Step, Transport, error, millis, reply};
use crate::claims::{ConnectionClaims, ServerSubscription, TokenError};
use crate::code::{Disconnect, ErrorCode};
use crate::message::{self, ConnectRequest, ConnectResult, StreamPosition};

/// A connect command under way.
#[derive(Debug)]
pub(super) struct Connecting {
    id: u32,
    /// Positions the client knows, by channel.
    known: BTreeMap<String, message::SubscribeRequest>,
    /// Server-side subscriptions still to be made, and what marks them.
    todo: VecDeque<(ServerSubscription, u8)>,
    /// The one being made.
    current: Option<Plan>,
    done: BTreeMap<String, message::SubscribeResult>,
}

impl Session {
    pub(super) fn connect(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: ConnectRequest,
        out: &mut Vec<Output>,
    ) {
        self.phase = Phase::Connecting;
        // They would become server-side subscriptions, and they are kept while the token
        // is checked: nobody unknown may have more of them than a client may have.
        if request.subs.len() > cx.settings.client.channel_limit {
            return self.close(Disconnect::CHANNEL_LIMIT, out);
        }
        let connecting = Connecting {
            id,
            known: request.subs,
            todo: VecDeque::new(),
            current: None,
            done: BTreeMap::new(),
        };
        let verified = self.verified.take();
        if !request.token.is_empty() {
            let request = Request::Authenticate {
                token: request.token,
            };
            return self.ask(Step::Connect(Box::new(connecting)), request, out);
        }
        if let Some(claims) = verified {
            return self.proven(cx, connecting, *claims, out);
        }
        if !cx.settings.client.allow_anonymous_connect_without_token {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        self.identified(cx, connecting, ConnectionClaims::default(), out);
    }

    pub(super) fn continue_connect(
        &mut self,
        cx: Context<'_>,
        mut connecting: Connecting,
        response: Response,
        out: &mut Vec<Output>,
    ) {
        match response {
            Response::Authenticated(Ok(claims)) => self.proven(cx, connecting, claims, out),
            Response::Authenticated(Err(TokenError::Expired)) => {
                self.refuse(connecting.id, ErrorCode::TokenExpired, out);
            }
            Response::Authenticated(Err(TokenError::Unavailable(_))) => {
                self.refuse(connecting.id, ErrorCode::Internal, out);
            }
            Response::Authenticated(Err(TokenError::Invalid(_) | TokenError::Revoked)) => {
                self.close(Disconnect::INVALID_TOKEN, out);
            }
            Response::Registered(false) => self.close(Disconnect::CONNECTION_LIMIT, out),
            Response::Registered(true) => self.next_server_side(cx, connecting, out),
            Response::Subscribed(result) => {
                let Some(plan) = connecting.current.take() else {
                    return self.close(Disconnect::INTERNAL_SERVER_ERROR, out);
                };
                match result {
                    Ok(found) => {
                        let channel = plan.ask.channel.as_str().to_owned();
                        let (_, result) = self.settle(plan, found);
                        connecting.done.insert(channel, result);
                        self.next_server_side(cx, connecting, out);
                    }
                    Err(code) => self.refuse(connecting.id, code, out),
                }
            }
            Response::SubscriptionAuthorized(_)
            | Response::Published(_)
            | Response::Called(_)
            | Response::History(_)
            | Response::Presence(_)
            | Response::PresenceStats(_) => self.close(Disconnect::INTERNAL_SERVER_ERROR, out),
        }
    }

    /// Takes what a token says.
    fn proven(
        &mut self,
        cx: Context<'_>,
        connecting: Connecting,
        claims: ConnectionClaims,
        out: &mut Vec<Output>,
    ) {
        if claims.user.is_empty() && cx.settings.client.disallow_anonymous_connection_tokens {
            return self.close(Disconnect::PERMISSION_DENIED, out);
        }
        if claims
            .expires_at
            .is_some_and(|at| at != 0 && at <= cx.now.unix_s())
        {
            return self.refuse(connecting.id, ErrorCode::Expired, out);
        }
        self.identified(cx, connecting, claims, out);
    }

    fn identified(
        &mut self,
        cx: Context<'_>,
        mut connecting: Connecting,
        claims: ConnectionClaims,
        out: &mut Vec<Output>,
    ) {
        let client = &cx.settings.client;
        self.set_identity(&claims);
        let mut listed: BTreeSet<String> = BTreeSet::new();
        for sub in claims.subs {
            if listed.insert(sub.channel.clone()) {
                connecting.todo.push_back((sub, Traits::FROM_TOKEN));
            }
        }
        let personal = &client.subscribe_to_user_personal_channel;
        let has_personal = personal.enabled && !claims.user.is_empty();
        if has_personal {
            let channel = personal_channel(&personal.personal_channel_namespace, &claims.user);
            if self.permits(&channel) && listed.insert(channel.clone()) {
                connecting.todo.push_back((named(channel), 0));
            }
        }
        for name in connecting
            .known
            .keys()
            .filter(|name| !listed.contains(*name))
        {
            match self.look_up(cx, name) {
                Ok(resolved)
                    if self.may_subscribe(cx, name, &resolved.options)
                        && is_wildcard(cx, self.dialect, name, &resolved.options).is_ok() =>
                {
                    connecting.todo.push_back((named(name.clone()), 0));
                }
                Err(ErrorCode::UnknownChannel) => return self.close(Disconnect::BAD_REQUEST, out),
                _ => {}
            }
        }
        if connecting.todo.len() > client.channel_limit {
            return self.close(Disconnect::CHANNEL_LIMIT, out);
        }
        let single_connection = has_personal && personal.single_connection;
        let step = Step::Connect(Box::new(connecting));
        self.ask(step, Request::Register { single_connection }, out);
    }

    fn next_server_side(
        &mut self,
        cx: Context<'_>,
        mut connecting: Connecting,
        out: &mut Vec<Output>,
    ) {
        let Some((sub, marks)) = connecting.todo.pop_front() else {
            return self.welcome(cx, connecting, out);
        };
        let planned = self
            .look_up(cx, &sub.channel)
            .and_then(|resolved| Ok((resolved, self.plan_server_side(cx, resolved, &sub, 0)?)));
        let (resolved, mut plan) = match planned {
            Ok(planned) => planned,
            Err(code) => return self.refuse(connecting.id, code, out),
        };
        plan.traits = plan.traits.with(marks, true);
        if let Some(known) = connecting.known.get(&sub.channel)
            && known.recover
            && plan.is_recoverable()
        {
            plan.ask.recover = Some(Recover {
                since: StreamPosition {
                    offset: known.offset,
                    epoch: known.epoch.clone(),
                },
                mode: resolved.options.force_recovery_mode,
            });
        }
        let ask = plan.ask.clone();
        connecting.current = Some(plan);
        self.ask(
            Step::Connect(Box::new(connecting)),
            Request::Subscribe(ask),
            out,
        );
    }

    fn welcome(&mut self, cx: Context<'_>, connecting: Connecting, out: &mut Vec<Output>) {
        let client = &cx.settings.client;
        self.phase = Phase::Connected;
        let pulse = self.dialect.pulse(cx.settings);
        let interval_ms = millis(pulse.interval);
        // Spread the first pings over half an interval; the id is as good as dice.
        let spread_ms = (self.client().0 as u64) % (interval_ms / 2).max(1);
        self.alarm_ms = match interval_ms {
            0 => u64::MAX,
            _ => cx.now.mono_ms + interval_ms / 2 + spread_ms,
        };
        self.plan_expiry(cx.settings);
        let (expires, ttl) = self.connection_ttl(cx);
        let mut result = ConnectResult {
            client: self.client().to_string(),
            version: cx.settings.version.to_owned(),
            expires,
            ttl,
            subs: connecting.done,
            // In whole seconds, of which none would mean "never".
            ping: u32::try_from(interval_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
            pong: interval_ms > 0 && !pulse.timeout.is_zero(),
            ..ConnectResult::default()
        };
        if client.connect_include_server_time {
            result.time = i64::try_from(cx.now.unix_ms).unwrap_or(i64::MAX);
        }
        if let Transport::Emulated { session } = self.transport() {
            result.session = uuid::Uuid::from_u128(session).hyphenated().to_string();
            cx.settings.node.clone_into(&mut result.node);
        }
        if self.dialect.profile().logs_in_by_command {
            reply(out, connecting.id, |reply| {
                reply.connect = Some(result.into());
            });
        } else {
            out.push(Output::Begun);
        }
        for index in 0..self.subs.len() {
            self.announce(index, out);
        }
    }

    pub(super) fn connection_ttl(&self, cx: Context<'_>) -> (bool, u32) {
        match self
            .identity
            .as_ref()
            .map_or(0, |identity| identity.expires_at)
        {
            0 => (false, 0),
            at => (true, ttl(at, cx)),
        }
    }

    fn refuse(&mut self, id: u32, code: ErrorCode, out: &mut Vec<Output>) {
        if !self.dialect.profile().logs_in_by_command {
            // There is no command to answer.
            let disconnect = match code {
                ErrorCode::PermissionDenied => Disconnect::PERMISSION_DENIED,
                _ => Disconnect::INTERNAL_SERVER_ERROR,
            };
            return self.close(disconnect, out);
        }
        self.phase = Phase::Refused;
        // The client does not know of those that were made; nothing of them may reach it.
        out.extend(
            std::mem::take(&mut self.subs)
                .into_iter()
                .map(Output::Leave),
        );
        error(out, id, code);
    }
}

fn named(channel: String) -> ServerSubscription {
    ServerSubscription {
        channel,
        ..ServerSubscription::default()
    }
}

/// The channel that only this user may enter.
fn personal_channel(namespace: &str, user: &str) -> String {
    match namespace {
        "" => format!("#{user}"),
        namespace => format!("{namespace}:#{user}"),
    }
}
