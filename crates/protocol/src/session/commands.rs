//! The commands besides connect and subscribe.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::access::{Action, is_wildcard};
use super::output::{HistoryAsk, Output, Request};
use super::subscribe::ttl;
use super::subscription::Traits;
use super::{Context, Session, Step, Via, error, reply};
use crate::calls::Call;
use crate::channel::Channel;
use crate::claims::{ConnectionClaims, SubscriptionClaims, TokenError};
use crate::code::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::codec::Encoding;
use crate::message::{
    Error, HistoryRequest, PublishRequest, RefreshRequest, RefreshResult, RpcRequest, RpcResult,
    SubRefreshRequest, SubRefreshResult, UnsubscribeRequest,
};
use crate::settings::{DataFormat, ResolvedOptions};

impl Session {
    pub(super) fn unsubscribe(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: &UnsubscribeRequest,
        out: &mut Vec<Output>,
    ) {
        if request.channel.is_empty() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        if let Some(index) = self.position_of(&request.channel) {
            self.drop_subscription(index, None, out);
            self.plan_expiry(cx.settings);
        }
        reply(out, id, |reply| {
            reply.unsubscribe = Some(Default::default());
        });
    }

    pub(super) fn publish(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: PublishRequest,
        out: &mut Vec<Output>,
    ) {
        if request.channel.is_empty() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        let resolved = match self.look_up(cx, &request.channel) {
            Ok(resolved) => resolved,
            Err(code) => return error(out, id, code),
        };
        if !fits(&request.data, resolved.options.publication_data_format)
            || is_wildcard(cx, self.dialect, &request.channel, &resolved.options) != Ok(false)
        {
            return error(out, id, ErrorCode::BadRequest);
        }
        if !self.may(Action::Publish, &request.channel, &resolved.options) {
            return error(out, id, ErrorCode::PermissionDenied);
        }
        if resolved.options.relay {
            if !self.owns(&request.channel) {
                return error(out, id, ErrorCode::PermissionDenied);
            }
            return out.push(Output::Submit {
                via: Via::Publish(id),
                data: request.data,
            });
        }
        let sub = self
            .position_of(&request.channel)
            .and_then(|index| self.subs.get(index));
        let chan_info = sub.map(super::Subscription::chan_info).unwrap_or_default();
        let request = Request::Publish {
            channel: Channel::new(&request.channel),
            data: request.data,
            info: Arc::new(self.info(chan_info)),
            options: Arc::clone(resolved),
        };
        self.ask(Step::Publish { id }, request, out);
    }

    /// Answers a call with what came; whoever speaks JSON gets bytes that are none as
    /// `{"base64":"…"}`.
    pub(super) fn called(&self, id: u32, result: Result<Bytes, Error>, out: &mut Vec<Output>) {
        let data = match result {
            Ok(data) => data,
            Err(error) => return reply(out, id, |reply| reply.error = Some(error)),
        };
        let fits = self.encoding == Encoding::Protobuf
            || serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok();
        let data = if fits {
            data
        } else {
            format!(r#"{{"base64":"{}"}}"#, STANDARD.encode(&data)).into()
        };
        reply(out, id, |reply| reply.rpc = Some(RpcResult { data }));
    }

    pub(super) fn history(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: HistoryRequest,
        out: &mut Vec<Output>,
    ) {
        let resolved = match self.readable(cx, &request.channel, Action::History, out) {
            Some(Ok(resolved)) => resolved,
            Some(Err(code)) => return error(out, id, code),
            None => return,
        };
        if request.reverse
            && request
                .since
                .as_ref()
                .is_some_and(|since| since.offset == 0)
        {
            return error(out, id, ErrorCode::BadRequest);
        }
        let most = cx.settings.client.history_max_publication_limit;
        let limit = usize::try_from(request.limit).map_or(most, |limit| limit.min(most));
        let ask = HistoryAsk {
            channel: Channel::new(&request.channel),
            options: Arc::clone(resolved),
            since: request.since,
            limit,
            reverse: request.reverse,
        };
        self.ask(Step::History { id }, Request::History(ask), out);
    }

    pub(super) fn presence(
        &mut self,
        cx: Context<'_>,
        id: u32,
        channel: &str,
        stats_only: bool,
        out: &mut Vec<Output>,
    ) {
        match self.readable(cx, channel, Action::Presence, out) {
            Some(Ok(_)) => {}
            Some(Err(code)) => return error(out, id, code),
            None => return,
        }
        let channel = Channel::new(channel);
        if stats_only {
            self.ask(
                Step::PresenceStats { id },
                Request::PresenceStats { channel },
                out,
            );
        } else {
            self.ask(Step::Presence { id }, Request::Presence { channel }, out);
        }
    }

    /// Checks a channel for reading; `None` if the session was closed over it.
    fn readable<'a>(
        &mut self,
        cx: Context<'a>,
        channel: &str,
        action: Action,
        out: &mut Vec<Output>,
    ) -> Option<Result<&'a Arc<ResolvedOptions>, ErrorCode>> {
        if channel.is_empty() {
            self.close(Disconnect::BAD_REQUEST, out);
            return None;
        }
        Some(self.look_up(cx, channel).and_then(|resolved| {
            let options = &resolved.options;
            let offered = match action {
                Action::History => options.has_history(),
                Action::Presence => options.presence,
                Action::Publish => true,
            };
            if !offered {
                Err(ErrorCode::NotAvailable)
            } else if self.may(action, channel, options) {
                Ok(resolved)
            } else {
                Err(ErrorCode::PermissionDenied)
            }
        }))
    }

    pub(super) fn rpc(
        &mut self,
        cx: Context<'_>,
        id: u32,
        request: &RpcRequest,
        out: &mut Vec<Output>,
    ) {
        if let Ok(resolved) = self.look_up(cx, &request.method)
            && resolved.options.relay
        {
            if !self.owns(&request.method) {
                return error(out, id, ErrorCode::PermissionDenied);
            }
            return out.push(Output::Submit {
                via: Via::Rpc(id),
                data: request.data.clone(),
            });
        }
        if let Some(call) = cx.settings.calls.get(&request.method) {
            match self.call(cx, call, &request.data) {
                Ok(request) => self.ask(Step::Call { id }, request, out),
                Err(code) => error(out, id, code),
            }
            return;
        }
        if !cx.settings.rpc_ping {
            return error(out, id, ErrorCode::NotAvailable);
        }
        match request.method.as_str() {
            "ping" => reply(out, id, |reply| reply.rpc = Some(RpcResult::default())),
            _ => error(out, id, ErrorCode::MethodNotFound),
        }
    }

    /// The question that a call becomes, if its caller may ask it.
    fn call(&self, cx: Context<'_>, call: &Call, data: &Bytes) -> Result<Request, ErrorCode> {
        let (request, channel) = match call {
            Call::Bus(call) => {
                let filled = call.fill(data).map_err(|_| ErrorCode::BadRequest)?;
                let (subject, channel) = filled;
                let data = data.clone();
                (Request::Call { subject, data }, Some(channel))
            }
            Call::Service(call) => {
                if self.user().is_empty() && !call.anonymous {
                    return Err(ErrorCode::PermissionDenied);
                }
                let channel = call.channel(data).map_err(|_| ErrorCode::BadRequest)?;
                let (method, data) = (Arc::clone(&call.method), data.clone());
                (Request::CallService { method, data }, channel)
            }
        };
        // Whoever is subscribed was allowed to, perhaps by a token of its own.
        let is_allowed = channel.is_none_or(|channel| {
            self.look_up(cx, &channel).is_ok_and(|resolved| {
                self.position_of(&channel).is_some()
                    || self.may_subscribe(cx, &channel, &resolved.options)
            })
        });
        is_allowed
            .then_some(request)
            .ok_or(ErrorCode::PermissionDenied)
    }

    pub(super) fn refresh(&mut self, id: u32, request: &RefreshRequest, out: &mut Vec<Output>) {
        if request.token.is_empty() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        let token = request.token.clone();
        self.ask(Step::Refresh { id }, Request::Authenticate { token }, out);
    }

    pub(super) fn finish_refresh(
        &mut self,
        cx: Context<'_>,
        id: u32,
        result: Result<ConnectionClaims, TokenError>,
        out: &mut Vec<Output>,
    ) {
        let claims = match result {
            Ok(claims) => claims,
            // Error 109 would end the SDK here (C14): a close makes it come back
            // with a new token.
            Err(TokenError::Expired) => return self.close(Disconnect::CONNECTION_EXPIRED, out),
            Err(TokenError::Unavailable(_)) => return error(out, id, ErrorCode::Internal),
            Err(TokenError::Invalid(_) | TokenError::Revoked) => {
                return self.close(Disconnect::INVALID_TOKEN, out);
            }
        };
        if claims.user != self.user() {
            return self.close(Disconnect::INVALID_TOKEN, out);
        }
        if claims
            .expires_at
            .is_some_and(|at| at != 0 && at <= cx.now.unix_s())
        {
            return self.close(Disconnect::CONNECTION_EXPIRED, out);
        }
        let wanted: BTreeSet<&str> = claims.subs.iter().map(|sub| sub.channel.as_str()).collect();
        let granted = self
            .subs
            .iter()
            .filter(|sub| sub.traits.has(Traits::FROM_TOKEN));
        if granted
            .map(|sub| sub.channel.as_str())
            .collect::<BTreeSet<&str>>()
            != wanted
        {
            return self.close(Disconnect::INSUFFICIENT_STATE, out);
        }
        self.set_identity(&claims);
        self.end_forbidden(out);
        self.plan_expiry(cx.settings);
        let (expires, ttl) = self.connection_ttl(cx);
        let result = RefreshResult {
            client: self.client().to_string(),
            version: cx.settings.version.to_owned(),
            expires,
            ttl,
        };
        reply(out, id, |reply| reply.refresh = Some(result));
    }

    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest,
        out: &mut Vec<Output>,
    ) {
        if request.channel.is_empty() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        let Some(index) = self.position_of(&request.channel) else {
            return error(out, id, ErrorCode::PermissionDenied);
        };
        if self.subs[index].is_server_side() {
            return self.close(Disconnect::BAD_REQUEST, out);
        }
        if request.token.is_empty() {
            return error(out, id, ErrorCode::BadRequest);
        }
        let step = Step::SubRefresh {
            id,
            channel: request.channel.as_str().into(),
        };
        let token = request.token.clone();
        self.ask(step, Request::AuthorizeSubscription { token }, out);
    }

    pub(super) fn finish_sub_refresh(
        &mut self,
        cx: Context<'_>,
        id: u32,
        channel: &str,
        result: Result<SubscriptionClaims, TokenError>,
        out: &mut Vec<Output>,
    ) {
        let now_s = cx.now.unix_s();
        let claims = match result {
            Ok(claims) if claims.expires_at.is_some_and(|at| at != 0 && at <= now_s) => {
                Err(TokenError::Expired)
            }
            other => other,
        };
        let Some(index) = self.position_of(channel) else {
            // It expired while the token was checked; the client has been told.
            return error(out, id, ErrorCode::PermissionDenied);
        };
        match claims {
            Ok(claims) if self.is_own_token(&claims, channel) => {
                let expires_at = claims.expires_at.unwrap_or(0);
                if let Some(sub) = self.subs.get_mut(index) {
                    sub.expires_at = expires_at;
                    sub.info = (!claims.info.is_empty()).then(|| Box::new(claims.info));
                }
                self.plan_expiry(cx.settings);
                let result = match expires_at {
                    0 => SubRefreshResult::default(),
                    at => SubRefreshResult {
                        expires: true,
                        ttl: ttl(at, cx),
                    },
                };
                reply(out, id, |reply| reply.sub_refresh = Some(result));
            }
            Ok(_) | Err(TokenError::Invalid(_) | TokenError::Revoked) => {
                self.close(Disconnect::INVALID_TOKEN, out);
            }
            // The SDK resubscribes and asks for a new token (C1).
            Err(TokenError::Expired) => {
                let told = Some(UnsubscribeCode::SUBSCRIPTION_EXPIRED);
                self.drop_subscription(index, told, out);
                self.plan_expiry(cx.settings);
                reply(out, id, |reply| {
                    reply.sub_refresh = Some(Default::default());
                });
            }
            Err(TokenError::Unavailable(_)) => error(out, id, ErrorCode::Internal),
        }
    }
}

/// Whether a payload is of the kind the namespace asks for.
pub(super) fn fits(data: &[u8], format: DataFormat) -> bool {
    match format {
        DataFormat::Binary => true,
        DataFormat::Any => !data.is_empty(),
        DataFormat::Json => is_json(data),
        DataFormat::JsonObject => data.trim_ascii_start().first() == Some(&b'{') && is_json(data),
    }
}

/// As strict as what writes the payload into a JSON frame: UTF-8, and one value.
fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok()
}
