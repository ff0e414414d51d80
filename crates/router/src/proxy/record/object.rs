//! Reads the members of a JSON object by name, and notes what is wrong with them.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Problem;

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

/// Members of an object, by their names in snake_case.
pub(super) struct Object<'a> {
    problems: &'a Problems,
    /// Path of the object with the dot after it; empty for the record itself.
    prefix: String,
    /// Name, spelling, value; what is `null` is not here.
    members: Vec<(&'static str, &'a str, &'a Value)>,
}

impl Problems {
    pub(super) fn add(&self, field: impl Into<String>, code: &'static str, message: String) {
        self.0.borrow_mut().push(Problem {
            field: field.into(),
            code,
            message,
        });
    }

    pub(super) fn invalid(&self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, "validation_invalid", message.into());
    }

    pub(super) fn into_result(self) -> Result<(), Vec<Problem>> {
        let problems = self.0.into_inner();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl<'a> Object<'a> {
    /// Takes the members of `map` that are among `names` (snake_case); others are problems.
    /// `aliases` are further spellings.
    pub(super) fn new(
        map: &'a Map<String, Value>,
        prefix: String,
        names: &'static [&'static str],
        aliases: &'static [(&'static str, &'static str)],
        problems: &'a Problems,
    ) -> Self {
        let mut object = Self {
            problems,
            prefix,
            members: Vec::new(),
        };
        for (written, value) in map {
            let Some(name) = name_of(written, names, aliases) else {
                let message = match nearest(written, names) {
                    Some(near) => format!("unknown field; did you mean {near}?"),
                    None => "unknown field".to_owned(),
                };
                problems.add(object.path(written), "validation_unknown", message);
                continue;
            };
            if value.is_null() {
                continue;
            }
            if let Some(other) = object.written(name) {
                let message = format!("is the same field as {other}");
                problems.invalid(object.path(written), message);
                continue;
            }
            object.members.push((name, written, value));
        }
        object
    }

    /// The member's value, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let member = self.members.iter().find(|member| member.0 == name)?;
        Some(member.2)
    }

    /// How the member was spelt, or else its plain name, below the record.
    pub(super) fn field(&self, name: &str) -> String {
        self.path(self.written(name).unwrap_or(name))
    }

    pub(super) fn invalid(&self, name: &str, message: impl Into<String>) {
        self.problems.invalid(self.field(name), message);
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.get(name)?;
        let text = value.as_str();
        if text.is_none() {
            // YAML reads a bare `true` or `5` as what it is there.
            let quoted = match value {
                Value::Bool(_) | Value::Number(_) => format!(": write \"{value}\""),
                _ => String::new(),
            };
            self.invalid(name, format!("must be text, not {}{quoted}", kind(value)));
        }
        text
    }

    pub(super) fn boolean(&self, name: &str, default: bool) -> bool {
        let Some(value) = self.get(name) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.invalid(name, format!("must be true or false, not {}", kind(value)));
            default
        })
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>, default: f64) -> f64 {
        let Some(value) = self.get(name) else {
            return default;
        };
        match value.as_f64() {
            Some(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = (range.start(), range.end());
                let not = match value {
                    Value::Number(_) => String::new(),
                    _ => format!(", not {}", kind(value)),
                };
                self.invalid(
                    name,
                    format!("must be a number from {least} to {most}{not}"),
                );
                default
            }
        }
    }

    /// As [`Object::number`], but 0 is accepted below the range.
    pub(super) fn number_or_zero(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> f64 {
        match self.get(name).and_then(Value::as_f64) {
            Some(0.0) => 0.0,
            _ => self.number(name, range, default),
        }
    }

    pub(super) fn integer<T>(&self, name: &str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.get(name) else {
            return default;
        };
        // A form may send 5.0 for 5.
        let whole = value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            let is_whole = number.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(&number);
            is_whole.then_some(number as u64)
        });
        match whole.and_then(|number| T::try_from(number).ok()) {
            Some(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.invalid(
                    name,
                    format!("must be a whole number from {least} to {most}"),
                );
                default
            }
        }
    }

    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(value) = self.get(name) else {
            return default;
        };
        let found = choices.iter().find(|(word, _)| value == word);
        found.map(|(_, choice)| *choice).unwrap_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.invalid(name, format!("must be one of {}", words.join(", ")));
            default
        })
    }

    /// The members of an object within this one; without any if it is not there.
    pub(super) fn inner(&self, name: &str, names: &'static [&'static str]) -> Self {
        static NOTHING: std::sync::LazyLock<Map<String, Value>> =
            std::sync::LazyLock::new(Map::new);
        let map = match self.get(name) {
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.invalid(name, format!("must be an object, not {}", kind(other)));
                &NOTHING
            }
            None => &NOTHING,
        };
        let prefix = format!("{}.", self.field(name));
        Object::new(map, prefix, names, &[], self.problems)
    }

    /// Notes a value whose JSON text is longer than `most` bytes.
    pub(super) fn limit_json(&self, name: &str, most: usize) {
        if self
            .get(name)
            .is_some_and(|value| value.to_string().len() > most)
        {
            self.invalid(name, format!("must be at most {most} bytes of JSON"));
        }
    }

    fn written(&self, name: &str) -> Option<&'a str> {
        let member = self.members.iter().find(|member| member.0 == name)?;
        Some(member.1)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// The name in snake_case that `written` means.
pub(super) fn name_of(
    written: &str,
    names: &[&'static str],
    aliases: &[(&str, &'static str)],
) -> Option<&'static str> {
    if let Some((_, name)) = aliases.iter().find(|(alias, _)| *alias == written) {
        return Some(name);
    }
    let is_meant = |name: &&&'static str| **name == written || camel(name) == written;
    names.iter().find(is_meant).copied()
}

/// `max_concurrent` as `maxConcurrent`.
pub(super) fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

/// What kind of value this is, for "not …".
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The name that was probably meant, as it would be spelt here.
fn nearest(written: &str, names: &[&'static str]) -> Option<String> {
    // Long names are no slips of the finger, and their distances are dear.
    if written.len() > 64 {
        return None;
    }
    let is_snake = written.contains('_');
    let far = (written.chars().count() / 3).max(1);
    names
        .iter()
        .map(|name| {
            if is_snake {
                (*name).to_owned()
            } else {
                camel(name)
            }
        })
        .map(|name| (strsim::damerau_levenshtein(written, &name), name))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// Numbers beyond are not whole in a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
