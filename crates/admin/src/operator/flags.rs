//! `/admin/feature-flags` (`contracts`: live-data L1): switches for gateway and clients.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Envelope, Refusal, Whole, audit, body_of, json};
use crate::control::{
    Console, Control, FlagChange, FlagRefusal, FlagRollout, FlagState, FlagValue, Operator,
};
use crate::router::Shared;

pub(super) fn show<C: Operator>(control: &C) -> Result<Response, Refusal> {
    let flags = control
        .console()
        .flags()
        .ok_or(Refusal::NotFound(ARE_OFF))?;
    Ok(json(StatusCode::OK, &flags))
}

/// A flag as somebody wants it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a flag must be true, false, or a map with `enabled` and `percentage` (a whole number, 0 to 100)"
)]
enum Wanted {
    Plain(bool),
    Rollout(WantedRollout),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedRollout {
    enabled: bool,
    percentage: Option<Whole>,
}

impl Wanted {
    fn value(self, name: &str) -> Result<FlagValue, Refusal> {
        let rollout = match self {
            Self::Plain(enabled) => return Ok(FlagValue::Plain(enabled)),
            Self::Rollout(rollout) => rollout,
        };
        let percentage = rollout.percentage.map(|Whole(number)| u8::try_from(number));
        let percentage = percentage.transpose().ok();
        let percentage = percentage.filter(|it| it.is_none_or(|number| number <= 100));
        let percentage = percentage.ok_or_else(|| {
            Refusal::Malformed(format!(
                "flags.{name}.percentage must be a whole number from 0 to 100"
            ))
        })?;
        Ok(FlagValue::Rollout(FlagRollout {
            enabled: rollout.enabled,
            percentage,
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    flags: BTreeMap<String, Wanted>,
    version: Option<Whole>,
}

pub(super) async fn replace<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let Replacement { flags, version } = body_of(shared, body).await?;
    let flags = flags.into_iter().map(|(name, wanted)| {
        let value = wanted.value(&name)?;
        Ok((name, value))
    });
    let flags = flags.collect::<Result<_, Refusal>>()?;
    change(shared, head, FlagChange::Replace(flags), version).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    flags: BTreeMap<String, Option<Wanted>>,
    version: Option<Whole>,
}

pub(super) async fn merge<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let Addition { flags, version } = body_of(shared, body).await?;
    let flags = flags.into_iter().map(|(name, wanted)| {
        let value = wanted.map(|wanted| wanted.value(&name)).transpose()?;
        Ok((name, value))
    });
    let flags = flags.collect::<Result<_, Refusal>>()?;
    change(shared, head, FlagChange::Merge(flags), version).await
}

async fn change<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    change: FlagChange,
    version: Option<Whole>,
) -> Result<Response, Refusal> {
    let expected = version.map(|Whole(version)| version);
    let outcome = shared
        .control
        .console()
        .change_flags(change, expected)
        .await;
    let subject = match &outcome {
        Ok(changed) if changed.differences.is_empty() => "nothing differs".to_owned(),
        Ok(changed) => changed.differences.join(", "),
        Err(_) => String::new(),
    };
    if !matches!(outcome, Err(FlagRefusal::Off)) {
        audit(head, "set feature flags", &subject, &outcome);
    }
    match outcome {
        Ok(changed) => Ok(json(StatusCode::OK, &changed.state)),
        Err(FlagRefusal::Changed(state)) => Ok(conflict(state)),
        Err(FlagRefusal::Off) => Err(Refusal::NotFound(ARE_OFF)),
        Err(FlagRefusal::Invalid(problem)) => Err(Refusal::Refused(problem)),
        Err(FlagRefusal::Unavailable(problem)) => Err(Refusal::Unavailable(problem)),
    }
}

/// Says what is there, so that whoever was slower can look at it and decide again.
fn conflict(state: FlagState) -> Response {
    #[derive(Serialize)]
    struct Conflict {
        #[serde(flatten)]
        envelope: Envelope,
        #[serde(flatten)]
        state: FlagState,
    }
    let words = format!("the flags are at version {}", state.version);
    let envelope = Envelope::new("conflict", words);
    json(StatusCode::CONFLICT, &Conflict { envelope, state })
}

const ARE_OFF: &str = "feature flags are off";
