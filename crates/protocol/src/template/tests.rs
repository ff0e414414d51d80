use serde_json::{Value, json};

use super::{FillError, Template, TemplateError};

fn fill(template: &str, values: Value) -> Result<String, FillError> {
    let Value::Object(values) = values else {
        panic!("an object is given")
    };
    Template::new(template).unwrap().fill(&values)
}

#[test]
fn holes_are_filled_by_name() {
    let filled = fill("xy.md.{kind}.{group}", json!({"group": "g00", "kind": 7}));
    assert_eq!(filled, Ok("xy.md.7.g00".to_owned()));
    assert_eq!(fill("xy.flags", json!({})), Ok("xy.flags".to_owned()));
    let template = Template::new("a.{b}.{c_1}").unwrap();
    assert_eq!(template.holes().collect::<Vec<_>>(), ["b", "c_1"]);
}

#[test]
fn a_value_is_one_plain_token_or_nothing() {
    for value in [
        json!(">"),
        json!("*"),
        json!("a.b"),
        json!(""),
        json!("a b"),
        json!("ä"),
        json!("a\u{0}"),
        json!("{group}"),
        json!(1.5),
        json!(-1),
        json!(true),
        json!(["a"]),
        json!("x".repeat(65)),
    ] {
        let filled = fill("xy.{group}", json!({ "group": value }));
        assert_eq!(filled, Err(FillError::Value("group".into())), "{value}");
    }
    let missing = Err(FillError::Missing("group".into()));
    assert_eq!(fill("xy.{group}", json!({})), missing);
    assert_eq!(fill("xy.{group}", json!({ "group": null })), missing);
}

#[test]
fn what_is_no_template_is_refused() {
    for (text, token) in [
        ("a.{}", 2),
        ("{a", 1),
        ("a.b{c}", 2),
        ("a.{b.c}", 2),
        ("{b-c}", 1),
    ] {
        assert_eq!(
            Template::new(text),
            Err(TemplateError::Hole(token)),
            "{text}"
        );
    }
    for text in ["", "a..b", "a.>", "a.*.{b}", "a b"] {
        let refused = Template::new(text);
        assert!(
            matches!(refused, Err(TemplateError::Subject(_))),
            "{text:?}"
        );
    }
}
