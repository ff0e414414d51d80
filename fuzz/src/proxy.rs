//! What operators write about routes, and the paths that choose among them.

use std::sync::Arc;

use router::proxy::{Caller, Injection, Record, Routes, Sources, breaker, origins, policy};
use serde_json::Value;

struct Named;

impl Sources for Named {
    fn env(&self, name: &str) -> Option<String> {
        (name.len() < 4).then(|| name.to_owned())
    }

    fn secret(&self, name: &str) -> Option<String> {
        (name.len() > 4).then(|| name.to_owned())
    }
}

/// A record is refused with reasons, or it comes out as it was read, and all that is made of it
/// can be made.
pub fn record(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match Record::read(&document) {
        Ok(record) => {
            let written = record.write();
            match Record::read(&written) {
                Ok(again) => assert!(again == record, "{written} is read as another record"),
                Err(problems) => panic!("{written} is not accepted again: {problems:?}"),
            }
            assert_eq!(
                origins(&record).len(),
                record.upstreams.len(),
                "every upstream is one"
            );
            assert!(policy(&record).is_ok() && breaker(&record.circuit_breaker).is_ok());
            if let Ok(injection) = Injection::compile(&record.headers, &Named) {
                let filled = injection.fill(&Caller::Guest);
                for (_, value) in filled.into_iter().flatten() {
                    assert!(
                        !value.is_empty() && !value.contains(['\r', '\n', '\0']),
                        "{value:?}"
                    );
                }
            }
            assert_eq!(
                Record::masked(&Record::masked(&document)),
                Record::masked(&document)
            );
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            assert!(problems.iter().all(|problem| !problem.message.is_empty()));
        }
    }
}

/// The first line is a request's path, the others are routes. A route that is found is the one
/// that an upstream would find who decodes the path, merges its slashes and resolves its dots.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.lines();
    let asked = lines.next().unwrap_or_default();
    let mut routes = Routes::default();
    let mut paths = Vec::new();
    for line in lines.take(64) {
        let document = serde_json::json!({ "path": line, "upstream": "http://a" });
        let Ok(record) = Record::read(&document) else {
            continue;
        };
        if routes
            .add(&record.path, Arc::new(record.path.clone()))
            .is_ok()
        {
            paths.push(record.path);
        }
    }
    assert_eq!(routes.len(), paths.len());
    for path in &paths {
        let found = routes.find(path).ok().flatten();
        assert!(
            found.is_some_and(|found| **found.route == *path),
            "{path} does not find itself"
        );
    }
    let Ok(Some(found)) = routes.find(asked) else {
        return;
    };
    assert!(
        asked.ends_with(found.rest),
        "the rest is the end of the path"
    );
    let plain = resolved(asked);
    let is_below = |path: &&String| {
        let rest = plain.strip_prefix(path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let longest = paths.iter().filter(is_below).max_by_key(|path| path.len());
    assert_eq!(longest, Some(&**found.route), "{asked:?} is {plain:?}");
}

fn resolved(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}
