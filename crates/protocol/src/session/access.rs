//! Who may do what on a channel (`contracts`: centrifuge 11.13).
//!
//! The order of the checks is part of the contract: the first decision wins.

use std::sync::Arc;

use super::{Context, Output, Session};
use crate::code::{ErrorCode, UnsubscribeCode};
use crate::dialect::Dialect;
use crate::settings::{ChannelOptions, ResolvedOptions, namespace_of};
use crate::subject::Pattern;

/// What is asked of a channel one may already be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Publish,
    History,
    Presence,
}

impl Session {
    /// Looks a channel up and checks its name and whether the identity may have it:
    /// 102, 107, 103. All that names a channel comes through here before anything is
    /// asked of the bus.
    pub(super) fn look_up<'a>(
        &self,
        cx: Context<'a>,
        channel: &str,
    ) -> Result<&'a Arc<ResolvedOptions>, ErrorCode> {
        let resolved = cx.settings.namespaces.look_up(channel)?;
        if self.permits(channel) {
            Ok(resolved)
        } else {
            Err(ErrorCode::PermissionDenied)
        }
    }

    /// Whether the identity may have a channel, or a pattern, at all: what its token's
    /// `subjects` say, if it says so. Namespaces may forbid it still.
    pub fn permits(&self, channel: &str) -> bool {
        self.identity()
            .and_then(|identity| identity.subjects.as_ref())
            .is_none_or(|subjects| subjects.allow(channel))
    }

    /// Ends the subscriptions that the identity may have no more.
    pub(super) fn end_forbidden(&mut self, out: &mut Vec<Output>) {
        let mut index = 0;
        while let Some(sub) = self.subs.get(index) {
            if self.permits(&sub.channel) {
                index += 1;
            } else {
                let told = Some(UnsubscribeCode::SERVER_UNSUBSCRIBE);
                self.drop_subscription(index, told, out);
            }
        }
    }

    /// Whether the client may subscribe without a token.
    pub(super) fn may_subscribe(
        &self,
        cx: Context<'_>,
        channel: &str,
        options: &ChannelOptions,
    ) -> bool {
        let has_own_subjects = self.dialect.profile().has_own_subjects;
        if has_own_subjects && !cx.settings.live_subjects.allow(channel) {
            return false;
        }
        if options.relay {
            return self.owns(channel);
        }
        if channel.starts_with('$') {
            return false;
        }
        if let Some((_, users)) = channel.rsplit_once('#') {
            let user = self.user();
            return options.allow_user_limited_channels
                && !user.is_empty()
                && users.split(',').any(|listed| listed == user);
        }
        has_own_subjects
            || options.allow_subscribe_for_client
                && (!self.user().is_empty() || options.allow_subscribe_for_anonymous)
    }

    /// Whether the client may publish, read history or read presence.
    pub(super) fn may(&self, action: Action, channel: &str, options: &ChannelOptions) -> bool {
        let (for_client, for_subscriber, for_anonymous) = match action {
            Action::Publish => (
                options.allow_publish_for_client,
                options.allow_publish_for_subscriber,
                options.allow_publish_for_anonymous,
            ),
            Action::History => (
                options.allow_history_for_client,
                options.allow_history_for_subscriber,
                options.allow_history_for_anonymous,
            ),
            Action::Presence => (
                options.allow_presence_for_client,
                options.allow_presence_for_subscriber,
                options.allow_presence_for_anonymous,
            ),
        };
        let granted = for_client || (for_subscriber && self.position_of(channel).is_some());
        granted && (!self.user().is_empty() || for_anonymous)
    }
}

/// Whether a channel is to be read as a subject pattern: it has wildcard tokens and
/// its namespace, or the dialect, allows them. The namespace itself is never a wildcard,
/// and without a namespace in the name all that the pattern covers must have the same
/// options.
pub(super) fn is_wildcard(
    cx: Context<'_>,
    dialect: Dialect,
    channel: &str,
    options: &ChannelOptions,
) -> Result<bool, ErrorCode> {
    if !(options.allow_wildcard_subscribe || dialect.profile().has_own_subjects) {
        return Ok(false);
    }
    let Ok(pattern) = Pattern::new(channel) else {
        // Whoever speaks in subjects has mistyped one; elsewhere it is a name like others.
        return match dialect.profile().has_own_subjects {
            true => Err(ErrorCode::BadRequest),
            false => Ok(false),
        };
    };
    if pattern.is_literal() {
        return Ok(false);
    }
    match namespace_of(channel) {
        Some(namespace) if namespace.contains(['*', '>']) => Err(ErrorCode::PermissionDenied),
        Some(_) => Ok(true),
        // Without a namespace in the name a leading wildcard would cross namespaces.
        None if channel.starts_with(['*', '>']) => Err(ErrorCode::PermissionDenied),
        None if !cx.settings.namespaces.agree_on(&pattern) => Err(ErrorCode::PermissionDenied),
        None => Ok(true),
    }
}
