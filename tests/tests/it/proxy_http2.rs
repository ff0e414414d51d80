//! HTTP/2 of clients: what it may not smuggle, and what it may not cost.

mod clients;
mod corpus;
mod floods;
pub(crate) mod frames;

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use testkit::Gateway;

use crate::smuggling;
use crate::smuggling::origin::Origin;
use corpus::{Case, Wanted};
use frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, block, frame,
    status,
};

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Answer(u16, String),
    Reset,
}

/// Sends a case on a connection of its own.
fn ask(address: SocketAddr, number: usize, case: &Case) -> anyhow::Result<Got> {
    let prefix = format!("/-/o/c{number}");
    let placed = |fields: &[(Vec<u8>, Vec<u8>)]| -> Vec<_> {
        fields
            .iter()
            .map(|(name, value)| {
                let value = match value.strip_prefix(b"%P") {
                    Some(rest) => [prefix.as_bytes(), rest].concat(),
                    None => value.clone(),
                };
                (name.clone(), value)
            })
            .collect()
    };
    let mut raw = Raw::open(address)?;
    let end = if case.body.is_none() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | end, 1, &block(&placed(&case.fields)));
    if let Some(body) = &case.body {
        let end = if case.trailers.is_empty() {
            END_STREAM
        } else {
            0
        };
        bytes.extend(frame(DATA, end, 1, body));
    }
    if !case.trailers.is_empty() {
        let trailers = block(&placed(&case.trailers));
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
    }
    raw.send(&bytes);
    answer(&mut raw, 1)
}

/// Reads up to the end of a stream's answer.
fn answer(raw: &mut Raw, stream: u32) -> anyhow::Result<Got> {
    let (mut code, mut body) = (None, Vec::new());
    while let Some(frame) = raw.next() {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                raw.send(&frames::frame(SETTINGS, ACK, 0, &[]));
            }
            GOAWAY => return Ok(Got::Reset),
            RST_STREAM if frame.stream == stream => return Ok(Got::Reset),
            HEADERS if frame.stream == stream => {
                if code.is_none() {
                    code = Some(status(&frame.payload).context("answer has no status")?);
                }
            }
            DATA if frame.stream == stream => body.extend(frame.payload),
            _ => continue,
        }
        if frame.flags & END_STREAM != 0 && frame.stream == stream {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Ok(Got::Answer(code.context("body before the head")?, body));
        }
    }
    Ok(Got::Reset)
}

/// A good request of somebody else, over HTTP/1.1.
fn others_get(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let request = format!("GET /-/o{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = testkit::http::exchange(address, request.as_bytes())?;
    ensure!(
        answer.text() == format!("GET {path}"),
        "others got {answer:?}"
    );
    Ok(())
}

#[test]
fn nothing_is_smuggled_through_http2() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    check(&origin, vec![gateway])
}

#[test]
fn nothing_is_smuggled_through_http2_on_both_sides() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let inner = smuggling::gateway(origin.address())?;
    let outer = smuggling::before_another(&inner)?;
    check(&origin, vec![outer, inner])
}

/// Sends all cases to the first of the gateways.
fn check(origin: &Origin, gateways: Vec<Gateway>) -> anyhow::Result<()> {
    let address = gateways.first().context("no gateway")?.main_addr();
    let cases = corpus::all();
    let mut report = String::new();
    for (number, case) in cases.iter().enumerate() {
        let got = ask(address, number, case)?;
        let is_right = match (case.wanted, &got) {
            (Wanted::Seen(line), Got::Answer(200, body)) => {
                let mut words = line.splitn(3, ' ');
                let (method, path) = (words.next(), words.next());
                let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
                *body == format!("{method} /c{number}{path}")
            }
            (Wanted::Status(wanted), Got::Answer(got, _)) => wanted == *got,
            (Wanted::Reset, Got::Reset) => true,
            _ => false,
        };
        if !is_right {
            writeln!(
                report,
                "{}: wanted {:?}, got {got:?}",
                case.name, case.wanted
            )?;
        }
        others_get(address, &format!("/c{number}/next")).with_context(|| case.name)?;
    }
    drop(gateways);
    let seen = origin.all_seen()?;
    for (number, case) in cases.iter().enumerate() {
        let prefix = format!("/c{number}/");
        let of_case: Vec<_> = seen
            .iter()
            .filter(|seen| seen.target.starts_with(&prefix) && seen.is_whole)
            .collect();
        let lines: Vec<_> = of_case
            .iter()
            .map(|seen| smuggling::line_of(seen))
            .collect();
        let next = format!("GET /c{number}/next");
        let mut wanted = Vec::new();
        if let Wanted::Seen(line) = case.wanted {
            let mut words = line.splitn(2, " /");
            let (method, rest) = (words.next(), words.next());
            wanted.push(format!(
                "{} /c{number}/{}",
                method.unwrap_or_default(),
                rest.unwrap_or_default()
            ));
        }
        wanted.push(next);
        if lines != wanted {
            writeln!(
                report,
                "{}: origin was to see {wanted:?}, saw {lines:?}",
                case.name
            )?;
        }
        for seen in of_case {
            if let Some(problem) = smuggling::leak(seen) {
                writeln!(report, "{}: {problem}", case.name)?;
            }
            let is_harmless = case.name == "harmless trailer" && seen.trailers == "x-a: b\n";
            if !seen.trailers.is_empty() && !is_harmless {
                writeln!(
                    report,
                    "{}: origin got trailers {:?}",
                    case.name, seen.trailers
                )?;
            }
        }
    }
    for seen in &seen {
        if !seen.flaws.is_empty() || !seen.target.starts_with("/c") {
            writeln!(report, "origin was sent {seen:?}")?;
        }
    }
    assert!(report.is_empty(), "of {} cases:\n{report}", cases.len());
    Ok(())
}
