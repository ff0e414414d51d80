//! What may not stand in the tracked files.

use std::path::Path;

use super::none;
use crate::run;

/// Crates that are functions of their arguments.
const PURE: &[&str] = &[
    "crates/http1/",
    "crates/websocket/",
    "crates/protocol/",
    "crates/policy/",
    "crates/quantum-proto/",
];

/// What a pure crate may not name. The manifests cannot stop the standard library's share of it.
const IMPURE: &[&str] = &[
    "tokio",
    "mio::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::thread",
    "std::env::",
    "SystemTime",
    "Instant::now",
    "getrandom",
    "rand::",
];

/// Documents that must stay short enough to be read.
const LENGTHS: &[(&str, usize)] = &[
    ("README.md", 120),
    ("ARCHITECTURE.md", 350),
    ("SECURITY.md", 120),
];

/// Sources of pure crates name nothing impure outside comments.
pub(super) fn pure_crates() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for (path, text) in tracked(&["rs", "toml"])? {
        let inside = PURE.iter().find_map(|folder| path.strip_prefix(folder));
        if !inside.is_some_and(|inside| inside.starts_with("src/") || inside == "Cargo.toml") {
            continue;
        }
        // Tests may read fixtures.
        let tests_from = first_line_of_tests(&path, &text);
        for (number, line) in code_lines(&text).take_while(|(number, _)| *number < tests_from) {
            let found = IMPURE.iter().filter(|name| line.contains(*name));
            violations.extend(found.map(|name| format!("{path}:{number} names `{name}`")));
        }
    }
    none(&violations)
}

/// No unfinished marks, no ignored tests, no test that waits for the wall clock.
pub(super) fn marks() -> anyhow::Result<()> {
    // Put together here, so that this file does not find itself.
    let unfinished = [
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
        concat!(".on", "ly("),
        concat!("debug", "ger;"),
    ];
    let sleep = concat!("sle", "ep(");
    let mut violations = Vec::new();
    for (path, text) in tracked(&["rs", "mjs", "js", "toml", "md", "yaml"])? {
        let tests_from = first_line_of_tests(&path, &text);
        let on_virtual_time = text.contains("start_paused = true");
        for (number, line) in text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
        {
            let found = unfinished.iter().filter(|mark| line.contains(*mark));
            violations.extend(found.map(|mark| format!("{path}:{number} has `{mark}`")));
            let sleeps = line.contains(sleep) && !line.trim_start().starts_with("//");
            if number >= tests_from && sleeps && !on_virtual_time {
                violations.push(format!(
                    "{path}:{number} sleeps; wait for a condition with a deadline"
                ));
            }
        }
    }
    none(&violations)
}

/// README and its like keep to the length that makes people read them.
pub(super) fn lengths() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for (path, limit) in LENGTHS {
        let lines = std::fs::read_to_string(path)?.lines().count();
        if lines > *limit {
            violations.push(format!("{path} has {lines} lines; at most {limit}"));
        }
    }
    none(&violations)
}

/// A lock file works on any machine, so it names packages and hashes but no mirror.
pub(super) fn lock_files() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for (path, text) in tracked(&["json", "lock"])? {
        let foreign = |line: &&str| {
            line.contains("\"resolved\":")
                || (line.starts_with("source = ")
                    && !line.contains("registry+https://github.com/rust-lang/crates.io-index"))
        };
        violations.extend(
            text.lines()
                .filter(foreign)
                .map(|line| format!("{path}: {}", line.trim())),
        );
    }
    none(&violations)
}

/// The line from which a file is test code: 1 for files of tests, the `mod tests` of others, or never.
fn first_line_of_tests(path: &str, text: &str) -> usize {
    let name = Path::new(path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    if path.starts_with("tests/") || path.contains("/tests/") || name == "tests.rs" {
        return 1;
    }
    let found = text
        .lines()
        .position(|line| line.trim_start().starts_with("#[cfg(test)]"));
    found.map_or(usize::MAX, |index| index + 1)
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with(['/', '#']))
}

/// Path and text of the tracked files that end in one of `endings`.
fn tracked(endings: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let list = run::output("git ls-files --cached --others --exclude-standard")?;
    let wanted = list.lines().filter(|path| {
        let ending = Path::new(path)
            .extension()
            .unwrap_or_default()
            .to_string_lossy();
        endings.contains(&ending.as_ref())
    });
    // A file may be deleted but not yet committed so.
    let existing = wanted.filter(|path| Path::new(path).is_file());
    existing
        .map(|path| Ok((path.to_owned(), std::fs::read_to_string(path)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::first_line_of_tests;

    #[test]
    fn test_code_begins_where_the_file_says() {
        assert_eq!(first_line_of_tests("tests/src/lib.rs", ""), 1);
        assert_eq!(first_line_of_tests("crates/bus/src/memory/tests.rs", ""), 1);
        assert_eq!(
            first_line_of_tests(
                "crates/bus/src/memory.rs",
                "a\nb\n#[cfg(test)]\nmod tests {"
            ),
            3
        );
        assert_eq!(
            first_line_of_tests("crates/bus/src/memory.rs", "a\n"),
            usize::MAX
        );
    }
}
