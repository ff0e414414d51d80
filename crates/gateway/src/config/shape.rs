//! The tree of keys the configuration has, taken from its JSON Schema.
//!
//! The settings' types are written once; what is accepted where, for the check of a file,
//! the names of environment variables and the reference page, follows from them.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::Config;

/// A key: what it takes, what it means, what it is without being set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) text: String,
    pub(crate) default: Option<Json>,
    /// Whether `null` may stand here, for "not set".
    pub(crate) nullable: bool,
    /// Whether the keys around it make no sense without it.
    pub(crate) required: bool,
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// A map of these keys and no others.
    Keys(Vec<Field>),
    /// A map of keys that the operator chooses.
    Table(Box<Field>),
    List(Box<Field>),
    /// One of these words.
    Choice(Vec<String>),
    Integer {
        minimum: i128,
        maximum: i128,
    },
    Number,
    Boolean,
    Duration,
    /// Text; what it must look like beyond that is its type's affair.
    Text,
    /// Anything; what is right about it is said by whoever reads it.
    Any,
}

/// The whole tree; its root is the file.
pub(crate) fn root() -> &'static Field {
    static ROOT: LazyLock<Field> = LazyLock::new(|| {
        let schema = json_schema();
        Reader { root: &schema }.field("", &schema, true)
    });
    &ROOT
}

/// The JSON Schema (2020-12) of the file. Maps refuse keys they do not know, also where
/// their type is put together from several.
pub(crate) fn json_schema() -> Json {
    let mut schema = schemars::schema_for!(Config).to_value();
    close_maps(&mut schema);
    schema
}

fn close_maps(schema: &mut Json) {
    match schema {
        Json::Object(members) => {
            if members.contains_key("properties") {
                members.remove("unevaluatedProperties");
                members.insert("additionalProperties".to_owned(), Json::Bool(false));
            }
            members.values_mut().for_each(close_maps);
        }
        Json::Array(items) => items.iter_mut().for_each(close_maps),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

struct Reader<'a> {
    root: &'a Json,
}

impl Reader<'_> {
    fn field(&self, name: &str, schema: &Json, required: bool) -> Field {
        let text = |schema: &Json| {
            schema
                .get("description")
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (inner, nullable) = self.without_null(schema);
        Field {
            name: name.to_owned(),
            shape: self.shape(inner),
            text: text(schema),
            default: schema.get("default").cloned(),
            nullable,
            required,
        }
    }

    /// Follows references, and takes `null` out of a choice between it and something else.
    fn without_null<'s>(&'s self, schema: &'s Json) -> (&'s Json, bool) {
        let schema = self.follow(schema);
        if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
            let is_null = |choice: &&Json| choice.get("type").is_some_and(|it| it == "null");
            let nullable = choices.iter().any(|choice| is_null(&choice));
            if let Some(choice) = choices.iter().find(|choice| !is_null(choice)) {
                return (self.follow(choice), nullable);
            }
        }
        let nullable = schema
            .get("type")
            .and_then(Json::as_array)
            .is_some_and(|types| types.iter().any(|it| it == "null"));
        (schema, nullable)
    }

    fn follow<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let target = schema
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|reference| reference.strip_prefix("#/$defs/"))
            .and_then(|name| self.root.get("$defs")?.get(name));
        target.map_or(schema, |target| self.follow(target))
    }

    fn shape(&self, schema: &Json) -> Shape {
        if *schema == Json::Bool(true) {
            return Shape::Any;
        }
        if let Some(choices) = schema.get("oneOf").and_then(Json::as_array) {
            let word = |choice: &Json| {
                choice
                    .get("const")
                    .and_then(Json::as_str)
                    .map(str::to_owned)
            };
            return Shape::Choice(choices.iter().filter_map(word).collect());
        }
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            let word = |word: &Json| word.as_str().map(str::to_owned);
            return Shape::Choice(words.iter().filter_map(word).collect());
        }
        let kind = match schema.get("type") {
            Some(Json::Array(types)) => {
                types.iter().find(|it| *it != "null").and_then(Json::as_str)
            }
            Some(kind) => kind.as_str(),
            None => None,
        };
        match kind.unwrap_or_default() {
            "object" => self.map_shape(schema),
            "array" => {
                let items = schema.get("items").unwrap_or(&Json::Null);
                Shape::List(Box::new(self.field("", items, false)))
            }
            "integer" => {
                let bound = |name: &str, or: i128| {
                    let bound = schema.get(name).and_then(Json::as_number);
                    bound.and_then(serde_json::Number::as_i128).unwrap_or(or)
                };
                let format = schema
                    .get("format")
                    .and_then(Json::as_str)
                    .unwrap_or_default();
                let widest = match format {
                    "uint8" => i128::from(u8::MAX),
                    "uint16" => i128::from(u16::MAX),
                    "uint32" => i128::from(u32::MAX),
                    "int64" => i128::from(i64::MAX),
                    _ => i128::from(u64::MAX),
                };
                Shape::Integer {
                    minimum: bound("minimum", i128::from(i64::MIN)),
                    maximum: bound("maximum", widest),
                }
            }
            "number" => Shape::Number,
            "boolean" => Shape::Boolean,
            _ if schema.get("pattern").and_then(Json::as_str) == duration_pattern() => {
                Shape::Duration
            }
            _ => Shape::Text,
        }
    }

    fn map_shape(&self, schema: &Json) -> Shape {
        let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
            let values = schema.get("additionalProperties").unwrap_or(&Json::Null);
            return Shape::Table(Box::new(self.field("", values, false)));
        };
        let required = schema.get("required").and_then(Json::as_array);
        let is_required =
            |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
        let fields = properties
            .iter()
            .map(|(name, schema)| self.field(name, schema, is_required(name)));
        Shape::Keys(fields.collect())
    }
}

/// What marks a duration among the texts of the schema.
fn duration_pattern() -> Option<&'static str> {
    static PATTERN: LazyLock<Option<String>> = LazyLock::new(|| {
        let schema = schemars::schema_for!(protocol::duration::Text).to_value();
        schema
            .get("pattern")
            .and_then(Json::as_str)
            .map(str::to_owned)
    });
    PATTERN.as_deref()
}

impl Field {
    /// The keys below this one that a configuration can name without choosing: not those
    /// of lists and tables. Each with its path.
    pub(crate) fn leaves(&self) -> Vec<(Vec<String>, &Self)> {
        let mut found = Vec::new();
        self.collect_leaves(&mut Vec::new(), &mut found);
        found
    }

    fn collect_leaves<'a>(
        &'a self,
        path: &mut Vec<String>,
        found: &mut Vec<(Vec<String>, &'a Self)>,
    ) {
        let Shape::Keys(fields) = &self.shape else {
            found.push((path.clone(), self));
            return;
        };
        for field in fields {
            path.push(field.name.clone());
            field.collect_leaves(path, found);
            path.pop();
        }
    }
}

impl Shape {
    /// What is accepted, for "expected …".
    pub(crate) fn expectation(&self) -> String {
        match self {
            Self::Keys(fields) => {
                let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
                format!("a map with keys among {}", names.join(", "))
            }
            Self::Table(_) => "a map".to_owned(),
            Self::List(item) => format!("a list, each item {}", item.shape.expectation()),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| in_quotes_if_empty(word)).collect();
                format!("one of {}", words.join(", "))
            }
            Self::Integer { minimum, maximum } => match *maximum >= i128::from(u32::MAX) {
                true => format!("a whole number of at least {minimum}"),
                false => format!("a whole number from {minimum} to {maximum}"),
            },
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Duration => "a duration such as \"25s\", \"250ms\" or \"1h30m\"".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Any => "a value".to_owned(),
        }
    }
}

fn in_quotes_if_empty(word: &str) -> &str {
    if word.is_empty() { "\"\"" } else { word }
}
