//! Carries checked calls out.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::parallel::in_parallel;
use super::reply::{self, Broadcasted, Empty, Envelope, Published, Replies};
use super::request::{Call, Checked};
use crate::control::{Control, PublishOptions};
use crate::error::ApiError;

/// Runs a call and gives its result as JSON.
pub(super) async fn run<C: Control>(control: &C, call: Call) -> Result<Box<RawValue>, ApiError> {
    match call {
        Call::Batch { commands, parallel } => batch(control, commands, parallel).await,
        single => run_single(control, single).await,
    }
}

async fn run_single<C: Control>(control: &C, call: Call) -> Result<Box<RawValue>, ApiError> {
    match call {
        Call::Publish {
            channel,
            data,
            options,
        } => publish(control, channel, data, options).await,
        Call::Broadcast {
            channels,
            data,
            options,
        } => broadcast(control, channels, data, options).await,
        Call::Subscribe {
            selector,
            channel,
            options,
        } => {
            control.subscribe(selector, &channel, options).await?;
            reply::raw(&Empty {})
        }
        Call::Unsubscribe { selector, channel } => {
            control.unsubscribe(selector, &channel).await?;
            reply::raw(&Empty {})
        }
        Call::Disconnect {
            selector,
            whitelist,
            disconnect,
        } => {
            control.disconnect(selector, whitelist, disconnect).await?;
            reply::raw(&Empty {})
        }
        Call::Refresh { selector, options } => {
            control.refresh(selector, options).await?;
            reply::raw(&Empty {})
        }
        Call::Presence { channel } => reply::presence(&control.presence(&channel).await?),
        Call::PresenceStats { channel } => {
            reply::presence_stats(control.presence_stats(&channel).await?)
        }
        Call::History { channel, query } => {
            reply::history(&control.history(&channel, query).await?)
        }
        Call::HistoryRemove { channel } => {
            control.history_remove(&channel).await?;
            reply::raw(&Empty {})
        }
        Call::Channels { pattern } => reply::channels(&control.channels(&pattern).await?),
        Call::Info => reply::info(&control.info().await?),
        // Commands of a batch are never batches.
        Call::Batch { .. } => Err(ApiError::NotFound),
    }
}

async fn publish<C: Control>(
    control: &C,
    channel: String,
    data: Bytes,
    options: PublishOptions,
) -> Result<Box<RawValue>, ApiError> {
    if channel.is_empty() {
        return Err(ApiError::BadRequest);
    }
    reply::raw(&Published::from(
        control.publish(&channel, data, options).await?,
    ))
}

async fn broadcast<C: Control>(
    control: &C,
    channels: Vec<String>,
    data: Bytes,
    options: PublishOptions,
) -> Result<Box<RawValue>, ApiError> {
    let publishes = channels
        .into_iter()
        .map(move |channel| publish(control, channel, data.clone(), options.clone()));
    let outcomes = in_parallel(AT_ONCE_MAX, publishes).await;
    let responses = outcomes.iter().map(|outcome| match outcome {
        Ok(result) => Envelope::result(result),
        Err(error) => Envelope::error(*error),
    });
    reply::raw(&Broadcasted {
        responses: responses.collect(),
    })
}

async fn batch<C: Control>(
    control: &C,
    commands: Vec<Checked>,
    parallel: bool,
) -> Result<Box<RawValue>, ApiError> {
    let runs = commands
        .into_iter()
        .map(move |command| run_command(control, command));
    let at_once = if parallel { AT_ONCE_MAX } else { 1 };
    let replies = in_parallel(at_once, runs)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    reply::raw(&Replies { replies })
}

async fn run_command<C: Control>(
    control: &C,
    command: Checked,
) -> Result<BTreeMap<&'static str, Box<RawValue>>, ApiError> {
    let (name, outcome) = match command {
        Ok(call) => (call.method().name(), run_single(control, call).await),
        Err(error) => ("error", Err(error)),
    };
    let (name, body) = match outcome {
        Ok(result) => (name, result),
        Err(error) => ("error", reply::raw(&reply::ErrorBody::from(error))?),
    };
    Ok(BTreeMap::from([(name, body)]))
}

/// Most calls of one request that are under way together.
const AT_ONCE_MAX: usize = 16;
