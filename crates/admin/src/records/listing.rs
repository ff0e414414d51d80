//! The list: what matches, in which order, one page of it.

use std::cmp::Ordering;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::{Refusal, Verb};
use super::shape::{self, Record};
use crate::control::{Proxies, ProxyRecord};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListQuery {
    page: Option<u64>,
    per_page: Option<u64>,
    sort: Option<String>,
    search: Option<String>,
    filter: Option<String>,
    skip_total: Option<Flag>,
}

/// A yes or no as PocketBase's clients write it.
#[derive(Deserialize, Clone, Copy, PartialEq)]
enum Flag {
    #[serde(rename = "true", alias = "1")]
    Yes,
    #[serde(rename = "false", alias = "0")]
    No,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    page: u64,
    per_page: u64,
    /// -1 if nobody wants to know.
    total_items: i64,
    total_pages: i64,
    items: Vec<Record<'a>>,
}

pub(super) async fn list<P: Proxies>(proxies: &P, uri: &Uri) -> Result<Response, Refusal> {
    let Query(query) =
        Query::<ListQuery>::try_from_uri(uri).map_err(|error| Refusal::Plain(error.body_text()))?;
    if query.filter.is_some_and(|filter| !filter.is_empty()) {
        return Err(Refusal::Plain(
            "filter is not supported; search=<text> looks in names, paths and upstreams".to_owned(),
        ));
    }
    let page = within("page", query.page, 1, PAGES_MAX)?;
    let per_page = within("perPage", query.per_page, PER_PAGE_DEFAULT, PER_PAGE_MAX)?;
    let order = Order::parse(query.sort.as_deref().unwrap_or_default())?;
    let mut records = proxies
        .list()
        .await
        .map_err(|error| Refusal::of(Verb::View, error))?;
    if let Some(text) = query.search.filter(|text| !text.is_empty()) {
        let text = text.to_lowercase();
        records.retain(|record| mentions(record, &text));
    }
    records.sort_by(|one, other| order.compare(one, other));
    let total = records.len() as u64;
    let start = usize::try_from((page - 1).saturating_mul(per_page)).unwrap_or(usize::MAX);
    let (total_items, total_pages) = match query.skip_total {
        Some(Flag::Yes) => (-1, -1),
        _ => (signed(total), signed(total.div_ceil(per_page))),
    };
    let items = records.iter().skip(start);
    let items = items.take(usize::try_from(per_page).unwrap_or(usize::MAX));
    let page = Page {
        page,
        per_page,
        total_items,
        total_pages,
        items: items.map(Record::new).collect(),
    };
    Ok(shape::json(StatusCode::OK, &page))
}

fn within(name: &str, value: Option<u64>, default: u64, max: u64) -> Result<u64, Refusal> {
    let value = value.unwrap_or(default);
    match (1..=max).contains(&value) {
        true => Ok(value),
        false => Err(Refusal::Plain(format!("{name} must be 1 to {max}"))),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether the name, the path or an upstream contains a text in lower case.
fn mentions(record: &ProxyRecord, text: &str) -> bool {
    let has = |value: &Value| {
        value
            .as_str()
            .is_some_and(|value| value.to_lowercase().contains(text))
    };
    let urls = record.fields.get("upstreams").and_then(Value::as_array);
    ["name", "path", "upstream"]
        .iter()
        .filter_map(|field| record.fields.get(*field))
        .chain(urls.into_iter().flatten().filter_map(|url| url.get("url")))
        .any(has)
}

/// `-updated,path`: the last changed first, then by path.
struct Order(Vec<(Key, bool)>);

#[derive(Clone, Copy)]
enum Key {
    Id,
    Created,
    Updated,
    Name,
    Path,
    Active,
}

impl Order {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut keys = Vec::new();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (descending, name) = match word.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let key = match name {
                "id" => Key::Id,
                "created" => Key::Created,
                "updated" => Key::Updated,
                "name" => Key::Name,
                "path" => Key::Path,
                "active" => Key::Active,
                _ => {
                    return Err(Refusal::Plain(
                        "sort takes id, created, updated, name, path and active, each with - for \
                         descending, with commas between"
                            .to_owned(),
                    ));
                }
            };
            keys.push((key, descending));
            if keys.len() > SORT_KEYS_MAX {
                return Err(Refusal::Plain(format!(
                    "sort takes at most {SORT_KEYS_MAX} fields"
                )));
            }
        }
        if keys.is_empty() {
            keys.push((Key::Created, false));
        }
        Ok(Self(keys))
    }

    fn compare(&self, one: &ProxyRecord, other: &ProxyRecord) -> Ordering {
        let text = |record: &ProxyRecord, name| {
            let value = record.fields.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let active = |record: &ProxyRecord| {
            let value = record.fields.get("active").and_then(Value::as_bool);
            value.unwrap_or_default()
        };
        let by = |key| match key {
            Key::Id => one.id.cmp(&other.id),
            Key::Created => one.created_ms.cmp(&other.created_ms),
            Key::Updated => one.updated_ms.cmp(&other.updated_ms),
            Key::Name => text(one, "name").cmp(&text(other, "name")),
            Key::Path => text(one, "path").cmp(&text(other, "path")),
            Key::Active => active(one).cmp(&active(other)),
        };
        self.0
            .iter()
            .map(|(key, descending)| match descending {
                true => by(*key).reverse(),
                false => by(*key),
            })
            .find(|order| order.is_ne())
            // Pages must not overlap, whatever the order asked for.
            .unwrap_or_else(|| one.id.cmp(&other.id))
    }
}

const PER_PAGE_DEFAULT: u64 = 30;
const PER_PAGE_MAX: u64 = 1_000;
/// More than any store has records.
const PAGES_MAX: u64 = 1_000_000;
const SORT_KEYS_MAX: usize = 6;
