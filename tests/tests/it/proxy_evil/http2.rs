//! Origins of HTTP/2 that answer what no server should.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::ensure;
use e2e::config::config;
use testkit::Gateway;

use crate::proxy_http2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PUSH_PROMISE, RST_STREAM,
    Raw, SETTINGS, block, frame,
};
use crate::smuggling::wire;

/// What an origin answers to a stream, and what the client of HTTP/1.1 is to get.
struct Case {
    name: &'static str,
    answer: fn(u32) -> Vec<u8>,
    wanted: Wanted,
}

enum Wanted {
    Bad,
    Body(&'static str),
    Cut,
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    frame(HEADERS, END_HEADERS | flags, stream, &block(&fields))
}

/// A whole answer with one field more.
fn with(stream: u32, name: &str, value: &str) -> Vec<u8> {
    let mut answer = head(stream, 0, &[(":status", "200"), (name, value)]);
    answer.extend(frame(DATA, END_STREAM, stream, b"hello"));
    answer
}

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn cases() -> Vec<Case> {
    let case = |name, wanted, answer| Case {
        name,
        answer,
        wanted,
    };
    vec![
        case("plain", Wanted::Body("hello"), |at| with(at, "x-a", "b")),
        case("line end in a value", Wanted::Bad, |at| {
            with(at, "x-a", "b\r\nSet-Cookie: a=b")
        }),
        case("answer in a value", Wanted::Bad, |at| {
            with(at, "x-a", "b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
        }),
        case("line feed in a value", Wanted::Bad, |at| {
            with(at, "x-a", "b\nc")
        }),
        case("zero byte in a value", Wanted::Bad, |at| {
            with(at, "x-a", "b\0c")
        }),
        case("line end in a name", Wanted::Bad, |at| {
            with(at, "x-a\r\nx-b", "c")
        }),
        case("colon in a name", Wanted::Bad, |at| with(at, "x-a:", "b")),
        case("capital in a name", Wanted::Bad, |at| with(at, "X-a", "b")),
        case("coding", Wanted::Bad, |at| {
            with(at, "transfer-encoding", "chunked")
        }),
        case("connection", Wanted::Bad, |at| {
            with(at, "connection", "close")
        }),
        case("upgrade", Wanted::Bad, |at| {
            with(at, "upgrade", "websocket")
        }),
        case("second status", Wanted::Bad, |at| {
            with(at, ":status", "204")
        }),
        // The library reads over it, and so nobody else sees it.
        case("path in an answer", Wanted::Body("hello"), |at| {
            with(at, ":path", "/a")
        }),
        case("no status", Wanted::Bad, |at| {
            head(at, END_STREAM, &[("x-a", "b")])
        }),
        case("status that is no number", Wanted::Bad, |at| {
            head(at, END_STREAM, &[(":status", "OK")])
        }),
        case("status with a line", Wanted::Bad, |at| {
            head(at, END_STREAM, &[(":status", "200 OK\r\nX-A: b")])
        }),
        case("status 999", Wanted::Bad, |at| {
            head(at, END_STREAM, &[(":status", "999")])
        }),
        case("switch of protocols", Wanted::Bad, |at| {
            head(at, 0, &[(":status", "101")])
        }),
        case("interim answers without end", Wanted::Bad, |at| {
            (0..5_000)
                .flat_map(|_| head(at, 0, &[(":status", "103"), ("link", "</a>")]))
                .collect()
        }),
        case("two lengths", Wanted::Bad, |at| {
            let fields = [
                (":status", "200"),
                ("content-length", "5"),
                ("content-length", "6"),
            ];
            let mut answer = head(at, 0, &fields);
            answer.extend(frame(DATA, END_STREAM, at, b"hello"));
            answer
        }),
        case("length that is none", Wanted::Bad, |at| {
            with(at, "content-length", "+5")
        }),
        case("length too small", Wanted::Cut, |at| {
            let mut answer = head(at, 0, &[(":status", "200"), ("content-length", "5")]);
            answer.extend(frame(DATA, 0, at, b"hell"));
            answer.extend(frame(DATA, END_STREAM, at, b"o and more"));
            answer
        }),
        case("length too large", Wanted::Cut, |at| {
            let mut answer = head(at, 0, &[(":status", "200"), ("content-length", "50")]);
            answer.extend(frame(DATA, END_STREAM, at, b"hello"));
            answer
        }),
        case("reset within the body", Wanted::Cut, |at| {
            let mut answer = head(at, 0, &[(":status", "200")]);
            answer.extend(frame(DATA, 0, at, b"hello"));
            answer.extend(frame(RST_STREAM, 0, at, &8_u32.to_be_bytes()));
            answer
        }),
        case("reset for an answer", Wanted::Bad, |at| {
            frame(RST_STREAM, 0, at, &8_u32.to_be_bytes())
        }),
        case("head without end", Wanted::Bad, |at| {
            let field = block(&[(b"x-a".to_vec(), vec![b'b'; 16_000])]);
            let mut answer = frame(
                HEADERS,
                0,
                at,
                &block(&[(b":status".to_vec(), b"200".to_vec())]),
            );
            for _ in 0..256 {
                answer.extend(frame(CONTINUATION, 0, at, &field));
            }
            answer
        }),
        case("answer to nobody's stream", Wanted::Bad, |at| {
            with(at + 2, "x-a", "b")
        }),
        case("promise of what nobody asked for", Wanted::Bad, |at| {
            let mut promise = 2_u32.to_be_bytes().to_vec();
            promise.extend(block(&[(b":path".to_vec(), b"/a".to_vec())]));
            frame(PUSH_PROMISE, END_HEADERS, at, &promise)
        }),
        case("trailers with a line end", Wanted::Cut, |at| {
            let mut answer = head(at, 0, &[(":status", "200")]);
            answer.extend(frame(DATA, 0, at, b"hello"));
            answer.extend(head(at, END_STREAM, &[("x-a", "b\r\nx-b: c")]));
            answer
        }),
    ]
}

/// Answers a body with the case whose number it is, and what has none with a good answer.
fn origin(cases: Arc<Vec<Case>>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cases = Arc::clone(&cases);
            std::thread::spawn(move || {
                let Some(mut raw) = Raw::serve(stream) else {
                    return;
                };
                while let Some(asked) = raw.next() {
                    if !answer(&mut raw, &asked, &cases) {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

fn answer(raw: &mut Raw, asked: &Frame, cases: &[Case]) -> bool {
    match asked.kind {
        SETTINGS if asked.flags & ACK == 0 => raw.send(&frame(SETTINGS, ACK, 0, &[])),
        HEADERS if asked.flags & END_STREAM != 0 => raw.send(&with(asked.stream, "x-a", "good")),
        DATA => match number_of(&asked.payload).and_then(|number| cases.get(number)) {
            Some(case) => raw.send(&(case.answer)(asked.stream)),
            None => true,
        },
        _ => true,
    }
}

/// The number that the body tells.
fn number_of(body: &[u8]) -> Option<usize> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

#[test]
fn what_an_origin_of_http2_may_not_say_reaches_nobody() -> anyhow::Result<()> {
    let cases = Arc::new(cases());
    let address = origin(Arc::clone(&cases))?;
    let gateway = Gateway::start(&config(&format!(
        "proxy: {{ routes: [{{ path: /-/o, upstream: \"http://{address}\", upstreamHttp: \"2\", allowPrivate: true, accessRule: \"true\", timeoutConfig: {{ response_header: 1 }} }}] }}"
    )))?;
    let good = "GET /-/o HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let body = number.to_string();
        let length = body.len();
        let asked =
            format!("POST /-/o HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        let got = wire::talk(
            gateway.main_addr(),
            asked.as_bytes(),
            usize::MAX,
            good.as_bytes(),
        )?;
        let first = got
            .answers
            .first()
            .map(|(status, body)| (*status, body.as_str()));
        let second = got.answers.get(1).map(|(_, body)| body.contains("hello"));
        let is_right = match case.wanted {
            Wanted::Bad => matches!(first, Some((502 | 504, _))) && second == Some(true),
            Wanted::Body(body) => {
                first.is_some_and(|(status, got)| status == 200 && got.contains(body))
            }
            Wanted::Cut => {
                // What came before is passed on, or nothing at all.
                first.is_none_or(|(status, _)| status == 502) && got.is_closed
            }
        };
        if !is_right {
            wrong.push(format!("{}: {got:.300?}", case.name));
        }
        let others = testkit::http::exchange(gateway.main_addr(), good.as_bytes())?;
        ensure!(
            others.text() == "hello",
            "{}: others got {others:?}",
            case.name
        );
    }
    assert!(
        wrong.is_empty(),
        "of {} cases:\n{}",
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}
