//! Requests that two servers might read differently, raw through the gateway to an origin
//! that keeps what it gets: it never sees a request that the client did not plainly make.

mod case;
mod corpus;
mod nginx;
pub(crate) mod origin;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use e2e::config::config;
use testkit::Gateway;

use case::Case;
use origin::{Origin, Seen};
use wire::Transcript;

/// Routes to one origin over a single pooled connection, so that what one request leaves
/// behind would be found by the next.
pub(crate) fn gateway(upstream: SocketAddr) -> anyhow::Result<Gateway> {
    before(&format!("http://{upstream}"), "auto")
}

/// A gateway before another one, to which it speaks HTTP/2: heads and bodies are translated
/// there and back.
pub(crate) fn before_another(inner: &Gateway) -> anyhow::Result<Gateway> {
    before(&format!("http://{}/-/o", inner.main_addr()), "2")
}

fn before(upstream: &str, version: &str) -> anyhow::Result<Gateway> {
    Gateway::start(&config(&format!(
        "workers: 1
limits: {{ handshake_timeout: 1s }}
proxy:
  body_timeout: 2s
  pool: {{ idle: 1, idle_per_host: 1 }}
  routes:
    - {{ path: /-/o, upstream: \"{upstream}\", upstreamHttp: \"{version}\", allowPrivate: true, accessRule: \"true\" }}
    - {{ path: /-/w, upstream: \"{upstream}\", upstreamHttp: \"{version}\", allowPrivate: true, accessRule: \"true\", websocket: true }}
"
    )))
}

/// What a server made of one case.
struct Outcome {
    transcript: Transcript,
    seen: Vec<Seen>,
}

/// Sends all cases, one after the other, each followed by a good request of somebody else.
fn run(address: SocketAddr, cases: &[Case], at_once: usize) -> anyhow::Result<Vec<Transcript>> {
    let mut transcripts = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let good = |name: &str| {
            format!(
                "GET /-/o/c{number}/{name} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n"
            )
        };
        let transcript = wire::talk(
            address,
            &case.bytes(number),
            at_once,
            good("end").as_bytes(),
        )
        .with_context(|| format!("{}: {}", case.class, case.name))?;
        transcripts.push(transcript);
        let next = testkit::http::exchange(address, good("next").as_bytes())?;
        ensure!(
            next.text() == format!("GET /c{number}/next"),
            "after {}: {}, somebody else got {:?}",
            case.class,
            case.name,
            next.text()
        );
    }
    Ok(transcripts)
}

/// Puts together what client and origin saw. A request without a case's number belongs to
/// the case that was under way.
fn gather(
    cases: &[Case],
    transcripts: Vec<Transcript>,
    seen: Vec<Seen>,
) -> anyhow::Result<Vec<Outcome>> {
    ensure!(cases.len() == transcripts.len(), "a case is missing");
    let mut outcomes: Vec<_> = transcripts
        .into_iter()
        .map(|transcript| Outcome {
            transcript,
            seen: Vec::new(),
        })
        .collect();
    let mut under_way = 0;
    for mut seen in seen {
        let number = case_of(&seen.target)
            .or_else(|| case_of(&seen.head))
            .unwrap_or(under_way);
        if seen.target.ends_with("/next") {
            under_way = number + 1;
        }
        seen.target = seen.target.replacen(&format!("/c{number}"), "", 1);
        outcomes
            .get_mut(number)
            .with_context(|| format!("nobody sent {seen:?}"))?
            .seen
            .push(seen);
    }
    Ok(outcomes)
}

/// The number in the first `/c<number>/` of a text.
fn case_of(text: &str) -> Option<usize> {
    text.match_indices("/c").find_map(|(at, _)| {
        let (digits, _) = text.get(at + 2..)?.split_once('/')?;
        digits.parse().ok()
    })
}

pub(crate) fn line_of(seen: &Seen) -> String {
    let body = String::from_utf8_lossy(&seen.body);
    let space = if body.is_empty() { "" } else { " " };
    format!("{} {}{space}{body}", seen.method, seen.target)
}

/// What is wrong with an outcome; empty if nothing is.
fn judge(number: usize, case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in &outcome.seen {
        for flaw in &seen.flaws {
            wrong.push(format!("origin was sent a flaw: {flaw}"));
        }
        if !seen.trailers.is_empty() && case.name != "harmless" {
            wrong.push(format!("origin was sent trailers {:?}", seen.trailers));
        }
        if let Some(problem) = leak(seen) {
            wrong.push(problem);
        }
    }
    let mut expected: Vec<String> = case.seen.iter().map(|line| (*line).to_owned()).collect();
    if !case.closes {
        expected.push("GET /end".to_owned());
    }
    let statuses: Vec<u16> = expected
        .iter()
        .map(|line| {
            line.split_once("status=")
                .and_then(|(_, status)| status.get(..3)?.parse().ok())
                .unwrap_or(200)
        })
        .collect();
    let mut answers: Vec<(u16, Option<String>)> = statuses
        .into_iter()
        .zip(&expected)
        .map(|(status, line)| {
            let mut words = line.splitn(3, ' ');
            let (method, path) = (words.next(), words.next());
            let path = path.unwrap_or_default();
            (
                status,
                Some(format!("{} /c{number}{path}", method.unwrap_or_default())),
            )
        })
        .collect();
    if let Some(status) = case.refusal {
        answers.insert(case.seen.len(), (status, None));
    }
    if let Some(status) = case.first {
        answers.insert(0, (status, None));
    }
    let got = &outcome.transcript.answers;
    let is_same = got.len() == answers.len()
        && got.iter().zip(&answers).all(|(got, wanted)| {
            got.0 == wanted.0 && wanted.1.as_ref().is_none_or(|body| *body == got.1)
        });
    if !is_same {
        wrong.push(format!("client was to get {answers:?}, got {got:?}"));
    }
    if !outcome.transcript.rest.is_empty() {
        let rest = String::from_utf8_lossy(&outcome.transcript.rest);
        wrong.push(format!("client got {rest:?} besides"));
    }
    if !outcome.transcript.is_closed {
        wrong.push("connection stayed open".to_owned());
    }
    expected.push("GET /next".to_owned());
    let whole: Vec<_> = outcome
        .seen
        .iter()
        .filter(|seen| seen.is_whole)
        .map(line_of)
        .collect();
    if whole != expected {
        wrong.push(format!("origin was to see {expected:?}, saw {whole:?}"));
    }
    // A body that turns out malformed may have been begun.
    let cut: Vec<_> = outcome.seen.iter().filter(|seen| !seen.is_whole).collect();
    let is_allowed = match cut[..] {
        [] => true,
        [one] => case.refusal.is_some() && case.closes && one.target == "/a",
        _ => false,
    };
    if !is_allowed {
        wrong.push(format!("origin saw the beginning of {cut:?}"));
    }
    wrong
}

/// What should have ended at the gateway, or been rewritten by it.
pub(crate) fn leak(seen: &Seen) -> Option<String> {
    if !seen.flaws.is_empty() {
        return None;
    }
    let is_upgrade = !seen.all("upgrade").is_empty();
    let ends_here = [
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "http2-settings",
        "proxy-authorization",
    ];
    for name in ends_here {
        if !seen.all(name).is_empty() {
            return Some(format!("origin got {name}: {:?}", seen.all(name)));
        }
    }
    let is_passed_on = seen.all("upgrade") == ["websocket"];
    if is_upgrade && !is_passed_on {
        return Some(format!("origin got upgrade: {:?}", seen.all("upgrade")));
    }
    let connection = seen.all("connection");
    if !is_upgrade && !connection.is_empty() {
        return Some(format!("origin got connection: {connection:?}"));
    }
    if seen.all("x-forwarded-for") != ["127.0.0.1"] {
        return Some(format!(
            "origin got x-forwarded-for: {:?}",
            seen.all("x-forwarded-for")
        ));
    }
    None
}

fn through_gateway(cases: &[Case], at_once: usize) -> anyhow::Result<Vec<Outcome>> {
    let origin = Origin::start()?;
    let gateway = gateway(origin.address())?;
    let transcripts = run(gateway.main_addr(), cases, at_once)?;
    drop(gateway);
    gather(cases, transcripts, origin.all_seen()?)
}

#[track_caller]
fn assert_right(cases: &[Case], outcomes: &[Outcome]) {
    let wrong: Vec<_> = (cases.iter().zip(outcomes).enumerate())
        .flat_map(|(number, (case, outcome))| {
            let name = format!("{}: {}", case.class, case.name);
            let wrong = judge(number, case, outcome);
            wrong
                .into_iter()
                .map(move |wrong| format!("{name}: {wrong}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "of {} cases:\n{}",
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn origin_sees_what_clients_plainly_ask_and_nothing_else() -> anyhow::Result<()> {
    let cases = corpus::all();
    assert!(cases.len() >= 120, "only {} cases", cases.len());
    let outcomes = through_gateway(&cases, usize::MAX)?;
    assert_right(&cases, &outcomes);
    // What one request left behind on its connection, the next would have found.
    for (case, outcome) in cases.iter().zip(&outcomes) {
        let is_kept = !case.closes && case.class != "upgrade";
        let mut connections: Vec<_> = outcome.seen.iter().map(|seen| seen.connection).collect();
        connections.dedup();
        assert!(
            !is_kept || connections.len() == 1,
            "{}: {connections:?}",
            case.name
        );
    }
    Ok(())
}

#[test]
fn nothing_changes_when_bytes_come_one_by_one() -> anyhow::Result<()> {
    let mut cases = corpus::all();
    cases.retain(|case| {
        let bytes = case.bytes(0);
        // hyper answers that there is no such page before the body has come, and whether it
        // then keeps the connection depends on how fast the rest is there.
        let has_unread_body = bytes.windows(13).any(|part| part == b"POST /nothing");
        bytes.len() < 2_000 && !has_unread_body
    });
    assert_right(&cases, &through_gateway(&cases, 1)?);
    Ok(())
}

#[test]
fn nothing_changes_when_http2_lies_between() -> anyhow::Result<()> {
    // There are no upgrades in HTTP/2, and fewer signs in a target.
    let mut cases = corpus::all();
    cases.retain(|case| case.class != "upgrade" && case.name != "odd signs");
    let origin = Origin::start()?;
    let inner = gateway(origin.address())?;
    let outer = before_another(&inner)?;
    let transcripts = run(outer.main_addr(), &cases, usize::MAX)?;
    drop((outer, inner));
    assert_right(&cases, &gather(&cases, transcripts, origin.all_seen()?)?);
    Ok(())
}

/// What a server made of a case, in short: the answers, and what the origin saw whole.
fn in_short(number: usize, outcome: &Outcome) -> String {
    let statuses: Vec<_> = outcome
        .transcript
        .answers
        .iter()
        .map(|(status, _)| status.to_string())
        .collect();
    let seen: Vec<_> = outcome
        .seen
        .iter()
        .filter(|seen| seen.is_whole && seen.target != "/next")
        .map(|seen| line_of(seen).escape_debug().to_string())
        .collect();
    let seen = seen.join(", ").replace(&format!("/c{number}/"), "/cN/");
    format!("{} | {seen}", statuses.join(" ")).trim().to_owned()
}

#[test]
fn differences_from_nginx_are_known_and_explained() -> anyhow::Result<()> {
    let cases = corpus::all();
    let origin = Origin::start()?;
    let Some(nginx) = nginx::Nginx::start(origin.address())? else {
        println!("not run: nginx is not there; `cargo xtask deps --rivals` brings it");
        return Ok(());
    };
    let transcripts = run(nginx.address(), &cases, usize::MAX)?;
    drop(nginx);
    let theirs = gather(&cases, transcripts, origin.all_seen()?)?;
    let ours = through_gateway(&cases, usize::MAX)?;
    let mut found = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let (ours, theirs) = (
            in_short(number, &ours[number]),
            in_short(number, &theirs[number]),
        );
        if ours != theirs {
            found.insert(format!("{}: {}", case.class, case.name), (ours, theirs));
        }
    }
    let explained = explained()?;
    let mut report = String::new();
    for (name, (ours, theirs)) in &found {
        if explained
            .get(name)
            .is_none_or(|known| known.theirs != *theirs)
        {
            writeln!(report, "{name}\n  ours   {ours}\n  nginx  {theirs}")?;
        }
    }
    for name in explained.keys().filter(|name| !found.contains_key(*name)) {
        writeln!(report, "{name}\n  no difference any more")?;
    }
    assert!(report.is_empty(), "not as explained:\n{report}");
    Ok(())
}

/// A line of the committed list.
struct Explained {
    theirs: String,
}

/// `class: name`, then what nginx makes of it and why we differ, indented.
fn explained() -> anyhow::Result<BTreeMap<String, Explained>> {
    let mut explained = BTreeMap::new();
    let mut lines = include_str!("smuggling/differences.txt").lines();
    while let Some(name) = lines.next() {
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let theirs = lines.next().and_then(|line| line.strip_prefix("  nginx  "));
        let why = lines
            .next()
            .and_then(|line| line.strip_prefix("  because  "));
        let (theirs, why) = theirs
            .zip(why)
            .with_context(|| format!("{name:?} is not followed by nginx and because"))?;
        assert!(!why.trim().is_empty(), "{name:?} is not explained");
        let theirs = theirs.to_owned();
        let before = explained.insert(name.to_owned(), Explained { theirs });
        assert!(before.is_none(), "{name:?} is there twice");
    }
    Ok(explained)
}
