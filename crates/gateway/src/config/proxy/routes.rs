//! Routes of the proxy in the configuration file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use router::proxy::{MASK, Record};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::Proxy;

/// Mistakes in routes that are told.
const PROBLEMS_MAX: usize = 50;

/// A route as it stands in the file. Printing it shows no credentials.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct WrittenRoute(Map<String, Value>);

/// The routes of the file, read and in its order.
#[derive(Clone, Default, PartialEq)]
pub struct FileRoutes(Arc<[Record]>);

impl FileRoutes {
    /// The records; no two have the same path.
    pub fn records(&self) -> &[Record] {
        &self.0
    }
}

/// Reads the routes. Returns keys and what is wrong with them.
pub(in super::super) fn settle(proxy: &mut Proxy) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut records: Vec<Record> = Vec::with_capacity(proxy.routes.len());
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (index, written) in proxy.routes.iter().enumerate() {
        let place = format!("proxy.routes[{index}]");
        match Record::read(&Value::Object(written.0.clone())) {
            Ok(record) => {
                if let Some(other) = taken.insert(record.path.clone(), index) {
                    let problem = format!("is the path of proxy.routes[{other}] too");
                    problems.push((format!("{place}.path"), problem));
                }
                records.push(record);
            }
            Err(found) => problems.extend(found.into_iter().map(|it| {
                let field = if it.field.is_empty() {
                    String::new()
                } else {
                    format!(".{}", it.field)
                };
                (format!("{place}{field}"), it.message)
            })),
        }
    }
    problems.truncate(PROBLEMS_MAX);
    proxy.file_routes = FileRoutes(records.into());
    problems
}

impl WrittenRoute {
    fn shown(&self) -> Value {
        let mut shown = Record::masked(&Value::Object(self.0.clone()));
        let headers = shown.get_mut("headers").and_then(Value::as_object_mut);
        for (_, value) in headers.into_iter().flatten() {
            if let Some(text) = value.as_str() {
                *value = Value::from(text.replace(MASK, "[redacted]"));
            }
        }
        shown
    }
}

impl fmt::Debug for WrittenRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(formatter)
    }
}

impl fmt::Debug for FileRoutes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.0.iter().map(|record| &record.path);
        formatter.debug_list().entries(paths).finish()
    }
}

impl Serialize for WrittenRoute {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(output)
    }
}

impl JsonSchema for WrittenRoute {
    fn schema_name() -> Cow<'static, str> {
        "ProxyRoute".into()
    }

    /// Names may be spelt in two ways, so the schema names none; what is read says what is
    /// wrong.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Fields as in the API of routes; `path` and `upstream` are needed.",
            "type": "object",
            "additionalProperties": true,
        })
    }
}
