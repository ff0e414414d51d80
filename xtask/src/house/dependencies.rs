//! Who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::none;
use crate::run;

/// Big dependencies and the only crates that may name them, tests aside.
///
/// A second door means that two parts of the program know the same protocol.
const DOORS: &[(&str, &[&str])] = &[
    ("hyper", &["edge", "admin", "perf"]),
    ("hyper-util", &["edge", "admin", "quantum", "perf"]),
    ("h2", &["upstream", "perf"]),
    ("sqlx", &["store"]),
    ("axum", &["admin", "perf"]),
    ("mio", &["edge", "perf"]),
    (
        "rustls",
        &[
            "edge", "upstream", "gateway", "quantum", "tidegate", "perf", "testkit", "e2e",
        ],
    ),
    ("jsonwebtoken", &["auth", "perf", "testkit"]),
    ("reqwest", &["auth"]),
    ("flate2", &["websocket"]),
    ("prost", &["api", "protocol", "perf", "e2e"]),
    ("prost-reflect", &["upstream"]),
    ("tonic", &["upstream", "quantum", "tidegate", "perf", "e2e"]),
    ("notify", &["gateway"]),
    ("async-nats", &["bus", "outbox"]),
    ("quinn", &["perf"]),
    ("redis", &["outbox"]),
    ("tokio_kcp", &["perf"]),
    ("tracing-subscriber", &["gateway"]),
    ("clap", &["tidegate", "perf", "sim", "xtask"]),
    (
        "anyhow",
        &["tidegate", "testkit", "e2e", "perf", "sim", "xtask", "fuzz"],
    ),
    ("tungstenite", &["testkit", "e2e", "perf", "fuzz"]),
];

/// Tools and tests: they see what they need, nothing depends on them.
const OUTSIDE: &[&str] = &["e2e", "fuzz", "perf", "sim", "xtask"];

/// The table of ARCHITECTURE.md and the manifests must say the same.
pub(super) fn direction() -> anyhow::Result<()> {
    let allowed = table(&std::fs::read_to_string("ARCHITECTURE.md")?)?;
    let mut violations = Vec::new();
    let used = normal_dependencies()?;
    let ours: BTreeSet<&String> = used.keys().collect();
    for (name, dependencies) in &used {
        if OUTSIDE.contains(&name.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            violations.push(format!(
                "`{name}` is missing in the table of ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in dependencies
            .iter()
            .filter(|dependency| ours.contains(dependency))
        {
            if !allowed.contains(dependency) {
                violations.push(format!("`{name}` may not use `{dependency}`"));
            }
        }
    }
    let gone = allowed.keys().filter(|name| !ours.contains(name));
    violations.extend(gone.map(|name| format!("the table names `{name}`, which does not exist")));
    none(&violations)
}

/// Only the crates listed for a dependency may name it.
pub(super) fn doors() -> anyhow::Result<()> {
    let used = normal_dependencies()?;
    let mut violations = Vec::new();
    for (name, dependencies) in &used {
        for (door, users) in DOORS {
            if dependencies.contains(*door) && !users.contains(&name.as_str()) {
                violations.push(format!(
                    "`{name}` may not use `{door}`; these may: {}",
                    users.join(", ")
                ));
            }
        }
    }
    none(&violations)
}

/// Every workspace package with what it depends on outside its tests.
fn normal_dependencies() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata = run::output("cargo metadata --no-deps --format-version 1 --offline")
        .or_else(|_| run::output("cargo metadata --no-deps --format-version 1"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let of = |package: &Value| -> Option<(String, BTreeSet<String>)> {
        let name = package["name"].as_str()?.to_owned();
        let dependencies = package["dependencies"].as_array()?.iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        Some((
            name,
            normal
                .filter_map(|one| Some(one["name"].as_str()?.to_owned()))
                .collect(),
        ))
    };
    packages
        .iter()
        .map(|package| of(package).context("a package without name or dependencies"))
        .collect()
}

/// Reads the rows ``| `crate` | `a`, `b` | …`` below the heading "Dependencies".
fn table(document: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let section = document
        .split("\n## Dependencies")
        .nth(1)
        .context("ARCHITECTURE.md has no section \"Dependencies\"")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|');
        let name = cells
            .next()
            .unwrap_or_default()
            .trim()
            .trim_matches('`')
            .to_owned();
        let may_use = cells
            .next()
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2);
        rows.insert(name, may_use.map(str::to_owned).collect());
    }
    ensure!(
        !rows.is_empty(),
        "the section \"Dependencies\" of ARCHITECTURE.md has no rows"
    );
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn the_table_is_read_from_its_section_only() {
        let document = "# x\n## Code map\n| `a` | `b` |\n## Dependencies\n| crate | may use |\n|---|---|\n| `a` | `b`, `c` | why |\n| `b` | – |\n## Next\n| `z` | `y` |\n";
        let rows = table(document).expect("the section is there");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows["a"].iter().collect::<Vec<_>>(), ["b", "c"]);
        assert!(rows["b"].is_empty());
    }
}
