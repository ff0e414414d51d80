use super::{Pattern, Subject, SubjectError};

#[test]
fn literal_subjects_are_tokens_joined_by_dots() {
    for text in [
        "a",
        "orders.eu.1",
        "chat:hall",
        "$SYS.x",
        "a-b_c.#u7",
        "%25",
    ] {
        assert_eq!(Subject::new(text).unwrap().as_str(), text);
        assert!(Pattern::new(text).unwrap().is_literal());
    }
    for (text, error) in [
        ("", SubjectError::Empty),
        (".a", SubjectError::EmptyToken { at: 0 }),
        ("a..b", SubjectError::EmptyToken { at: 2 }),
        ("a.", SubjectError::EmptyToken { at: 2 }),
        ("a b", SubjectError::Forbidden { at: 1 }),
        ("a.b\n", SubjectError::Forbidden { at: 3 }),
        ("a.\u{7f}", SubjectError::Forbidden { at: 2 }),
        ("caf\u{e9}", SubjectError::Forbidden { at: 3 }),
        ("a.*", SubjectError::Wildcard { at: 2 }),
        ("a.b>", SubjectError::Wildcard { at: 3 }),
    ] {
        assert_eq!(Subject::new(text), Err(error), "{text:?}");
    }
}

#[test]
fn wildcards_are_tokens_and_the_tail_comes_last() {
    for text in ["*", ">", "a.*.b", "a.>", "*.*.>"] {
        assert!(!Pattern::new(text).unwrap().is_literal(), "{text:?}");
    }
    for (text, error) in [
        ("", SubjectError::Empty),
        ("a..*", SubjectError::EmptyToken { at: 2 }),
        ("a.b*", SubjectError::PartialWildcard { at: 3 }),
        (">>", SubjectError::PartialWildcard { at: 0 }),
        (">.a", SubjectError::TailNotLast { at: 0 }),
        ("a.>.*", SubjectError::TailNotLast { at: 2 }),
        ("* .a", SubjectError::Forbidden { at: 1 }),
    ] {
        assert_eq!(Pattern::new(text), Err(error), "{text:?}");
    }
}

#[test]
fn patterns_cover_what_the_grammar_says() {
    for (pattern, text, covered) in [
        ("a.b", "a.b", true),
        ("a.b", "a.b.c", false),
        ("a.b.c", "a.b", false),
        ("*", "a", true),
        ("*", "a.b", false),
        ("*.*", "a.b", true),
        (">", "a", true),
        (">", "a.b.c", true),
        ("a.>", "a", false),
        ("a.>", "a.b", true),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.b.d", false),
        ("a.*.>", "a.b", false),
        ("a.*.>", "a.b.c.d", true),
    ] {
        let pattern = Pattern::new(pattern).unwrap();
        assert_eq!(
            pattern.covers(&Subject::new(text).unwrap()),
            covered,
            "{pattern:?} {text:?}"
        );
    }
}

#[test]
fn text_that_is_no_subject_is_split_at_its_dots() {
    let pattern = Pattern::new("a.*").unwrap();
    for (text, covered) in [("a.", true), ("a.b c", true), ("a..b", false), ("", false)] {
        assert_eq!(pattern.covers_text(text), covered, "{text:?}");
    }
    assert!(Pattern::new("a.>").unwrap().covers_text("a..b"));
}

#[test]
fn inclusion_and_overlap_are_those_of_the_sets() {
    let words = |tokens: &[&str], longest: usize| {
        let mut all: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
        let mut last = all.clone();
        for _ in 1..longest {
            last = last
                .iter()
                .flat_map(|start| tokens.iter().map(move |token| format!("{start}.{token}")))
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    };
    // A letter that no pattern has, and a length that none needs, stand for all others.
    let subjects = words(&["a", "b", "c"], 4);
    let patterns: Vec<Pattern> = words(&["a", "b", "*", ">"], 3)
        .iter()
        .filter_map(|text| Pattern::new(text).ok())
        .collect();
    for one in &patterns {
        for other in &patterns {
            let mut common = false;
            let mut within = true;
            for subject in &subjects {
                let (in_one, in_other) = (one.covers_text(subject), other.covers_text(subject));
                common |= in_one && in_other;
                within &= in_one || !in_other;
            }
            assert_eq!(one.overlaps(other), common, "{one:?} {other:?}");
            assert_eq!(one.includes(other), within, "{one:?} {other:?}");
        }
    }
}
