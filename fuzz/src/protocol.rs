//! The Centrifuge protocol: commands in both encodings against each other, patterns against a
//! matcher written for clarity, channels through their escape and back.

use protocol::channel::{Channel, escape, unescape};
use protocol::codec::{Encoding, commands, encode_command, join};
use protocol::message::Command;
use protocol::subject::{Pattern, Subject};
use protocol::template::Template;
use serde_json::Value;

/// A JSON frame of a client. All it says can be said in Protobuf.
pub fn json_commands(data: &[u8]) {
    let decoded = decode(Encoding::Json, data);
    let protobuf = encode(Encoding::Protobuf, &decoded).expect("protobuf carries any bytes");
    assert_eq!(decode(Encoding::Protobuf, &protobuf), decoded);
    let json = encode(Encoding::Json, &decoded).expect("raw values that were read are valid");
    rewritten_alike(&json, decoded.len());
}

/// A Protobuf frame of a client. What it says can be said in JSON if its payloads are JSON.
pub fn protobuf_commands(data: &[u8]) {
    let decoded = decode(Encoding::Protobuf, data);
    let protobuf = encode(Encoding::Protobuf, &decoded).expect("protobuf carries any bytes");
    assert_eq!(decode(Encoding::Protobuf, &protobuf), decoded);
    if let Some(json) = encode(Encoding::Json, &decoded) {
        rewritten_alike(&json, decoded.len());
    }
}

/// A pattern, a line end, and the name of a channel.
pub fn subject_patterns(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (Some(Ok(pattern)), Some(Ok(name))) = (
        lines.next().map(std::str::from_utf8),
        lines.next().map(std::str::from_utf8),
    ) else {
        return;
    };
    escape_is_reversible(name);
    escape_is_reversible(pattern);

    let parsed = Pattern::new(pattern);
    assert_eq!(parsed.is_ok(), is_pattern(pattern), "{pattern:?}");
    let is_literal = is_pattern(pattern) && !pattern.contains(['*', '>']);
    assert_eq!(Subject::new(pattern).is_ok(), is_literal, "{pattern:?}");
    let Ok(parsed) = parsed else { return };
    assert_eq!(parsed.is_literal(), is_literal);

    let wanted: Vec<&str> = pattern.split('.').collect();
    let tokens: Vec<&str> = name.split('.').collect();
    let covered = covers(&wanted, &tokens);
    assert_eq!(parsed.covers_text(name), covered, "{pattern:?} {name:?}");
    if !pattern.contains('%') {
        let subject = Channel::new(name).to_subject();
        assert_eq!(parsed.covers(&subject), covered, "{pattern:?} {subject:?}");
    }
}

/// A template, a line end, and the data of a call. Whatever a caller fills in, it stays in
/// the tokens that were left open.
pub fn call_template(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (Some(Ok(text)), Some(values)) = (lines.next().map(std::str::from_utf8), lines.next())
    else {
        return;
    };
    let Ok(template) = Template::new(text) else {
        return;
    };
    let Ok(Value::Object(values)) = serde_json::from_slice(values) else {
        return;
    };
    let Ok(filled) = template.fill(&values) else {
        assert!(template.holes().next().is_some(), "{text:?} has no hole");
        return;
    };
    assert!(Subject::new(&filled).is_ok(), "{text:?} became {filled:?}");
    assert_eq!(text.split('.').count(), filled.split('.').count());
    for (wanted, token) in text.split('.').zip(filled.split('.')) {
        assert!(wanted == token || wanted.starts_with('{'), "{filled:?}");
    }
}

/// The commands before the first error; each is the same when its frame is taken up there.
fn decode(encoding: Encoding, frame: &[u8]) -> Vec<Command> {
    let mut decoded = Vec::new();
    let mut whole = commands(encoding, frame);
    let mut rest = frame;
    while let Some(command) = whole.next() {
        let mut piece = commands(encoding, rest);
        assert_eq!(piece.next().as_ref(), Some(&command));
        assert_eq!(piece.rest(), whole.rest());
        rest = piece.rest();
        match command {
            Ok(command) => decoded.push(command),
            Err(_) => {
                assert!(rest.is_empty());
                assert!(whole.next().is_none());
            }
        }
    }
    decoded
}

fn encode(encoding: Encoding, commands: &[Command]) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        if index > 0 {
            join(encoding, &mut frame);
        }
        let before = frame.clone();
        if encode_command(encoding, command, &mut frame).is_err() {
            assert_eq!(frame, before, "an error leaves nothing behind");
            return None;
        }
    }
    Some(frame)
}

/// What the gateway writes it reads as the same number of messages, and writes again alike.
fn rewritten_alike(json: &[u8], count: usize) {
    assert!(std::str::from_utf8(json).is_ok());
    let decoded = decode(Encoding::Json, json);
    assert_eq!(decoded.len(), count);
    assert_eq!(encode(Encoding::Json, &decoded).as_deref(), Some(json));
}

fn escape_is_reversible(text: &str) {
    let subject = escape(text);
    assert!(Subject::new(&subject).is_ok(), "{text:?} {subject:?}");
    assert_eq!(unescape(&subject).as_deref(), Ok(text));
    if let Ok(channel) = unescape(text) {
        assert_eq!(escape(&channel), text);
    }
}

fn is_pattern(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    tokens
        .iter()
        .enumerate()
        .all(|(index, token)| match *token {
            "" => false,
            "*" => true,
            ">" => index + 1 == tokens.len(),
            _ => token.chars().all(|character| {
                ('!'..='~').contains(&character) && character != '*' && character != '>'
            }),
        })
}

fn covers(wanted: &[&str], tokens: &[&str]) -> bool {
    match (wanted, tokens) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", wanted @ ..], [_, tokens @ ..]) => covers(wanted, tokens),
        ([literal, wanted @ ..], [token, tokens @ ..]) => {
            literal == token && covers(wanted, tokens)
        }
        _ => false,
    }
}
