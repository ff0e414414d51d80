//! Values of header fields with places to fill in (`contracts`: http-proxy 5.4).
//!
//! | written | is |
//! |---|---|
//! | `{env.X}` | the gateway's environment variable X |
//! | `{secret.X}` | the secret X of the store, or else the environment variable |
//! | `{auth.X}`, `@request.auth.X` | field X of the caller's token; empty for guests |
//!
//! Names match `[a-zA-Z_][a-zA-Z0-9_]*`. Other braces stand for themselves. Variables that begin
//! with `TIDEGATE_` are the gateway's own settings and can't be named. What comes from the store
//! and the environment is filled in once, when a route is compiled; what comes from the caller,
//! with each request.

use std::fmt::Write;

use serde_json::Value;

use super::Caller;

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    Secret(String),
    Auth(String),
}

/// Where values come from when a route is compiled.
pub trait Sources {
    /// An environment variable; `None` if it is not set or not for routes.
    fn env(&self, name: &str) -> Option<String>;

    /// A secret of the store; `None` if there is none of this name.
    fn secret(&self, name: &str) -> Option<String>;
}

/// Why a template can't be read or filled in. Names places, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not closed, or not a name.
    #[error("{{{0}.…}} has no valid name; expected letters, digits and _, no digit first")]
    Name(&'static str),
    /// `{x.y}` with another source.
    #[error("{{{0}}} has no known source; expected env, secret or auth")]
    Source(String),
    /// A variable of the gateway's own.
    #[error("{{env.{0}}} is a setting of the gateway and not for routes")]
    Withheld(String),
    /// The variable is not set.
    #[error("environment variable {0} is not set")]
    NoVariable(String),
    /// Neither secret nor variable.
    #[error("there is no secret {0}")]
    NoSecret(String),
    /// The value has a control character.
    #[error("value of {0} can't stand in a header")]
    Value(String),
    /// The value would be longer than 8192 bytes.
    #[error("value is longer than 8192 bytes")]
    Length,
}

/// The fields that a route sets, as far as they are known without a caller.
#[derive(Clone, Default)]
pub struct Injection {
    fields: Vec<(String, Vec<Filled>)>,
}

/// A header whose template failed: none of the route's headers is injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {header}: {error}")]
pub struct InjectionError {
    /// Its name.
    pub header: String,
    /// What failed.
    pub error: TemplateError,
}

#[derive(Clone)]
enum Filled {
    Text(String),
    Auth(String),
}

impl Template {
    /// Reads a value.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self { parts: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find(['{', '@']) {
            let (before, marked) = rest.split_at(at);
            template.literal(before);
            rest = match marked.strip_prefix(AUTH) {
                Some(after) => template.auth(after)?,
                None => template.braces(marked)?,
            };
        }
        template.literal(rest);
        Ok(template)
    }

    /// The text that stands there literally.
    pub(super) fn literals(&self) -> String {
        let literal = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Env(_) | Part::Secret(_) | Part::Auth(_) => None,
        };
        self.parts.iter().filter_map(literal).collect()
    }

    /// After `@request.auth.`; gives what is left.
    fn auth<'a>(&mut self, after: &'a str) -> Result<&'a str, TemplateError> {
        let (name, rest) = after.split_at(name_length(after));
        if name.is_empty() {
            return Err(TemplateError::Name("@request.auth"));
        }
        self.parts.push(Part::Auth(name.to_owned()));
        Ok(rest)
    }

    /// At a brace or an at sign, which may be the start of a place; gives what is left.
    fn braces<'a>(&mut self, marked: &'a str) -> Result<&'a str, TemplateError> {
        for (start, source) in [("{env.", "env"), ("{secret.", "secret"), ("{auth.", "auth")] {
            let Some(after) = marked.strip_prefix(start) else {
                continue;
            };
            let (name, rest) = after.split_at(name_length(after));
            let rest = rest.strip_prefix('}').ok_or(TemplateError::Name(source))?;
            if name.is_empty() {
                return Err(TemplateError::Name(source));
            }
            let name = name.to_owned();
            self.parts.push(match source {
                "env" if is_withheld(&name) => return Err(TemplateError::Withheld(name)),
                "env" => Part::Env(name),
                "secret" => Part::Secret(name),
                _ => Part::Auth(name),
            });
            return Ok(rest);
        }
        if let Some(inside) = marked
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
        {
            let is_name = |text: &str| !text.is_empty() && name_length(text) == text.len();
            let is_place = inside
                .0
                .split_once('.')
                .is_some_and(|(one, two)| is_name(one) && is_name(two));
            if is_place {
                return Err(TemplateError::Source(inside.0.to_owned()));
            }
        }
        let (mark, rest) = marked.split_at(1);
        self.literal(mark);
        Ok(rest)
    }

    fn literal(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(before)) => before.push_str(text),
            _ => self.parts.push(Part::Literal(text.to_owned())),
        }
    }

    /// Fills in what does not depend on the caller.
    fn settle(&self, sources: &dyn Sources) -> Result<Vec<Filled>, TemplateError> {
        let variable = |name: &str| {
            let may = !is_withheld(name);
            may.then(|| sources.env(name)).flatten()
        };
        let mut filled: Vec<Filled> = Vec::new();
        for part in &self.parts {
            let (name, value) = match part {
                Part::Auth(name) => {
                    filled.push(Filled::Auth(name.clone()));
                    continue;
                }
                Part::Literal(text) => ("text", text.clone()),
                Part::Env(name) => {
                    let missing = || TemplateError::NoVariable(name.clone());
                    (name.as_str(), variable(name).ok_or_else(missing)?)
                }
                Part::Secret(name) => {
                    let missing = || TemplateError::NoSecret(name.clone());
                    let value = sources.secret(name).or_else(|| variable(name));
                    (name.as_str(), value.ok_or_else(missing)?)
                }
            };
            check_value(name, &value)?;
            match filled.last_mut() {
                Some(Filled::Text(before)) => before.push_str(&value),
                _ => filled.push(Filled::Text(value)),
            }
        }
        Ok(filled)
    }
}

impl Injection {
    /// Compiles a route's headers. The values of those who can't be read are never told.
    pub fn compile(
        headers: &[(String, String)],
        sources: &dyn Sources,
    ) -> Result<Self, InjectionError> {
        let compile = |(header, value): &(String, String)| {
            let filled = Template::parse(value).and_then(|template| template.settle(sources));
            match filled {
                Ok(filled) => Ok((header.clone(), filled)),
                Err(error) => Err(InjectionError {
                    header: header.clone(),
                    error,
                }),
            }
        };
        let fields = headers.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { fields })
    }

    /// There is nothing to inject.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Names and values for a caller; empty values are skipped. One that fails fails all.
    pub fn fill(&self, caller: &Caller) -> Result<Vec<(&str, String)>, InjectionError> {
        let mut result = Vec::with_capacity(self.fields.len());
        for (header, parts) in &self.fields {
            let fail = |error| InjectionError {
                header: header.clone(),
                error,
            };
            let mut value = String::new();
            for part in parts {
                match part {
                    Filled::Text(text) => value.push_str(text),
                    Filled::Auth(name) => push_auth(&mut value, name, caller).map_err(fail)?,
                }
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(fail(TemplateError::Length));
            }
            let value = value.trim();
            if !value.is_empty() {
                result.push((header.as_str(), value.to_owned()));
            }
        }
        Ok(result)
    }
}

impl std::fmt::Debug for Injection {
    /// Names only: the values are secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.fields.iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}

/// A field of the caller's token; what is neither text, number nor boolean comes as JSON.
fn push_auth(text: &mut String, name: &str, caller: &Caller) -> Result<(), TemplateError> {
    let start = text.len();
    match (caller, name) {
        (Caller::Guest, _) => {}
        (Caller::User { id, .. }, "id") => text.push_str(id),
        (Caller::Superuser(own), "id") => text.push_str(own),
        (Caller::Superuser(_), _) => {}
        (Caller::User { claims, .. }, name) => match claims.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => text.push_str(value),
            // Writing to text does not fail.
            Some(other) => drop(write!(text, "{other}")),
        },
    }
    check_value(name, text.get(start..).unwrap_or_default())
}

fn check_value(name: &str, value: &str) -> Result<(), TemplateError> {
    let is_fine = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
    if !value.bytes().all(is_fine) {
        return Err(TemplateError::Value(name.to_owned()));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(TemplateError::Length);
    }
    Ok(())
}

fn is_withheld(name: &str) -> bool {
    name.starts_with("TIDEGATE_")
}

/// How much of the start of `text` is a name.
fn name_length(text: &str) -> usize {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    match text.bytes().next() {
        Some(first) if is_first(first) => {
            let length = text
                .bytes()
                .position(|byte| !is_first(byte) && !byte.is_ascii_digit());
            length.unwrap_or(text.len())
        }
        _ => 0,
    }
}

const AUTH: &str = "@request.auth.";
const VALUE_BYTES_MAX: usize = 8_192;

#[cfg(test)]
mod tests;
