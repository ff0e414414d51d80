//! The route table of a configuration: the routes of the file and those of `route.json`.

use std::fmt;
use std::sync::Arc;

use auth::settings::Secret;
use router::table::{Builder, RouteTable};

use super::Relay;
use crate::route_json;

/// Mistakes in routes that are told; a file of a million may be wrong in each.
const PROBLEMS_MAX: usize = 50;

/// The routes, ready for use. Two are equal if they were made of the same `route.json`;
/// routes of the configuration file are compared as settings.
#[derive(Clone, Default)]
pub struct Table {
    routes: Arc<RouteTable>,
    fingerprint: u64,
    warnings: Arc<[String]>,
}

impl Table {
    /// The table.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// What the operator should look at: unknown keys of `route.json`, routes that never
    /// match or only in part.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let own = self.warnings.iter();
        own.chain(self.routes.warnings()).map(String::as_str)
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.routes.fmt(formatter)
    }
}

/// Reads a secret's reference, or says why not.
type Resolve<'a> = &'a dyn Fn(&mut Secret) -> Result<(), String>;

/// Makes the table and decides whether the relay is on. `file` is the content of
/// `relay.routes_file` and its fingerprint. Returns keys and what is wrong with them.
pub(in super::super) fn settle(
    relay: &mut Relay,
    file: Option<(&[u8], u64)>,
    demo: bool,
    resolve: Resolve<'_>,
) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut builder = Builder::default();
    builder.source("relay.routes");
    for (index, route) in relay.routes.iter().enumerate() {
        let added = route.rule().and_then(|rule| add(&mut builder, rule));
        if let Err((key, problem)) = added {
            problems.push((format!("relay.routes[{index}].{key}"), problem));
        }
    }
    let mut fingerprint = 0;
    let mut warnings = Vec::new();
    if let Some((content, print)) = file {
        fingerprint = print;
        let path = relay.routes_file.display().to_string();
        builder.source(&format!("{path}: routes"));
        let mut wrong = Vec::new();
        let read = route_json::routes(content, |index, written| {
            let added = written.and_then(|mut route| {
                let secret = &mut route.auth.secret;
                resolve(secret).map_err(|problem| ("auth.secret".to_owned(), problem))?;
                add(&mut builder, route.rule()?)
            });
            if let Err((key, problem)) = added {
                let key = route_json::key_in_file(&key);
                wrong.push(format!("routes[{index}].{key}: {problem}"));
            }
            wrong.len() < PROBLEMS_MAX
        });
        match read {
            Ok(told) => warnings = told,
            Err(error) => wrong.push(error.to_string()),
        }
        let named = |problem| ("relay.routes_file".to_owned(), format!("{path}: {problem}"));
        problems.extend(wrong.into_iter().map(named));
        for warning in &mut warnings {
            *warning = format!("{path}: {warning}");
        }
    }
    problems.truncate(PROBLEMS_MAX);
    if !problems.is_empty() {
        return problems;
    }
    let routes = Arc::new(builder.build());
    relay.enabled.get_or_insert(demo || !routes.is_empty());
    relay.table = Table {
        routes,
        fingerprint,
        warnings: warnings.into(),
    };
    problems
}

fn add(builder: &mut Builder, rule: router::table::Rule) -> Result<(), (String, String)> {
    builder
        .add(rule)
        .map_err(|error| ("client_id_prefix".to_owned(), error.to_string()))
}
