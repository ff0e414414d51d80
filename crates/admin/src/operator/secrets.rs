//! `/admin/secrets…`: what `{secret.X}` stands for. Values go in and never come out.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::proxies::{NO_SUCH, proxies_of};
use super::{Refusal, actor, audit, body_of, json, query};
use crate::control::{Control, Operator, Proxies, ProxyError, ProxySecret, SecretValue};
use crate::records::time;
use crate::router::Shared;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: &'a str,
    environment: &'a str,
    value: &'static str,
    updated: String,
    author: &'a str,
}

impl<'a> From<&'a ProxySecret> for Entry<'a> {
    fn from(secret: &'a ProxySecret) -> Self {
        Self {
            name: &secret.name,
            environment: &secret.environment,
            value: MASK,
            updated: time(secret.updated_ms),
            author: &secret.author,
        }
    }
}

pub(super) async fn list<C: Operator>(control: &C) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct List<'a> {
        secrets: Vec<Entry<'a>>,
    }
    let mut found = proxies_of(control)?.secrets().await?;
    found.sort_unstable_by(|one, other| {
        (&one.environment, &one.name).cmp(&(&other.environment, &other.name))
    });
    let secrets = found.iter().map(Entry::from).collect();
    Ok(json(StatusCode::OK, &List { secrets }))
}

pub(super) async fn show<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let proxies = proxies_of(control)?;
    let Address { name, environment } = Address::of(head)?;
    let found = proxies.secrets().await?;
    let found = found
        .iter()
        .find(|secret| secret.name == name && secret.environment == environment);
    let secret = found.ok_or(Refusal::NotFound(NO_SUCH))?;
    Ok(json(StatusCode::OK, &Entry::from(secret)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    value: String,
}

pub(super) async fn put<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let proxies = proxies_of(&*shared.control)?;
    let address = Address::of(head)?;
    let New { value } = body_of(shared, body).await?;
    check(&value)?;
    let Address { name, environment } = &address;
    let value = SecretValue::new(value);
    let done = proxies
        .put_secret(actor(head), environment, name, value)
        .await;
    audit(head, "set secret", &address.subject(), &done);
    done?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn remove<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let proxies = proxies_of(control)?;
    let address = Address::of(head)?;
    let Address { name, environment } = &address;
    let done = proxies.delete_secret(actor(head), environment, name).await;
    if done != Err(ProxyError::NotFound) {
        audit(head, "delete secret", &address.subject(), &done);
    }
    done?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Which secret: its name in the path, its environment in the query.
struct Address {
    name: String,
    environment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressQuery {
    environment: Option<String>,
}

impl Address {
    fn of(head: &Parts) -> Result<Self, Refusal> {
        let name = head.uri.path().strip_prefix("/admin/secrets/");
        let name = name.unwrap_or_default();
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let goes_on = |byte: u8| begins(byte) || byte.is_ascii_digit();
        if !(name.bytes().next().is_some_and(begins)
            && name.bytes().all(goes_on)
            && name.len() <= NAME_BYTES_MAX)
        {
            return Err(Refusal::Malformed(format!(
                "name of a secret must be 1 to {NAME_BYTES_MAX} letters, digits and _, and not \
                 begin with a digit"
            )));
        }
        let AddressQuery { environment } = query(&head.uri)?;
        let environment = environment.unwrap_or_else(|| ENVIRONMENT_DEFAULT.to_owned());
        if !((1..=NAME_BYTES_MAX).contains(&environment.len())
            && environment
                .bytes()
                .all(|byte| goes_on(byte) || byte == b'-'))
        {
            return Err(Refusal::Malformed(format!(
                "environment must be 1 to {NAME_BYTES_MAX} letters, digits, _ and -"
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            environment,
        })
    }

    fn subject(&self) -> String {
        format!("{} of {}", self.name, self.environment)
    }
}

/// What can't be a value: it would not fit into a header, or it is the mask that is shown
/// instead of values and came back.
fn check(value: &str) -> Result<(), Refusal> {
    let rule = if value.is_empty() {
        "value must not be empty"
    } else if value.len() > VALUE_BYTES_MAX {
        "value must have at most 8192 bytes"
    } else if value.chars().any(char::is_control) {
        "value must not have control characters, such as a line feed at its end"
    } else if value == MASK {
        "value is the mask that is shown instead of values; send the secret itself"
    } else {
        return Ok(());
    };
    Err(Refusal::Malformed(rule.to_owned()))
}

/// Shown instead of every value.
const MASK: &str = "********";

const ENVIRONMENT_DEFAULT: &str = "global";
const NAME_BYTES_MAX: usize = 100;
const VALUE_BYTES_MAX: usize = 8_192;
