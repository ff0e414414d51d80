use super::*;

/// What a walk tells, the characters of a string added up.
fn walk(chunks: &[&[u8]]) -> (Vec<String>, Walker) {
    let mut walker = Walker::new();
    let mut told = Vec::new();
    let mut counted = 0;
    for chunk in chunks {
        walker.push(chunk, &mut |path, found| match found {
            Found::Characters(count) => counted += count,
            Found::Text(spelling) => {
                told.push(format!("{path:?} {counted} {:?}", spelling.text()));
                counted = 0;
            }
            Found::Object => told.push(format!("{path:?} {{")),
            Found::Bare(bare) => told.push(format!("{path:?} {}", bare.escape_ascii())),
        });
    }
    (told, walker)
}

const DOCUMENT: &str = r#" {"model":"m\u00fc\"x", "n": 12e+1,"messages":[{"content":"grüße"},
    [], {}, [true, null , -0.5]], "\u0075sage":{"prompt_tokens":7},"deep":[[[1]]] , "text":""} "#;

#[test]
fn each_value_is_told_with_its_path_wherever_the_document_is_cut() {
    let (told, walker) = walk(&[DOCUMENT.as_bytes()]);
    assert!(walker.is_done());
    assert_eq!(
        told,
        [
            "[] {",
            r#"[Model] 4 Some("mü\"x")"#,
            "[N] 12e+1",
            "[Messages, Item] {",
            r#"[Messages, Item, Content] 5 Some("grüße")"#,
            "[Messages, Item] {",
            "[Messages, Item, Item] true",
            "[Messages, Item, Item] null",
            "[Messages, Item, Item] -0.5",
            "[Usage] {",
            "[Usage, PromptTokens] 7",
            "[Other, Item, Item, Item] 1",
            r#"[Text] 0 Some("")"#,
        ]
    );
    for at in 0..=DOCUMENT.len() {
        let (head, tail) = DOCUMENT.as_bytes().split_at(at);
        assert_eq!(walk(&[head, tail]).0, told, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = DOCUMENT.as_bytes().chunks(1).collect();
    assert_eq!(walk(&bytes).0, told);
}

#[test]
fn what_is_no_json_ends_the_walk() {
    for text in [
        "}",
        "]",
        "{]",
        "[}",
        "{\"a\" 1}",
        "{,",
        "[1 2]",
        "x",
        "{\"a\":}",
        "{1:2}",
        "\"\\u12\"",
    ] {
        let (_, walker) = walk(&[text.as_bytes()]);
        assert!(walker.is_lost(), "{text}");
    }
    let deep = "[".repeat(129);
    assert!(walk(&[deep.as_bytes()]).1.is_lost());
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    assert!(walk(&[deep.as_bytes()]).1.is_done());
}

#[test]
fn long_strings_are_counted_and_not_shown() {
    let text = format!("\"{}\"", "ä".repeat(1_000_000));
    let (told, walker) = walk(&[text.as_bytes()]);
    assert!(walker.is_done());
    assert_eq!(told, ["[] 1000000 None"]);
}
