//! A YAML document as a tree in which every node knows where it stands.
//!
//! The file is read into this tree first, so that overrides from the environment can be
//! laid over it, every mistake can be reported at once, and a check that runs long after
//! parsing can still name line and column.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, Options};
use serde_saphyr::{Location, Spanned};

use crate::route_json;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column in the file, both from 1.
    File {
        /// Line, from 1.
        line: u64,
        /// Column in characters, from 1.
        column: u64,
    },
    /// The environment variable of this name.
    Environment(Arc<str>),
    /// A `route.json`; which one, and its key.
    RouteFile(Arc<str>),
    /// Nowhere: it is a default.
    Default,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// Text that is not a YAML document, and where it stops being one.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) place: Place,
    pub(crate) problem: String,
}

/// Reads a document; an empty one is an empty map.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let root: Option<Node> = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| SyntaxError::new(&error))?;
    Ok(match root {
        Some(Node {
            value: Value::Null,
            place,
        }) => Node {
            value: Value::Map(Vec::new()),
            place,
        },
        Some(root) => root,
        None => Node::empty(),
    })
}

impl Node {
    /// A map without keys that nobody wrote.
    pub(crate) fn empty() -> Self {
        Self {
            value: Value::Map(Vec::new()),
            place: Place::Default,
        }
    }

    /// Puts `node` at `path`, making the maps on the way.
    pub(crate) fn put(&mut self, path: &[String], node: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            *self = Self {
                value: Value::Map(Vec::new()),
                place: node.place.clone(),
            };
        }
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        let index = match entries.iter().position(|entry| entry.key == *first) {
            Some(index) => index,
            None => {
                entries.push(Entry {
                    key: first.clone(),
                    key_place: node.place.clone(),
                    node: Self {
                        value: Value::Null,
                        place: node.place.clone(),
                    },
                });
                entries.len() - 1
            }
        };
        if let Some(entry) = entries.get_mut(index) {
            entry.node.put(rest, node);
        }
    }

    /// A value that was read elsewhere.
    pub(crate) fn of(value: route_json::Value, place: Place) -> Self {
        let value = match value {
            route_json::Value::Bool(value) => Value::Bool(value),
            route_json::Value::Integer(value) => Value::Integer(value.into()),
            route_json::Value::Text(value) => Value::Text(value),
            route_json::Value::Texts(texts) => {
                let item = |text| Self {
                    value: Value::Text(text),
                    place: place.clone(),
                };
                Value::List(texts.into_iter().map(item).collect())
            }
        };
        Self { value, place }
    }

    /// The value at `path`, if one is written; `null` counts as none.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Value> {
        let mut node = self;
        for step in path {
            let Value::Map(entries) = &node.value else {
                return None;
            };
            node = &entries.iter().find(|entry| entry.key == *step)?.node;
        }
        (node.value != Value::Null).then_some(&node.value)
    }

    /// Where the value at `path` was written, or else the nearest thing around it.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = Place::Default;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let next = match &node.value {
                Value::Map(entries) => entries
                    .iter()
                    .find(|entry| entry.key == step)
                    .map(|it| &it.node),
                Value::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
            place = node.place.clone();
        }
        place
    }

    /// The same tree without places, for serde.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => value.to_string().into(),
            },
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }
}

impl Place {
    fn at(location: Location) -> Self {
        match location.line() {
            0 => Self::Default,
            line => Self::File {
                line,
                column: location.column(),
            },
        }
    }
}

impl SyntaxError {
    fn new(error: &serde_saphyr::Error) -> Self {
        let place = error.location().map_or(Place::Default, Place::at);
        let error = error.without_snippet();
        if let serde_saphyr::Error::DuplicateMappingKey { key, .. } = error {
            let key = key.as_deref().unwrap_or_default();
            let problem = format!("key {key:?} stands here a second time");
            return Self { place, problem };
        }
        let problem = error.to_string();
        // The place is told by whoever prints the error, in its own form.
        let problem = match problem.find(" at line ") {
            Some(end) => problem.get(..end).unwrap_or(&problem).to_owned(),
            None => problem,
        };
        Self { place, problem }
    }
}

impl Value {
    /// What kind of value this is, for "found …".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map of keys",
        }
    }
}

impl fmt::Display for Value {
    /// Says which value this is, if it is short enough to be said.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Integer(value) => write!(formatter, "the number {value}"),
            Self::Float(value) => write!(formatter, "the number {value}"),
            Self::Text(value) if value.chars().count() <= 64 => {
                write!(formatter, "the text {value:?}")
            }
            Self::Null | Self::Text(_) | Self::List(_) | Self::Map(_) => {
                formatter.write_str(self.kind())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<Value>::deserialize(input)?;
        Ok(Self {
            value,
            place: Place::at(referenced),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = input.next_key::<Spanned<String>>()? {
            let node = input.next_value()?;
            let key_place = Place::at(key.referenced);
            entries.push(Entry {
                key: key.value,
                key_place,
                node,
            });
        }
        Ok(Value::Map(entries))
    }
}

/// YAML 1.2's booleans only (`off` and `no` are texts), each key once, and the reader's
/// own budget against documents that grow by aliases.
fn options() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Value, parse};

    fn place(line: u64, column: u64) -> Place {
        Place::File { line, column }
    }

    #[test]
    fn every_node_and_key_knows_its_place() {
        let root = parse("a:\n  b: [1, off]\n  c: { d: 5s }\n").unwrap();
        let Value::Map(top) = &root.value else {
            panic!("a map")
        };
        assert_eq!(top[0].key_place, place(1, 1));
        let Value::Map(below) = &top[0].node.value else {
            panic!("a map")
        };
        assert_eq!(below[0].key_place, place(2, 3));
        assert_eq!(root.place_of("a.b[1]"), place(2, 10));
        assert_eq!(root.place_of("a.c.d"), place(3, 11));
        assert_eq!(root.place_of("a.c.missing.deeper"), place(3, 6));
        let Value::List(items) = &below[0].node.value else {
            panic!("a list")
        };
        assert_eq!(items[0].value, Value::Integer(1));
        assert_eq!(items[1].value, Value::Text("off".into()));
    }

    #[test]
    fn an_empty_document_is_an_empty_map() {
        for text in ["", "# only a comment\n", "---\n", "{}"] {
            assert_eq!(
                parse(text).unwrap().value,
                Value::Map(Vec::new()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_broken_document_names_line_and_column() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(matches!(error.place, Place::File { .. }), "{error:?}");
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(error.place, place(2, 1), "{error:?}");
        assert_eq!(error.problem, "key \"a\" stands here a second time");
    }

    #[test]
    fn aliases_do_not_blow_up() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
