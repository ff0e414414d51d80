//! The reference page and the JSON Schema of the configuration, from the settings' types.

use std::fmt::Write;

use serde_json::Value as Json;

use super::shape::{self, Field, Shape};
use crate::reload::is_fixed;

/// The JSON Schema of the file, pretty-printed.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&shape::json_schema())
        .expect("a schema is plain JSON with text keys");
    text.push('\n');
    text
}

/// The reference page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let Shape::Keys(sections) = &shape::root().shape else {
        return page;
    };
    let (plain, maps): (Vec<_>, Vec<_>) = sections
        .iter()
        .partition(|field| !matches!(field.shape, Shape::Keys(_)));
    page.push_str("\n## Top level\n\n");
    table(&mut page, "", &plain);
    for section in maps {
        write_section(&mut page, section);
    }
    page
}

fn write_section(page: &mut String, section: &Field) {
    let _ = write!(
        page,
        "\n## {}\n\n{}\n\n",
        section.name,
        one_line(&section.text)
    );
    let mut rows = Vec::new();
    let mut lists = Vec::new();
    collect(section, &section.name, &mut rows, &mut lists);
    page.push_str(HEAD);
    for (path, field) in &rows {
        write_row(page, path, field, true);
    }
    for (path, item) in lists {
        let _ = write!(page, "\n### Each of {path}\n\n");
        let mut rows = Vec::new();
        collect(item, "", &mut rows, &mut Vec::new());
        page.push_str(HEAD_IN_LIST);
        for (path, field) in &rows {
            write_row(page, path, field, false);
        }
    }
}

/// Keys below `field` with their paths, and the lists whose items have keys of their own.
fn collect<'a>(
    field: &'a Field,
    path: &str,
    rows: &mut Vec<(String, &'a Field)>,
    lists: &mut Vec<(String, &'a Field)>,
) {
    let Shape::Keys(fields) = &field.shape else {
        return;
    };
    for field in fields {
        let path = match path {
            "" => field.name.clone(),
            path => format!("{path}.{}", field.name),
        };
        match &field.shape {
            Shape::Keys(_) => collect(field, &path, rows, lists),
            Shape::List(item) => {
                rows.push((path.clone(), field));
                if matches!(item.shape, Shape::Keys(_)) {
                    lists.push((path, item));
                }
            }
            _ => rows.push((path, field)),
        }
    }
}

fn table(page: &mut String, path: &str, fields: &[&Field]) {
    page.push_str(HEAD);
    for field in fields {
        write_row(page, &format!("{path}{}", field.name), field, true);
    }
}

fn write_row(page: &mut String, path: &str, field: &Field, with_reload: bool) {
    let default = match (&field.default, field.required) {
        (_, true) => "required".to_owned(),
        (None | Some(Json::Null), false) => String::new(),
        (Some(default), false) => format!("`{default}`"),
    };
    let kind = kind(&field.shape);
    let text = one_line(&field.text);
    let _ = match with_reload {
        true => {
            let reload = if is_fixed(path) { "restart" } else { "yes" };
            writeln!(
                page,
                "| `{path}` | {kind} | {default} | {reload} | {text} |"
            )
        }
        false => writeln!(page, "| `{path}` | {kind} | {default} | {text} |"),
    };
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Keys(_) => "map".to_owned(),
        Shape::Table(value) => format!("map of {}", kind(&value.shape)),
        Shape::List(item) => match &item.shape {
            Shape::Keys(_) => "list of maps".to_owned(),
            Shape::Table(value) if value.shape == Shape::Any => "list of maps".to_owned(),
            _ => format!("list of {}", kind(&item.shape)),
        },
        Shape::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word:?}`")).collect();
            words
                .join(", ")
                .replace("`\"\"`", "empty")
                .replace(['"'], "")
        }
        Shape::Integer { minimum, maximum } if *maximum < i128::from(u32::MAX) => {
            format!("{minimum} to {maximum}")
        }
        Shape::Integer { minimum: 1.., .. } => "number above 0".to_owned(),
        Shape::Integer { .. } | Shape::Number => "number".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Any => "value".to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

const HEAD: &str = "\
| key | takes | default | reload | meaning |
|---|---|---|---|---|
";

const HEAD_IN_LIST: &str = "\
| key | takes | default | meaning |
|---|---|---|---|
";

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated by `cargo run -p gateway --example reference -- config`. -->

Tidegate reads one YAML file, named by `-c FILE` or by the variable `TIDEGATE_CONFIG`.
Every key has a default, and without any file the gateway listens on loopback addresses only and shows its demo.
A key that does not exist and a value of the wrong type are errors with file, line, column and key; `tidegate check -c FILE` shows them, or the whole configuration as it will be used.
The schema for editors is [config.schema.json](config.schema.json); a commented example is [tidegate.yaml](../../examples/tidegate.yaml).

**Environment.** Every key outside a list can be set by a variable: `TIDEGATE_`, then the path in upper case with `_` between the steps, so `client.ping_interval` is `TIDEGATE_CLIENT_PING_INTERVAL`.
Lists take their items separated by commas.
The environment is stronger than the file, and a variable with this prefix that names no key is an error.

**Durations** have a unit: `250ms`, `25s`, `1h30m`; units are ns, us, ms, s, m, h and d.
**Sizes** are bytes.
**Secrets** are written as they are, or as `env:NAME` or `file:PATH`, and are never printed.
**Paths** of files are relative to the working folder.

**Reload.** The file, the certificates and the secrets are read again on SIGHUP and when they change.
The new configuration is checked and taken whole, or refused whole, with the reason in the log.
Keys marked `restart` keep their value until the next start; the log names those that differ.
";
