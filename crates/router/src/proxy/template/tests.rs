use std::sync::Arc;

use serde_json::json;

use super::{Injection, Sources, Template, TemplateError};
use crate::proxy::Caller;

struct Fixed;

impl Sources for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        match name {
            "REGION" => Some("eu".to_owned()),
            "EMPTY" => Some(String::new()),
            "TIDEGATE_KEY" => Some("never".to_owned()),
            _ => None,
        }
    }

    fn secret(&self, name: &str) -> Option<String> {
        match name {
            "OPENAI" => Some("sk-1".to_owned()),
            "BROKEN" => Some("a\r\nX-Evil: 1".to_owned()),
            _ => None,
        }
    }
}

fn user() -> Caller {
    let claims = json!({ "id": "ada", "plan": "gold", "level": 3, "roles": ["a", "b"], "bad": "x\ny", "none": null });
    Caller::User {
        id: Arc::from("ada"),
        claims: Arc::new(claims.as_object().unwrap().clone()),
    }
}

fn filled(value: &str, caller: &Caller) -> Result<Option<String>, TemplateError> {
    let headers = [("X-Test".to_owned(), value.to_owned())];
    let injection = Injection::compile(&headers, &Fixed).map_err(|error| error.error)?;
    let mut fields = injection.fill(caller).map_err(|error| error.error)?;
    Ok(fields.pop().map(|(_, value)| value))
}

#[test]
fn places_are_filled_in() {
    for (value, expected) in [
        ("Bearer {secret.OPENAI}", Some("Bearer sk-1")),
        ("{env.REGION}-{secret.REGION}", Some("eu-eu")),
        ("{auth.id}/@request.auth.plan!", Some("ada/gold!")),
        ("{auth.level} {auth.roles}", Some("3 [\"a\",\"b\"]")),
        ("{env.EMPTY}", None),
        ("{auth.none}{auth.missing}", None),
        (
            r#"{"a": {"b": 1}} me@example.com {x}"#,
            Some(r#"{"a": {"b": 1}} me@example.com {x}"#),
        ),
    ] {
        assert_eq!(
            filled(value, &user()).unwrap().as_deref(),
            expected,
            "{value}"
        );
    }
    assert_eq!(filled("@request.auth.id", &Caller::Guest), Ok(None));
    let superuser = Caller::Superuser(Arc::from("root"));
    assert_eq!(
        filled("{auth.id}{auth.plan}", &superuser),
        Ok(Some("root".to_owned()))
    );
}

#[test]
fn what_is_not_a_template_is_told() {
    for value in [
        "{env.}",
        "{env.1A}",
        "{secret.A",
        "{auth.a-b}",
        "@request.auth.",
        "{env.TIDEGATE_KEY}",
        "{evn.KEY}",
    ] {
        assert!(Template::parse(value).is_err(), "{value}");
    }
}

#[test]
fn the_gateways_own_variables_are_not_read() {
    let error = filled("{secret.TIDEGATE_KEY}", &user()).unwrap_err();
    assert_eq!(error, TemplateError::NoSecret("TIDEGATE_KEY".to_owned()));
}

#[test]
fn errors_name_the_place_and_never_the_value() {
    for (value, said) in [
        ("{env.NONE}", "environment variable NONE is not set"),
        ("{secret.NONE}", "there is no secret NONE"),
        ("{secret.BROKEN}", "value of BROKEN can't stand in a header"),
        ("{auth.bad}", "value of bad can't stand in a header"),
    ] {
        assert_eq!(filled(value, &user()).unwrap_err().to_string(), said);
    }
}

#[test]
fn one_header_that_fails_fails_all() {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let broken = [header("X-One", "1"), header("X-Two", "{secret.NONE}")];
    let error = Injection::compile(&broken, &Fixed).unwrap_err();
    assert_eq!(error.to_string(), "header X-Two: there is no secret NONE");
    let late = [header("X-One", "1"), header("X-Two", "{auth.bad}")];
    let injection = Injection::compile(&late, &Fixed).unwrap();
    assert!(injection.fill(&user()).is_err());
    assert_eq!(
        injection.fill(&Caller::Guest).unwrap(),
        [("X-One", "1".to_owned())]
    );
    assert_eq!(format!("{injection:?}"), r#"["X-One", "X-Two"]"#);
}
