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
