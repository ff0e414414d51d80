//! The fields that a route sets upstream, as they are written.

use http1::{Fields, Known};
use serde_json::Value;

use super::document::MASK;
use super::object::{Object, Problems, kind};
use crate::proxy::template::Template;

/// Longest JSON text of all of them, in bytes.
const HEADERS_BYTES_MAX: usize = 10_240;

pub(super) fn read(record: &Object<'_>, problems: &Problems) -> Vec<(String, String)> {
    let map = match record.get("headers") {
        None => return Vec::new(),
        Some(Value::Object(map)) => map,
        Some(other) => {
            record.invalid("headers", format!("must be an object, not {}", kind(other)));
            return Vec::new();
        }
    };
    record.limit_json("headers", HEADERS_BYTES_MAX);
    let mut headers: Vec<(String, String)> = Vec::with_capacity(map.len());
    for (name, value) in map {
        let field = format!("headers.{name}");
        if let Some(problem) = name_problem(name) {
            problems.invalid(field, problem);
            continue;
        }
        if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            problems.invalid(
                field,
                "is the same field as another one; case does not matter",
            );
            continue;
        }
        let Some(value) = value.as_str() else {
            problems.invalid(field, format!("must be text, not {}", kind(value)));
            continue;
        };
        if value.contains(MASK) {
            let message = "is masked; leave headers out to keep them, or write the value";
            problems.add(field, "validation_masked", message.to_owned());
        } else if Fields::new().push("x", value.as_bytes()).is_err() {
            problems.invalid(field, "must not have control characters");
        } else if let Err(error) = Template::parse(value) {
            problems.invalid(field, error.to_string());
        } else {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    headers
}

/// Names that are the gateway's own affair can't be set: they say where a message goes and where
/// it ends.
fn name_problem(name: &str) -> Option<&'static str> {
    if Fields::new().push(name, b"").is_err() {
        return Some("is not a valid name of a header");
    }
    let known = Known::of(name.as_bytes());
    let is_ours = known.is_hop_by_hop()
        || matches!(known, Known::Host | Known::ContentLength | Known::Expect)
        || name.eq_ignore_ascii_case("trailers");
    is_ours.then_some("is set by the gateway itself")
}
