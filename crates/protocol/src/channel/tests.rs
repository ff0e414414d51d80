use std::collections::HashMap;

use super::{Channel, escape, unescape};
use crate::subject::{Pattern, Subject};

#[test]
fn literal_subjects_stand_for_themselves() {
    for name in [
        "a",
        "orders.eu",
        "chat:hall",
        "$private:x#1,2",
        "inbox:#u7",
        "a/b&c",
    ] {
        assert_eq!(Channel::new(name).to_subject().as_str(), name);
    }
}

#[test]
fn what_subjects_forbid_is_escaped() {
    for (name, subject) in [
        ("", "%"),
        (".", "%.%"),
        ("a..b.", "a.%.b.%"),
        ("a b", "a%20b"),
        ("news.*", "news.%2A"),
        (">", "%3E"),
        ("100%", "100%25"),
        ("%", "%25"),
        ("\u{7f}\n", "%7F%0A"),
        ("caf\u{e9}", "caf%C3%A9"),
    ] {
        assert_eq!(escape(name), subject, "{name:?}");
        assert_eq!(unescape(subject).unwrap(), name, "{subject:?}");
    }
}

#[test]
fn only_the_one_spelling_is_read_back() {
    for (subject, at) in [
        ("a%", 1),
        ("%2", 0),
        ("a.%41", 2),
        ("%2e", 0),
        ("%2E", 0),
        ("%2a", 0),
        ("%%", 0),
        ("x.%C3", 0),
        ("a..b", 2),
        ("a b", 1),
    ] {
        assert_eq!(
            unescape(subject).map_err(|error| error.at),
            Err(at),
            "{subject:?}"
        );
    }
}

#[test]
fn maps_are_asked_by_text() {
    let mut map = HashMap::new();
    map.insert(Channel::new("a"), 1);
    assert_eq!(map.get("a"), Some(&1));
    assert_eq!(Channel::new("a"), "a");
}

/// Every text of up to five characters of an alphabet that has one of each kind, and
/// what it maps to: no two share a subject, each is read back, and patterns mean the
/// same before and after.
#[test]
fn no_two_channels_share_a_subject() {
    let alphabet = ['a', '.', '%', '*', ' ', '2', '\u{e9}', 'A'];
    let patterns: Vec<Pattern> = ["*", ">", "*.*", "a.*", "a.>", "*.a", "*.*.>", "2A"]
        .iter()
        .map(|text| Pattern::new(text).unwrap())
        .collect();
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut names = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = names.len();
        for index in from..to {
            for letter in alphabet {
                let name = format!("{}{letter}", names[index]);
                names.push(name);
            }
        }
        from = to;
    }
    for name in names {
        let channel = Channel::new(&name);
        let subject = channel.to_subject();
        Subject::new(subject.as_str()).unwrap();
        assert_eq!(Channel::from_subject(&subject).unwrap(), channel);
        if Subject::new(&name).is_ok() && !name.contains('%') {
            assert_eq!(subject.as_str(), name);
        }
        for pattern in &patterns {
            assert_eq!(
                pattern.covers(&subject),
                pattern.covers_text(&name),
                "{pattern} {name:?}"
            );
        }
        if let Some(other) = seen.insert(subject.as_str().to_owned(), name.clone()) {
            panic!("{name:?} and {other:?} share {subject}");
        }
    }
}

/// Whatever is read back is written the same way again.
#[test]
fn subjects_that_are_read_are_written_alike() {
    let alphabet = ['a', '.', '%', '2', 'A', 'C', '3', '9'];
    let mut texts = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = texts.len();
        for index in from..to {
            for letter in alphabet {
                let text = format!("{}{letter}", texts[index]);
                texts.push(text);
            }
        }
        from = to;
    }
    for text in texts {
        if let Ok(channel) = unescape(&text) {
            assert_eq!(escape(&channel), text);
        }
    }
}
