//! What a line says.

use std::io::Write;
use std::time::Duration;

use super::super::outcome::{Connection, Outcome};
use super::super::trace::Trace;

/// What is said about a request (`contracts`: http-proxy 5.4, and more). Never fields,
/// bodies or the query, in which there may be secrets.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// When it ended, in Unix milliseconds.
    pub unix_ms: u64,
    /// The route's name, or its path; empty without a route.
    pub proxy_name: &'a str,
    /// As it was sent.
    pub method: &'a str,
    /// As it was sent, without the query; its first 2048 bytes are shown.
    pub path: &'a str,
    /// The URL of the upstream that answered or was tried last; empty if there was none.
    pub upstream: &'a str,
    /// Requests of the route under way, this one included.
    pub concurrent: u64,
    /// `closed`, `open` or `half-open`: the upstream's breaker before the request.
    pub circuit_state: &'a str,
    /// The trace.
    pub trace: &'a Trace,
    /// Who asked, unless it was a guest.
    pub caller: Option<&'a str>,
    /// Of a model.
    pub model: Option<&'a str>,
    /// What was wrong with the upstream or the way to it, if we answered for that; its
    /// first 2048 bytes are shown.
    pub error: Option<&'a str>,
    /// What it came to.
    pub outcome: &'a Outcome,
}

impl Line<'_> {
    /// One object in one line, without the line's end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let outcome = self.outcome;
        let mut object = Object {
            out,
            is_first: true,
        };
        object.time("time", self.unix_ms);
        object.text("proxy_name", self.proxy_name);
        object.text("method", self.method);
        object.text("path", beginning(self.path));
        object.number("status", u64::from(outcome.status));
        object.text("upstream", self.upstream);
        object.millis("upstream_latency_ms", outcome.upstream);
        object.millis("proxy_latency_ms", Some(outcome.overhead));
        object.millis("duration_ms", Some(outcome.duration));
        object.number("concurrent_count", self.concurrent);
        object.text("circuit_state", self.circuit_state);
        object.text("decided_by", outcome.decided_by.name());
        object.text("ended", outcome.ended.name());
        object.maybe("error", self.error.map(beginning));
        object.number("request_bytes", outcome.request_bytes);
        object.number("response_bytes", outcome.response_bytes);
        object.shown("trace_id", self.trace);
        object.maybe("caller", self.caller);
        object.maybe("connection", outcome.connection.map(Connection::name));
        object.number("tries", u64::from(outcome.tries));
        if outcome.hedges > 0 {
            object.number("hedges", u64::from(outcome.hedges));
        }
        object.millis("queued_ms", outcome.queued);
        object.millis("connect_ms", outcome.connect);
        object.millis("first_content_ms", outcome.first_content);
        object.maybe("model", self.model);
        if let Some((usage, micro_cost)) = &outcome.usage {
            object.number("input_tokens", usage.input);
            object.number("cached_tokens", usage.cached);
            object.number("output_tokens", usage.output);
            object.word("tokens_estimated", usage.is_estimated);
            object.number("cost_micro", *micro_cost);
        }
        object.end();
    }
}

struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        let before: &[u8] = if std::mem::take(&mut self.is_first) {
            b"{\""
        } else {
            b",\""
        };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.out.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                0..=0x1f | 0x7f => self.print(format_args!("\\u{byte:04x}")),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }

    fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        self.print(format_args!("{number}"));
    }

    fn word(&mut self, key: &str, word: bool) {
        self.key(key);
        self.print(format_args!("{word}"));
    }

    fn shown(&mut self, key: &str, value: &Trace) {
        self.key(key);
        self.print(format_args!("\"{value}\""));
    }

    /// Milliseconds to the microsecond.
    fn millis(&mut self, key: &str, time: Option<Duration>) {
        if let Some(time) = time {
            self.key(key);
            let micros = time.as_micros();
            self.print(format_args!("{}.{:03}", micros / 1000, micros % 1000));
        }
    }

    /// RFC 3339, in UTC.
    fn time(&mut self, key: &str, unix_ms: u64) {
        let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
        let (year, month, day) = date(days);
        let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
        let (second, ms) = (ms / 1000 % 60, ms % 1000);
        self.key(key);
        self.print(format_args!(
            "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\""
        ));
    }

    fn print(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.out.write_fmt(arguments);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// The date of a day, counted from that of the epoch. Years begin in March here, so that
/// the day that is not always there comes last; 400 of them have always as many days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_FROM_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// A path as long as it may be shown.
fn beginning(path: &str) -> &str {
    if path.len() <= PATH_SHOWN {
        return path;
    }
    let end = path.floor_char_boundary(PATH_SHOWN);
    path.get(..end).unwrap_or_default()
}

const DAY_MS: u64 = 86_400_000;
/// Days from 1 March of the year 0 to 1 January 1970.
const EPOCH_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// Bytes of a path.
const PATH_SHOWN: usize = 2048;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use upstream::http_service::Miss;

    use super::super::super::ai::Usage;
    use super::super::super::outcome::{Decider, Ended, Phase};
    use super::*;

    fn read(line: &Line<'_>) -> Value {
        let mut out = Vec::new();
        line.write_json(&mut out);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_says_what_a_request_came_to() {
        let trace = Trace {
            id: 0xabc,
            span: 1,
            flags: 1,
            is_new: false,
        };
        let outcome = Outcome {
            ended: Ended::TimedOut(Phase::Gap),
            connection: Some(Connection::Fresh(Miss::ClosedByPeer)),
            upstream: Some(Duration::from_micros(1_234_567)),
            connect: Some(Duration::from_micros(7)),
            first_content: Some(Duration::from_millis(2)),
            tries: 2,
            response_bytes: 99,
            usage: Some((
                Usage {
                    input: 3,
                    output: 4,
                    is_estimated: true,
                    ..Usage::default()
                },
                17,
            )),
            ..Outcome::refused(200, Decider::Upstream, Duration::from_secs(3))
        };
        let line = Line {
            unix_ms: 1_709_210_096_007,
            proxy_name: "open\"ai",
            method: "POST",
            path: "/-/openai/\u{7f}\u{1}é\\",
            upstream: "https://one.example",
            concurrent: 5,
            circuit_state: "half-open",
            trace: &trace,
            caller: Some("u1"),
            model: Some("m"),
            error: None,
            outcome: &outcome,
        };
        assert_eq!(
            read(&line),
            json!({
                "time": "2024-02-29T12:34:56.007Z",
                "proxy_name": "open\"ai",
                "method": "POST",
                "path": "/-/openai/\u{7f}\u{1}é\\",
                "status": 200,
                "upstream": "https://one.example",
                "upstream_latency_ms": 1234.567,
                "proxy_latency_ms": 3000.0,
                "duration_ms": 3000.0,
                "concurrent_count": 5,
                "circuit_state": "half-open",
                "decided_by": "upstream",
                "ended": "timeout:gap",
                "request_bytes": 0,
                "response_bytes": 99,
                "trace_id": "00000000000000000000000000000abc",
                "caller": "u1",
                "connection": "closed_by_peer",
                "tries": 2,
                "connect_ms": 0.007,
                "first_content_ms": 2.0,
                "model": "m",
                "input_tokens": 3,
                "cached_tokens": 0,
                "output_tokens": 4,
                "tokens_estimated": true,
                "cost_micro": 17,
            })
        );
        let refused = Outcome::refused(403, Decider::Access, Duration::ZERO);
        let path = "é".repeat(2000);
        let line = Line {
            path: &path,
            caller: None,
            error: Some("connection error: \"it\" is down"),
            outcome: &refused,
            ..line
        };
        let value = read(&line);
        assert_eq!(value["path"].as_str().unwrap().len(), 2048);
        assert_eq!(value["decided_by"], "access");
        assert_eq!(value["error"], "connection error: \"it\" is down");
        assert_eq!(value.get("caller"), None);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_453, (2025, 12, 31)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
