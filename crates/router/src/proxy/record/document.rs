//! A record as a JSON document: laying a change over it, hiding what is secret in it.

use serde_json::{Map, Value};

use super::Record;
use super::object::{camel, name_of};
use super::read::{ALIASES, FIELDS};
use crate::proxy::template::Template;

/// Stands for a value that is not shown. It can't be saved: a change leaves `headers` out to
/// keep them.
pub const MASK: &str = "********";

impl Record {
    /// Lays the fields of `patch` over those of `old`, whole fields at a time; `null` puts a
    /// field back to its default. Spellings of the same field replace each other, and so do
    /// `upstream` and `upstreams`. Known fields come out in camelCase; what is wrong with the
    /// result is for [`Record::read`] to say. With `{}` as `old` this is the form to store: it
    /// keeps what was left out left out.
    pub fn patched(old: &Value, patch: &Value) -> Value {
        let Some(changes) = patch.as_object() else {
            return patch.clone();
        };
        let mut result = old.as_object().cloned().unwrap_or_default();
        for written in changes.keys() {
            let group = group_of(written);
            result.retain(|other, _| {
                other != written && (group.is_none() || group_of(other) != group)
            });
        }
        let mut told: Map<String, Value> = Map::new();
        for (written, value) in changes.iter().filter(|(_, value)| !value.is_null()) {
            let name = name_of(written, FIELDS, ALIASES).map_or_else(|| written.clone(), camel);
            // The same field twice stays twice, so that reading refuses it.
            let name = if told.contains_key(&name) {
                written.clone()
            } else {
                name
            };
            told.insert(name, value.clone());
        }
        result.append(&mut told);
        Value::Object(result)
    }

    /// The document with [`MASK`] in place of header values that are secret: those of sensitive
    /// names, and whatever looks like credentials, unless all but the scheme (`Bearer`) comes
    /// from templates. The scheme stays.
    pub fn masked(document: &Value) -> Value {
        let mut shown = document.clone();
        let headers = shown.get_mut("headers").and_then(Value::as_object_mut);
        for (name, value) in headers.into_iter().flatten() {
            if let Some(shown) = mask_of(name, value) {
                *value = Value::from(shown);
            }
        }
        shown
    }
}

/// Spellings that mean the same have the same group.
fn group_of(written: &str) -> Option<&'static str> {
    match name_of(written, FIELDS, ALIASES) {
        Some("upstreams") => Some("upstream"),
        name => name,
    }
}

/// What is shown instead of a value, if it is secret.
fn mask_of(name: &str, value: &Value) -> Option<String> {
    const SENSITIVE: [&str; 9] = [
        "auth",
        "cookie",
        "credential",
        "key",
        "passw",
        "secret",
        "session",
        "signature",
        "token",
    ];
    const SCHEMES: [&str; 5] = ["bearer", "basic", "token", "apikey", "digest"];
    let Some(text) = value.as_str() else {
        // Not text, so refused when saved; whatever it is need not be shown.
        return (!value.is_null()).then(|| MASK.to_owned());
    };
    let literal = Template::parse(text).map_or_else(|_| text.to_owned(), |it| it.literals());
    let (first, rest) = match literal.trim().split_once(' ') {
        Some((first, rest)) => (first, rest),
        None => (literal.trim(), ""),
    };
    let has_scheme = SCHEMES
        .iter()
        .any(|scheme| first.eq_ignore_ascii_case(scheme));
    let name = name.to_ascii_lowercase();
    let is_sensitive = has_scheme || SENSITIVE.iter().any(|part| name.contains(part));
    let own = if has_scheme { rest } else { literal.trim() };
    if !is_sensitive || own.trim().is_empty() {
        return None;
    }
    Some(if has_scheme {
        format!("{first} {MASK}")
    } else {
        MASK.to_owned()
    })
}
