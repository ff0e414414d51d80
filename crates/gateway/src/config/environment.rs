//! Overrides from the environment: `TIDEGATE_CLIENT_PING_INTERVAL=20s`.
//!
//! The name is the key's path in upper case, with `_` between the steps. Since keys have
//! `_` in them too, a name is looked up among the keys that exist, not taken apart. Keys
//! inside lists have no variable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::nearest;
use super::document::{Node, Place, Value};
use super::error::ConfigError;
use super::shape::{self, Field, Shape};

/// What the names of our variables begin with.
const PREFIX: &str = "TIDEGATE_";

/// The variable that names the configuration file when the command line does not.
pub const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";

/// Variables of that prefix that are for others: the file (read by the command line), and
/// the executable under test (read by the test suites, inherited by what they start).
const NOT_SETTINGS: [&str; 3] = [FILE_VARIABLE, "TIDEGATE_BIN", "TIDEGATE_SKIP_CONSOLE"];

/// Lays the variables over the document.
pub(crate) fn overlay(root: &mut Node, environment: &BTreeMap<String, String>) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let variables = variables();
    for (name, text) in environment.range(PREFIX.to_owned()..) {
        if !name.starts_with(PREFIX) {
            break;
        }
        if NOT_SETTINGS.contains(&name.as_str()) || is_service_link(name, text) {
            continue;
        }
        let place = Place::Environment(Arc::from(name.as_str()));
        match variables.iter().find(|(known, ..)| known == name) {
            Some((_, path, field)) => match value(text, &field.shape, &place) {
                Some(value) => root.put(path, Node { value, place }),
                None => {
                    let problem = "can't be set by a variable; expected in the file";
                    errors.push(ConfigError::new(place, path.join("."), problem));
                }
            },
            None => {
                let near = nearest(name, variables.iter().map(|(known, ..)| known.as_str()));
                let problem = match near {
                    Some(near) => format!("no key has this name; did you mean {near}?"),
                    None => "no key has this name".to_owned(),
                };
                errors.push(ConfigError::new(place, "", problem));
            }
        }
    }
    errors
}

/// Every variable with the path of its key.
fn variables() -> Vec<(String, Vec<String>, &'static Field)> {
    let name = |path: &[String]| format!("{PREFIX}{}", path.join("_").to_ascii_uppercase());
    let leaves = shape::root().leaves();
    leaves
        .into_iter()
        .map(|(path, field)| (name(&path), path, field))
        .collect()
}

/// Reads a variable's text as what the key takes; what does not fit stays text and is
/// refused, with the rest, by the check of types. `None` if no text could fit.
fn value(text: &str, shape: &Shape, place: &Place) -> Option<Value> {
    let plain = || Value::Text(text.to_owned());
    Some(match shape {
        Shape::Keys(_) | Shape::Table(_) | Shape::Any => return None,
        Shape::List(item) => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            let mut items = Vec::new();
            for part in parts {
                items.push(Node {
                    value: value(part, &item.shape, place)?,
                    place: place.clone(),
                });
            }
            // A list of maps can't be written here, not even an empty one.
            value("", &item.shape, place)?;
            Value::List(items)
        }
        Shape::Integer { .. } => text.parse().map_or_else(|_| plain(), Value::Integer),
        Shape::Number => text.parse().map_or_else(|_| plain(), Value::Float),
        Shape::Boolean => text.parse().map_or_else(|_| plain(), Value::Bool),
        Shape::Choice(_) | Shape::Duration | Shape::Text => plain(),
    })
}

/// Kubernetes describes each service of a namespace to its pods by variables, and a service
/// may well be called `tidegate` or `tidegate-admin`.
fn is_service_link(name: &str, text: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    let Some((_, after)) = name.split_once("_PORT_") else {
        return name.ends_with("_PORT") && text.contains("://");
    };
    let mut steps = after.split('_');
    let port = steps.next().is_some_and(|step| step.parse::<u16>().is_ok());
    port && steps.next().is_some_and(|step| PROTOCOLS.contains(&step))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{is_service_link, variables};

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut seen = BTreeSet::new();
        for (name, ..) in variables() {
            assert!(!is_service_link(&name, ""), "{name}");
            assert!(seen.insert(name.clone()), "{name}");
        }
        assert!(seen.contains("TIDEGATE_CLIENT_PING_INTERVAL"));
        assert!(seen.contains("TIDEGATE_LISTENERS_MAIN_TLS_CERTIFICATE"));
    }

    #[test]
    fn service_links_are_told_from_settings() {
        for (name, text) in [
            ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("TIDEGATE_SERVICE_PORT", "8000"),
            ("TIDEGATE_ADMIN_SERVICE_PORT_HTTP", "8001"),
            ("TIDEGATE_PORT", "tcp://10.0.0.1:8000"),
            ("TIDEGATE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("TIDEGATE_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("TIDEGATE_PORT_8000_TCP_PORT", "8000"),
        ] {
            assert!(is_service_link(name, text), "{name}");
        }
        assert!(!is_service_link("TIDEGATE_PORT", "8000"));
        assert!(!is_service_link("TIDEGATE_CLIENT_PING_INTERVAL", "5s"));
    }
}
