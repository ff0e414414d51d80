use super::*;

/// Events of a stream that comes in two parts, and where the boundaries were.
fn events(chunks: &[&[u8]]) -> Vec<String> {
    let mut scanner = Scanner::new();
    let (mut events, mut lines, mut line) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        scanner.push(chunk, |piece| match piece {
            Piece::Data(data) => line.extend_from_slice(data),
            Piece::LineEnd => lines.push(String::from_utf8(std::mem::take(&mut line)).unwrap()),
            Piece::End => events.push(std::mem::take(&mut lines).join("\n")),
        });
    }
    assert_eq!(scanner.events(), events.len() as u64);
    events
}

const STREAM: &[u8] = b"\xef\xbb\xbf: hello\n\ndata: one\n\nevent: message_start\r\ndata:two\r\n\
    data:  three\r\n\r\nid: 7\nretry: 100\n\ndata\rdata: four\r\rdatabase: no\ndat: no\n\
    data:\n\n: keep-alive\n\ndata: five: six\n\ndata: cut";

const EVENTS: &[&str] = &["one", "two\n three", "\nfour", "", "five: six"];

#[test]
fn events_are_found_wherever_a_stream_is_cut() {
    assert_eq!(events(&[STREAM]), EVENTS);
    for at in 0..=STREAM.len() {
        let (head, tail) = STREAM.split_at(at);
        assert_eq!(events(&[head, tail]), EVENTS, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
    assert_eq!(events(&bytes), EVENTS);
}

#[test]
fn a_comment_at_a_boundary_changes_nothing() {
    let mut boundaries = 0;
    for at in 0..=STREAM.len() {
        let (head, tail) = STREAM.split_at(at);
        let mut scanner = Scanner::new();
        scanner.push(head, |_| {});
        if scanner.at_boundary() && at > 0 {
            boundaries += 1;
            let heartbeat: &[u8] = super::super::in_band::HEARTBEAT;
            assert_eq!(events(&[head, heartbeat, tail]), EVENTS, "at {at}");
        }
    }
    assert!(boundaries >= 7, "{boundaries}");
}

#[test]
fn there_is_no_boundary_within_an_event_or_a_line() {
    for (bytes, expected) in [
        (&b""[..], true),
        (b"data: x\n\n", true),
        (b"data: x\r\n\r\n", true),
        (b"\n", true),
        (b": comment\n", true),
        (b"data: x\n", false),
        (b"data: x\r\n\r", false),
        (b"event: x\n", false),
        (b"id\n", true),
        (b": comm", false),
        (b"dat", false),
        (b"\xef\xbb", false),
    ] {
        let mut scanner = Scanner::new();
        scanner.push(bytes, |_| {});
        assert_eq!(scanner.at_boundary(), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn data_is_handed_out_where_it_lies() {
    let chunk = b"data: whole\n\n";
    let mut found = None;
    Scanner::new().push(chunk, |piece| {
        if let Piece::Data(data) = piece {
            found = Some(data.as_ptr());
        }
    });
    assert_eq!(found, Some(chunk[6..].as_ptr()));
}
