use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;

use super::{
    DecodeError, EncodeError, Encoding, Messages, commands, decode_emulation, encode,
    encode_push_publication, encode_reply, join, replies,
};
use crate::message::{
    ClientInfo, Command, EmulationRequest, Publication, PublishRequest, Push, Reply, Structure,
};

/// Every file of `fixtures/`: frames in JSON and the same in Protobuf, the latter
/// written by another implementation from the protocol's own definition.
#[test]
fn fixtures_are_read_and_written_byte_for_byte() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut files = 0;
    for (kind, check) in [
        ("commands", check_fixture::<Command> as fn(&str, &str)),
        ("replies", check_fixture::<Reply>),
    ] {
        for entry in std::fs::read_dir(fixtures.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            check(&path.display().to_string(), &text);
            files += 1;
        }
    }
    assert!(files >= 36, "only {files} fixtures were found");
}

fn check_fixture<M>(name: &str, text: &str)
where
    M: prost::Message + Default + PartialEq + std::fmt::Debug + Serialize + Structure,
{
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut parts = body.split(|line| *line == "---");
    let json = parts.next().unwrap().join("\n");
    let protobuf = unhex(&parts.next().unwrap().concat());
    let messages = decode_all::<M>(Encoding::Json, json.as_bytes());
    assert_eq!(
        decode_all::<M>(Encoding::Protobuf, &protobuf),
        messages,
        "{name}"
    );
    assert_eq!(
        String::from_utf8(encode_all(Encoding::Json, &messages)).unwrap(),
        json,
        "{name}"
    );
    assert_eq!(
        encode_all(Encoding::Protobuf, &messages),
        protobuf,
        "{name}"
    );
}

fn decode_all<M: prost::Message + Default + Structure>(encoding: Encoding, frame: &[u8]) -> Vec<M> {
    Messages::new(encoding, frame)
        .collect::<Result<_, _>>()
        .unwrap()
}

fn encode_all<M: prost::Message + Serialize>(encoding: Encoding, messages: &[M]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            join(encoding, &mut out);
        }
        encode(encoding, message, &mut out).unwrap();
    }
    out
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn newlines_separate_commands_and_one_may_end_the_frame() {
    let ids = |frame: &str| -> Result<Vec<u32>, DecodeError> {
        commands(Encoding::Json, frame.as_bytes())
            .map(|command| Ok(command?.id))
            .collect()
    };
    assert_eq!(ids("{\"id\":1}"), Ok(vec![1]));
    assert_eq!(ids("{\"id\":1}\n"), Ok(vec![1]));
    assert_eq!(ids("{\"id\":1}\n{\"id\":2}\r\n"), Ok(vec![1, 2]));
    assert_eq!(ids(" {\"id\":1} \n{}"), Ok(vec![1, 0]));
    assert_eq!(ids(""), Err(DecodeError::EmptyFrame));
    for blank in ["\n", " ", "{}\n\n", "{}\n\n{}", "\n{}", "{}\n \n{}"] {
        assert_eq!(ids(blank), Err(DecodeError::BlankLine), "{blank:?}");
    }
    assert!(ids("{}{}").is_err());
    assert!(ids("{\"id\":\n1}").is_err());
}

#[test]
fn the_rest_is_a_frame_of_its_own() {
    let json = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";
    let mut protobuf = Vec::new();
    for id in 1..=3 {
        let command = Command {
            id,
            ..Command::default()
        };
        protobuf.extend_from_slice(&command.encode_length_delimited_to_vec());
    }
    for (encoding, frame) in [(Encoding::Json, &json[..]), (Encoding::Protobuf, &protobuf)] {
        let mut first = commands(encoding, frame);
        assert_eq!(first.next().unwrap().unwrap().id, 1);
        let mut second = commands(encoding, first.rest());
        assert_eq!(second.next().unwrap().unwrap().id, 2);
        assert_eq!(second.next().unwrap().unwrap().id, 3);
        assert!(second.rest().is_empty());
        assert!(second.next().is_none());
    }
}

#[test]
fn what_waited_is_joined_to_what_came() {
    for (first, second) in [("{}", "{}"), ("{}\n", "{}\n")] {
        let mut backlog = first.as_bytes().to_vec();
        join(Encoding::Json, &mut backlog);
        backlog.extend_from_slice(second.as_bytes());
        assert_eq!(decode_all::<Command>(Encoding::Json, &backlog).len(), 2);
    }
}

#[test]
fn nothing_follows_an_error() {
    for (encoding, frame) in [
        (Encoding::Json, &b"{}\n!\n{}"[..]),
        (Encoding::Protobuf, &[0, 1, 0xff, 0]),
    ] {
        let mut messages = commands(encoding, frame);
        assert!(messages.next().unwrap().is_ok());
        assert!(messages.next().unwrap().is_err());
        assert!(messages.rest().is_empty());
        assert!(messages.next().is_none());
    }
}

#[test]
fn json_that_is_none_is_told_from_json_of_another_shape() {
    let error = |line: &str| {
        commands(Encoding::Json, line.as_bytes())
            .next()
            .unwrap()
            .unwrap_err()
    };
    for line in [
        "{",
        "{]",
        "{\"id\":01}",
        "{\"rpc\":{\"data\":tru}}",
        "nul",
        "{\"x\":\"\t\"}",
    ] {
        assert!(matches!(error(line), DecodeError::NotJson { .. }), "{line}");
    }
    for line in [
        "[]",
        "1",
        "\"secret\"",
        "{\"id\":-1}",
        "{\"id\":4294967296}",
        "{\"id\":\"1\"}",
        "{\"id\":1,\"id\":2}",
        "{\"connect\":[]}",
        "{\"connect\":{\"subs\":{\"a\":[]}}}",
        "{\"history\":{\"since\":[1]}}",
        "{\"connect\":{\"token\":1}}",
    ] {
        let error = error(line);
        assert!(matches!(error, DecodeError::WrongType { .. }), "{line}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    let not_text = b"{\"rpc\":{\"data\":\"\xff\"}}";
    assert_eq!(
        commands(Encoding::Json, not_text).next(),
        Some(Err(DecodeError::NotJson { at: 17 })),
    );
    let not_text_in_unknown = b"{\"x\":\"\xff\"}";
    assert!(
        commands(Encoding::Json, not_text_in_unknown)
            .next()
            .unwrap()
            .is_err()
    );
}

#[test]
fn unknown_fields_and_nulls_are_skipped() {
    let line =
        br#"{"id":null,"x":[{"y":1}],"connect":{"token":null,"subs":null,"flag":7,"dict":{}}}"#;
    let command = commands(Encoding::Json, line).next().unwrap().unwrap();
    assert_eq!(
        command,
        Command {
            connect: Some(Box::default()),
            ..Command::default()
        }
    );
    // Field 3 of a command (reserved), as a varint and as bytes; then the id.
    let frame = [8, 0x18, 5, 0x1a, 2, b'h', b'i', 8, 9];
    assert_eq!(
        commands(Encoding::Protobuf, &frame)
            .next()
            .unwrap()
            .unwrap()
            .id,
        9
    );
}

#[test]
fn raw_values_keep_their_text() {
    let line = br#"{"publish":{"channel":"a","data": {"n" : 1.50e0, "n":"\u00e9"} }}"#;
    let command = commands(Encoding::Json, line).next().unwrap().unwrap();
    assert_eq!(
        command.publish,
        Some(PublishRequest {
            channel: "a".to_owned(),
            data: Bytes::from_static(br#"{"n" : 1.50e0, "n":"\u00e9"}"#),
        }),
    );
}

#[test]
fn deep_nesting_is_skipped_without_recursion_and_refused_where_typed() {
    let depth = 30_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let kept = format!("{{\"rpc\":{{\"data\":{deep}}},\"unknown\":{deep}}}");
    let command = commands(Encoding::Json, kept.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(command.rpc.unwrap().data.len(), 2 * depth);
    let open = format!("{{\"rpc\":{{\"data\":{}", "[".repeat(depth));
    assert!(
        commands(Encoding::Json, open.as_bytes())
            .next()
            .unwrap()
            .is_err()
    );
    // Groups, which the protocol does not have, nest in Protobuf.
    let mut groups = vec![0xe0, 0x5d];
    groups.extend(std::iter::repeat_n(0x9b, 12_000));
    assert!(
        commands(Encoding::Protobuf, &groups)
            .next()
            .unwrap()
            .is_err()
    );
}

#[test]
fn lengths_beyond_the_frame_are_refused_before_anything_is_allocated() {
    for frame in [
        &[5, 8][..],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[0xff; 11],
        &[0x80],
    ] {
        assert_eq!(
            commands(Encoding::Protobuf, frame).next(),
            Some(Err(DecodeError::Truncated))
        );
    }
    // A command whose publish request claims 2^31 bytes.
    let frame = [6, 0x3a, 0xff, 0xff, 0xff, 0xff, 0x07];
    assert!(matches!(
        commands(Encoding::Protobuf, &frame).next(),
        Some(Err(DecodeError::NotProtobuf(_)))
    ));
    assert_eq!(
        commands(Encoding::Protobuf, &[]).next(),
        Some(Err(DecodeError::EmptyFrame))
    );
}

#[test]
fn a_ping_is_an_empty_reply() {
    let mut out = Vec::new();
    encode_reply(Encoding::Json, &Reply::default(), &mut out).unwrap();
    assert_eq!(out, b"{}");
    out.clear();
    encode_reply(Encoding::Protobuf, &Reply::default(), &mut out).unwrap();
    assert_eq!(out, [0]);
}

#[test]
fn line_ends_between_tokens_are_removed() {
    let mut out = b"kept\n".to_vec();
    let data = Bytes::from_static(b"{\r\n \"a\\n\":\n[1,\n2]}\n");
    let publication = Publication {
        data,
        ..Publication::default()
    };
    encode_push_publication(Encoding::Json, "a", &publication, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "kept\n{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{ \"a\\n\":[1,2]}}}}",
    );
}

#[test]
fn payloads_that_are_not_json_are_refused_in_json_only() {
    for data in [&b"\xff"[..], b"hello", b"{} {}", b"\"\xff\"", b"[", b" "] {
        let publication = Publication {
            data: Bytes::copy_from_slice(data),
            ..Publication::default()
        };
        let mut out = b"before".to_vec();
        let refused = encode_push_publication(Encoding::Json, "a", &publication, &mut out);
        assert_eq!(refused, Err(EncodeError::NotJson), "{data:?}");
        assert_eq!(out, b"before");
        encode_push_publication(Encoding::Protobuf, "a", &publication, &mut out).unwrap();
        let reply = replies(Encoding::Protobuf, &out[6..])
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(reply.push.unwrap().publication.unwrap().data, data);
    }
}

#[test]
fn the_fast_path_writes_what_the_slow_one_does() {
    let info = ClientInfo {
        user: "u\"7".to_owned(),
        client: "c".to_owned(),
        conn_info: Bytes::from_static(b"[1,\n2]"),
        chan_info: Bytes::new(),
    };
    for size in [0, 1, 100, 127, 128, 300, 16_383, 16_384, 70_000] {
        for channel in ["", "a", "b\n\u{e9}", &"long".repeat(60)] {
            let data = match size {
                0 => Bytes::new(),
                _ => Bytes::from(format!("\"{}\"", "x".repeat(size))),
            };
            let publication = Publication {
                data,
                info: (size % 2 == 0).then(|| info.clone()),
                offset: size as u64,
                tags: [("k".to_owned(), channel.to_owned())].into(),
                ..Publication::default()
            };
            let reply = Reply {
                push: Some(Box::new(Push {
                    channel: channel.to_owned(),
                    publication: Some(Box::new(publication.clone())),
                    ..Push::default()
                })),
                ..Reply::default()
            };
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let (mut fast, mut slow) = (vec![7], vec![7]);
                encode_push_publication(encoding, channel, &publication, &mut fast).unwrap();
                encode_reply(encoding, &reply, &mut slow).unwrap();
                assert_eq!(fast, slow, "{encoding:?} {size} {channel:?}");
            }
        }
    }
}

#[test]
fn emulation_bodies_carry_a_frame() {
    let json = br#"{"session":"5d0c","node":"a91e","data":"{\"id\":5}\n{}"}"#;
    let request = decode_emulation(Encoding::Json, json).unwrap();
    assert_eq!(
        (request.session.as_str(), request.node.as_str()),
        ("5d0c", "a91e")
    );
    assert_eq!(commands(Encoding::Json, &request.data).count(), 2);
    assert!(!format!("{request:?}").contains("5d0c"));

    let sent = EmulationRequest {
        data: Bytes::from_static(&[2, 8, 5, 0]),
        ..request
    };
    let request = decode_emulation(Encoding::Protobuf, &sent.encode_to_vec()).unwrap();
    assert_eq!(request, sent);
    assert_eq!(commands(Encoding::Protobuf, &request.data).count(), 2);

    for wrong in [&b""[..], b"{", b"[]", br#"{"data":{}}"#] {
        assert!(decode_emulation(Encoding::Json, wrong).is_err());
    }
    assert!(decode_emulation(Encoding::Protobuf, &[0x0a, 9]).is_err());
}

#[test]
fn pong_is_told_from_other_frames() {
    use super::is_pong;

    assert!(is_pong(Encoding::Json, b"{}") && is_pong(Encoding::Json, b"{}\n"));
    assert!(is_pong(Encoding::Protobuf, &[0]));
    for other in [&b""[..], b"{}\n{}", b"{\"id\":1}", &[0]] {
        assert!(!is_pong(Encoding::Json, other));
    }
    for other in [&b""[..], b"{}", &[0, 0], &[2, 8, 1]] {
        assert!(!is_pong(Encoding::Protobuf, other));
    }
}
