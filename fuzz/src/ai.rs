//! Answers of models and requests to them, as the proxy reads them in passing.

use router::proxy::AiDialect;
use router::proxy::ai::{Ask, Asker, Meter, Piece, Scanner, Shape, in_band};
use serde_json::Value;

/// A stream of events, cut where its first byte says: the same events wherever it is cut, and
/// none of them changed by a heartbeat at a boundary.
pub fn sse(data: &[u8]) {
    let Some((&first, stream)) = data.split_first() else {
        return;
    };
    let whole = events(&[stream]);
    let at = usize::from(first) % (stream.len() + 1);
    let (head, tail) = stream.split_at(at);
    assert_eq!(events(&[head, tail]), whole);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(events(&bytes), whole);

    let mut scanner = Scanner::new();
    scanner.push(head, |_| {});
    // A byte order mark would no longer be the first thing in the stream.
    if scanner.at_boundary() && at > 0 {
        assert_eq!(events(&[head, in_band::HEARTBEAT, tail]), whole);
    }
    for dialect in [AiDialect::OpenAi, AiDialect::Anthropic] {
        let error = in_band::error_event(
            dialect,
            in_band::Fault::Upstream,
            "broken",
            "broke off",
            !scanner.at_boundary(),
        );
        let mut meter = metered(dialect, Shape::EventStream, &[head]);
        meter.push(&error);
        // An LF at the start belongs to a CR before it; the line after it still ends the event.
        assert!(meter.has_error() && meter.at_boundary());
        same(dialect, Shape::EventStream, stream, at);
    }
}

/// One document, cut where its first byte says: what is asked and what was used are the same
/// wherever it is cut, and what is JSON is read to its end.
pub fn body(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else {
        return;
    };
    let at = usize::from(first) % (body.len() + 1);
    for dialect in [AiDialect::OpenAi, AiDialect::Anthropic] {
        same(dialect, Shape::Json, body, at);
    }
    let ask = Ask::read(body);
    let (head, tail) = body.split_at(at);
    let mut asker = Asker::new();
    asker.push(head);
    asker.push(tail);
    assert_eq!(asker.ask(), ask);
    assert!(ask.answers > 0);
    if let Ok(document @ Value::Object(_)) = serde_json::from_slice::<Value>(body) {
        assert!(ask.is_complete, "{document}");
    }
}

/// The data of each event.
fn events(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut scanner = Scanner::new();
    let (mut events, mut event) = (Vec::new(), Vec::new());
    for chunk in chunks {
        scanner.push(chunk, |piece| match piece {
            Piece::Data(data) => {
                assert!(!data.is_empty());
                event.extend_from_slice(data);
            }
            Piece::LineEnd => event.push(b'\n'),
            Piece::End => events.push(std::mem::take(&mut event)),
        });
    }
    assert_eq!(scanner.events(), events.len() as u64);
    events
}

fn metered(dialect: AiDialect, shape: Shape, chunks: &[&[u8]]) -> Meter {
    let mut meter = Meter::new(dialect, shape);
    for chunk in chunks {
        meter.push(chunk);
    }
    meter
}

/// A meter says the same wherever a body is cut.
fn same(dialect: AiDialect, shape: Shape, body: &[u8], at: usize) {
    let (head, tail) = body.split_at(at);
    let [whole, cut] = [&[body, b""], &[head, tail]].map(|chunks| metered(dialect, shape, chunks));
    let facts = |meter: &Meter| {
        (
            meter.usage(7),
            meter.has_content(),
            meter.has_error(),
            meter.is_terminated(),
            meter.at_boundary(),
            meter.events(),
        )
    };
    assert_eq!(facts(&whole), facts(&cut));
}
