//! Subjects with holes: `xy.md.req.snapshot.{group}`.
//!
//! A hole is filled with a value that a client names, so the value must be one token of a
//! subject and nothing that means something there: whoever is allowed `xy.md.tick.a` must
//! not reach `xy.md.tick.>` by asking for a group called `>`.

use serde_json::{Map, Value};

use crate::subject::{Subject, SubjectError};

/// A subject in which tokens may be holes with a name. Cheap to fill, not to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Plain(Box<str>),
    Hole(Box<str>),
}

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace that does not enclose a whole token, or encloses no name.
    #[error("token {token:?} is not a name in braces", token = .0)]
    Hole(
        /// Which token, counted from 1.
        usize,
    ),
    /// The rest is no subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// Why a template could not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// Nothing of this name was given.
    #[error("{0:?} is missing")]
    Missing(Box<str>),
    /// What was given is not one plain token.
    #[error("{0:?} must be 1 to {VALUE_MAX} letters, digits, - and _")]
    Value(Box<str>),
}

impl Template {
    /// Reads a template: tokens with dots between them, each plain or `{name}`. Names have
    /// letters, digits and `_`.
    ///
    /// # Errors
    ///
    /// If a brace is elsewhere, or the rest is no literal subject.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        let mut tokens = Vec::new();
        let mut probe = Vec::new();
        for (index, token) in text.split('.').enumerate() {
            let inner = token
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            match inner {
                Some(name) if is_plain(name) && !name.contains('-') => {
                    tokens.push(Token::Hole(name.into()));
                    probe.push("x");
                }
                None if !token.contains(['{', '}']) => {
                    tokens.push(Token::Plain(token.into()));
                    probe.push(token);
                }
                _ => return Err(TemplateError::Hole(index + 1)),
            }
        }
        Subject::new(&probe.join("."))?;
        Ok(Self(tokens))
    }

    /// The names of its holes, in order.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|token| match token {
            Token::Hole(name) => Some(name.as_ref()),
            Token::Plain(_) => None,
        })
    }

    /// The subject with its holes filled from a JSON object: texts and whole numbers that
    /// are one plain token.
    ///
    /// # Errors
    ///
    /// If a value is missing or is not one plain token.
    pub fn fill(&self, values: &Map<String, Value>) -> Result<String, FillError> {
        let mut filled = String::new();
        for (index, token) in self.0.iter().enumerate() {
            if index > 0 {
                filled.push('.');
            }
            match token {
                Token::Plain(text) => filled.push_str(text),
                Token::Hole(name) => filled.push_str(&value(name, values)?),
            }
        }
        Ok(filled)
    }
}

fn value(name: &str, values: &Map<String, Value>) -> Result<String, FillError> {
    let text = match values.get(name) {
        None | Some(Value::Null) => return Err(FillError::Missing(name.into())),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        Some(_) => return Err(FillError::Value(name.into())),
    };
    match is_plain(&text) {
        true => Ok(text),
        false => Err(FillError::Value(name.into())),
    }
}

fn is_plain(text: &str) -> bool {
    (1..=VALUE_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Longest value in bytes.
const VALUE_MAX: usize = 64;

#[cfg(test)]
mod tests;
