//! Is every key known and every value of its type? All mistakes at once, each with its
//! place.

use super::document::{Entry, Node, Place, Value};
use super::error::ConfigError;
use super::shape::{self, Field, Shape};

/// Compares a document with the tree of keys.
///
/// A map without anything in it (`client:` above nothing but comments) counts as empty.
pub(crate) fn check(root: &mut Node) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    check_field(root, shape::root(), "", &mut errors);
    errors
}

fn check_field(node: &mut Node, field: &Field, path: &str, errors: &mut Vec<ConfigError>) {
    if matches!(node.value, Value::Null) {
        if field.nullable {
            return;
        }
        if matches!(field.shape, Shape::Keys(_)) {
            node.value = Value::Map(Vec::new());
        }
    }
    let place = node.place.clone();
    match (&field.shape, &mut node.value) {
        (Shape::Keys(fields), Value::Map(entries)) => {
            check_keys(entries, fields, path, &place, errors);
        }
        (Shape::Table(inner), Value::Map(entries)) => {
            for entry in entries {
                check_field(&mut entry.node, inner, &below(path, &entry.key), errors);
            }
        }
        (Shape::List(inner), Value::List(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                check_field(item, inner, &format!("{path}[{index}]"), errors);
            }
        }
        (shape, value) => {
            if let Some(problem) = scalar_problem(shape, value) {
                errors.push(ConfigError::new(place, path, problem));
            }
        }
    }
}

fn check_keys(
    entries: &mut [Entry],
    fields: &[Field],
    path: &str,
    place: &Place,
    errors: &mut Vec<ConfigError>,
) {
    for entry in entries.iter_mut() {
        let key = below(path, &entry.key);
        match fields.iter().find(|field| field.name == entry.key) {
            Some(field) => check_field(&mut entry.node, field, &key, errors),
            None => {
                let problem = unknown_key(&entry.key, fields);
                errors.push(ConfigError::new(entry.key_place.clone(), key, problem));
            }
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|entry| entry.key == field.name) {
            let problem = format!("missing; expected {}", field.shape.expectation());
            errors.push(ConfigError::new(
                place.clone(),
                below(path, &field.name),
                problem,
            ));
        }
    }
}

fn scalar_problem(shape: &Shape, value: &Value) -> Option<String> {
    let is_fine = match (shape, value) {
        (Shape::Choice(words), Value::Text(text)) => words.contains(text),
        (Shape::Integer { minimum, maximum }, Value::Integer(number)) => {
            (minimum..=maximum).contains(&number)
        }
        (Shape::Number, Value::Integer(_) | Value::Float(_)) => true,
        (Shape::Boolean, Value::Bool(_)) => true,
        (Shape::Duration, Value::Text(text)) => protocol::duration::parse(text).is_some(),
        (Shape::Duration, Value::Integer(number)) => *number == 0,
        (Shape::Text, Value::Text(_)) | (Shape::Any, _) => true,
        _ => false,
    };
    if is_fine {
        return None;
    }
    let hint = match (shape, value) {
        (Shape::Text | Shape::Choice(_), Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
            "; put text that looks like something else in quotes"
        }
        (Shape::Integer { .. } | Shape::Boolean, Value::Text(_)) => "; leave out the quotes",
        _ => "",
    };
    let hint = match (shape, value) {
        (Shape::Integer { .. }, Value::Text(text)) if text.parse::<i128>().is_err() => "",
        (Shape::Boolean, Value::Text(text)) if text != "true" && text != "false" => "",
        _ => hint,
    };
    // What stands where text belongs may be a secret without its quotes.
    let found = match shape {
        Shape::Text => value.kind().to_owned(),
        _ => value.to_string(),
    };
    Some(format!(
        "expected {}, found {found}{hint}",
        shape.expectation()
    ))
}

fn unknown_key(name: &str, fields: &[Field]) -> String {
    let names = || fields.iter().map(|field| field.name.as_str());
    if let Some(near) = nearest(name, names()) {
        return format!("unknown key; did you mean \"{near}\"?");
    }
    let elsewhere: Vec<_> = shape::root()
        .leaves()
        .into_iter()
        .filter(|(path, _)| path.last().is_some_and(|last| last == name))
        .map(|(path, _)| format!("\"{}\"", path.join(".")))
        .collect();
    if !elsewhere.is_empty() {
        return format!("unknown key here; there is {}", elsewhere.join(" and "));
    }
    let names: Vec<_> = names().collect();
    format!("unknown key; accepted here: {}", names.join(", "))
}

/// The name that was probably meant, if one is near enough.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(1);
    names
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
