//! Records as PocketBase writes them.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::control::ProxyRecord;

/// A record with what PocketBase adds to its fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record<'a> {
    collection_id: &'static str,
    collection_name: &'static str,
    id: &'a str,
    created: String,
    updated: String,
    version: u64,
    read_only: bool,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(record: &'a ProxyRecord) -> Self {
        Self {
            collection_id: COLLECTION,
            collection_name: COLLECTION,
            id: &record.id,
            created: time(record.created_ms),
            updated: time(record.updated_ms),
            version: record.version,
            read_only: record.read_only,
            fields: &record.fields,
        }
    }
}

/// The `ETag` of a record: its version.
pub(crate) fn tag(record: &ProxyRecord) -> HeaderValue {
    // Digits and quotes always make a header value.
    HeaderValue::try_from(format!("\"{}\"", record.version))
        .unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// A time as PocketBase writes it: `2026-01-30 12:00:00.000Z`.
pub(crate) fn time(unix_ms: u64) -> String {
    let (seconds, millis) = (unix_ms / 1_000, unix_ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year; 400 years
    // have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31 days, over and over.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = match month {
        0..=9 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    (era * 400 + year + next, month, day)
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    crate::operator::json(status, value)
}

/// Fields that are the store's own and not to be written.
pub(super) const OWN_FIELDS: [&str; 7] = [
    "collectionId",
    "collectionName",
    "id",
    "created",
    "updated",
    "version",
    "readOnly",
];

const COLLECTION: &str = "_proxies";

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_written_as_pocketbase_does() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00.000Z"),
            (951_782_399_999, "2000-02-28 23:59:59.999Z"),
            (951_782_400_000, "2000-02-29 00:00:00.000Z"),
            (951_868_800_000, "2000-03-01 00:00:00.000Z"),
            (1_769_774_400_123, "2026-01-30 12:00:00.123Z"),
            (1_798_761_599_000, "2026-12-31 23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000Z"),
        ] {
            assert_eq!(time(unix_ms), text);
        }
        // The last moment that can be said does not overflow.
        assert!(time(u64::MAX).ends_with('Z'));
    }
}
