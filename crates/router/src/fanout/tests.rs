use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Epoch, Kind, Message, Position, Publication};
use protocol::channel::Channel;
use protocol::codec::Encoding;
use protocol::message::ClientInfo;
use protocol::settings::SlowClientPolicy;
use protocol::subject::Pattern;
use websocket::Deflater;

use super::{Entry, Fanout, Receiver};
use crate::frame::{Flavor, Frame, Framing, WrapError};

#[test]
fn subscribers_of_one_flavor_share_one_frame() {
    let mut room = Room::default();
    for slot in 0..6 {
        let flavor = [JSON, PROTOBUF, WEBSOCKET][slot as usize % 3];
        room.enter("news", slot, Entry { flavor, ..entry() });
    }
    let heard = room.deliver(&publication("news", "{}", None));
    assert_eq!(heard.frames.len(), 6);
    for (one, (_, first)) in &heard.frames {
        for (other, (_, second)) in &heard.frames {
            assert_eq!(Arc::ptr_eq(first, second), one % 3 == other % 3);
        }
    }
    let (_, json) = &heard.frames[&0];
    assert_eq!(
        text(json),
        "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{}}}}\n"
    );
    assert_eq!(json.channel, "news");
    let (_, websocket) = &heard.frames[&2];
    assert_eq!(websocket.bytes[..2], [0x81, json.bytes.len() as u8 - 1]);
}

#[test]
fn deflated_and_plain_subscribers_get_frames_of_their_own() {
    let deflated = Flavor {
        dialect: protocol::dialect::Dialect::Centrifuge,
        framing: Framing::WebSocket {
            deflate_bits: Some(15),
        },
        ..WEBSOCKET
    };
    let mut room = Room::default();
    room.enter(
        "news",
        0,
        Entry {
            flavor: WEBSOCKET,
            ..entry()
        },
    );
    room.enter(
        "news",
        1,
        Entry {
            flavor: deflated,
            ..entry()
        },
    );
    let long = format!("\"{}\"", "x".repeat(500));
    let heard = room.deliver(&publication("news", &long, None));
    let (plain, short) = (&heard.frames[&0].1, &heard.frames[&1].1);
    assert!(short.bytes.len() < plain.bytes.len() / 4);
    // RSV1 marks what is compressed; what is short is not worth it.
    assert_eq!((plain.bytes[0], short.bytes[0]), (0x81, 0xc1));
    let heard = room.deliver(&publication("news", "1", None));
    assert_eq!(heard.frames[&1].1.bytes[0], 0x81);
}

#[test]
fn positioned_subscriber_gets_each_offset_once_and_in_order() {
    let mut room = Room::default();
    room.enter(
        "news",
        0,
        Entry {
            position: Some(at(2)),
            ..entry()
        },
    );
    room.enter("news", 1, entry());
    let mut heard = Vec::new();
    for offset in [1, 2, 3, 3, 4] {
        let result = room.deliver(&publication("news", "0", Some(at(offset))));
        assert!(result.gaps.is_empty());
        assert!(
            result.frames.contains_key(&1),
            "who has no position gets all"
        );
        if result.frames.contains_key(&0) {
            heard.push(offset);
        }
    }
    assert_eq!(heard, [3, 4]);
}

#[test]
fn gap_and_new_epoch_are_reported_and_nothing_is_sent() {
    let other = Position {
        offset: 3,
        epoch: Epoch::from_random(9),
    };
    for position in [at(4), other, Position { offset: 1, ..other }] {
        let mut room = Room::default();
        room.enter(
            "news",
            0,
            Entry {
                position: Some(at(2)),
                ..entry()
            },
        );
        // Every publication says so again, until the owner has acted.
        for _ in 0..2 {
            let heard = room.deliver(&publication("news", "0", Some(position)));
            assert_eq!(heard.gaps, [(0, "news".to_owned())]);
            assert!(heard.frames.is_empty());
        }
    }
}

#[test]
fn epoch_is_told_with_the_first_offset_only() {
    let mut room = Room::default();
    room.enter(
        "news",
        0,
        Entry {
            position: Some(at(0)),
            ..entry()
        },
    );
    let first = room.deliver(&publication("news", "0", Some(at(1))));
    let epoch = at(0).epoch;
    let wanted = format!(
        "{{\"push\":{{\"channel\":\"news\",\"pub\":{{\"data\":0,\"offset\":1,\"epoch\":\"{epoch}\"}}}}}}\n"
    );
    assert_eq!(text(&first.frames[&0].1), wanted);
    let second = room.deliver(&publication("news", "0", Some(at(2))));
    assert!(!text(&second.frames[&0].1).contains("epoch"));
}

#[test]
fn joins_and_leaves_reach_those_who_asked() {
    let mut room = Room::default();
    room.enter(
        "news",
        0,
        Entry {
            join_leave: true,
            position: Some(at(5)),
            ..entry()
        },
    );
    room.enter("news", 1, entry());
    room.enter_pattern(
        "ne.*",
        2,
        Entry {
            join_leave: true,
            ..entry()
        },
    );
    for (kind, name) in [(Kind::Join(info()), "join"), (Kind::Leave(info()), "leave")] {
        let heard = room.deliver(&Message {
            channel: Channel::new("news"),
            kind,
        });
        assert_eq!(heard.frames.keys().copied().collect::<Vec<_>>(), [0]);
        let wanted = format!(
            "{{\"push\":{{\"channel\":\"news\",\"{name}\":{{\"info\":{{\"user\":\"u\",\"client\":\"c\"}}}}}}}}\n"
        );
        assert_eq!(text(&heard.frames[&0].1), wanted);
    }
}

#[test]
fn subscriber_of_a_pattern_learns_the_channel() {
    let mut room = Room::default();
    room.enter("a.b", 0, entry());
    room.enter_pattern("a.*", 0, entry());
    room.enter_pattern("a.>", 1, entry());
    room.enter_pattern("b.>", 2, entry());
    let mut message = publication("a.b", "0", Some(at(7)));
    if let Kind::Publication(publication) = &mut message.kind {
        publication.info = Some(info());
    }
    let heard = room.deliver(&message);
    assert_eq!(heard.count, 3);
    assert_eq!(
        text(&heard.frames[&1].1),
        "{\"push\":{\"channel\":\"a.>\",\"pub\":{\"data\":0,\"info\":{\"user\":\"u\",\"client\":\"c\"},\
         \"offset\":7,\"channel\":\"a.b\"}}}\n"
    );
    assert_eq!(room.deliver(&publication("a", "0", None)).count, 0);
}

#[test]
fn pattern_stops_at_other_namespaces_and_at_channels_for_listed_users() {
    let mut room = Room::default();
    room.enter_pattern("a.>", 0, entry());
    room.enter_pattern("n:a.>", 1, entry());
    for (channel, count) in [
        ("a.b", 1),
        ("a.b:c", 0),
        ("a.b#42", 0),
        ("n:a.b", 1),
        ("n:a.b:c", 1),
        ("n:a.b#42", 0),
    ] {
        let heard = room.deliver(&publication(channel, "0", None));
        assert_eq!(heard.count, count, "{channel}");
    }
}

#[test]
fn payload_that_is_not_json_is_a_misfit_for_json_only() {
    let mut room = Room::default();
    room.enter("news", 0, entry());
    room.enter(
        "news",
        1,
        Entry {
            flavor: PROTOBUF,
            ..entry()
        },
    );
    room.enter_pattern("new.s", 2, entry());
    let heard = room.deliver(&publication("news", "not json", None));
    assert_eq!(heard.misfits, [0]);
    assert_eq!(heard.frames.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(WrapError.disconnect().code, 3506);
}

#[test]
fn first_and_last_of_a_channel_are_told() {
    let mut fanout = Fanout::default();
    let news = Channel::new("news");
    assert!(fanout.enter(&news, 0, entry()));
    assert!(!fanout.enter(&news, 1, entry()));
    assert!(!fanout.enter(
        &news,
        1,
        Entry {
            position: Some(at(1)),
            ..entry()
        }
    ));
    assert_eq!(
        fanout.counts().map(|(_, count)| count).collect::<Vec<_>>(),
        [2]
    );
    assert!(!fanout.leave(&news, 0));
    assert!(!fanout.leave(&news, 9));
    assert!(fanout.leave(&news, 1));
    assert!(!fanout.leave(&news, 1));

    let pattern = Pattern::new("news.>").unwrap();
    let name = Channel::new("news.>");
    assert!(fanout.enter_pattern(&name, &pattern, 0, entry()));
    assert!(!fanout.enter_pattern(&name, &pattern, 1, entry()));
    assert_eq!(fanout.leave_pattern(&name, 1), None);
    assert_eq!(fanout.leave_pattern(&name, 0), Some(pattern));
    assert_eq!(fanout.leave_pattern(&name, 0), None);
}

#[test]
fn crowd_that_leaves_gives_its_memory_back() {
    let mut fanout = Fanout::default();
    let news = Channel::new("news");
    for slot in 0..10_000 {
        fanout.enter(&news, slot, entry());
        fanout.enter(&Channel::from(format!("own-{slot}")), slot, entry());
    }
    for slot in 1..10_000 {
        fanout.leave(&news, slot);
        fanout.leave(&Channel::from(format!("own-{slot}")), slot);
    }
    let table = &fanout.channels["news"];
    assert_eq!(table.len(), 1);
    assert!(table.capacity() <= 64, "{}", table.capacity());
    assert_eq!(fanout.channels.len(), 2);
    assert!(
        fanout.channels.capacity() <= 64,
        "{}",
        fanout.channels.capacity()
    );
}

#[test]
fn sessions_share_the_channel_s_name() {
    let mut fanout = Fanout::default();
    assert_eq!(fanout.shared_name(&Channel::new("news")), None);
    let first = Channel::new("news");
    fanout.enter(&first, 0, entry());
    let shared = fanout.shared_name(&Channel::new("news")).unwrap();
    assert!(std::ptr::eq(shared.as_str(), first.as_str()));
}

/// A fan-out and what its subscribers hear.
#[derive(Default)]
struct Room {
    fanout: Fanout,
}

#[derive(Default)]
struct Heard {
    /// By slot; the policy comes along.
    frames: BTreeMap<u32, (SlowClientPolicy, Arc<Frame>)>,
    count: usize,
    gaps: Vec<(u32, String)>,
    misfits: Vec<u32>,
}

impl Room {
    fn enter(&mut self, channel: &str, slot: u32, entry: Entry) {
        self.fanout.enter(&Channel::new(channel), slot, entry);
    }

    fn enter_pattern(&mut self, text: &str, slot: u32, entry: Entry) {
        let pattern = Pattern::new(text).unwrap();
        self.fanout
            .enter_pattern(&Channel::new(text), &pattern, slot, entry);
    }

    fn deliver(&mut self, message: &Message) -> Heard {
        let mut heard = Heard::default();
        let mut deflate = (Deflater::new(6), 64);
        let delivered = self.fanout.deliver(message, &mut deflate, &mut heard);
        assert_eq!(delivered.frames, heard.count);
        heard
    }
}

impl Receiver for Heard {
    fn frame(&mut self, slot: u32, frame: &Arc<Frame>, policy: SlowClientPolicy, _: bool) {
        self.count += 1;
        self.frames.insert(slot, (policy, Arc::clone(frame)));
    }

    fn gap(&mut self, slot: u32, channel: &Channel) {
        self.gaps.push((slot, channel.to_string()));
    }

    fn misfit(&mut self, slot: u32, _: WrapError) {
        self.misfits.push(slot);
    }
}

fn entry() -> Entry {
    Entry {
        flavor: JSON,
        slow_client: SlowClientPolicy::Disconnect,
        join_leave: false,
        position: None,
        waits: false,
    }
}

fn at(offset: u64) -> Position {
    Position {
        offset,
        epoch: Epoch::from_random(1),
    }
}

fn info() -> Arc<ClientInfo> {
    Arc::new(ClientInfo {
        user: "u".to_owned(),
        client: "c".to_owned(),
        ..Default::default()
    })
}

fn publication(channel: &str, data: &str, position: Option<Position>) -> Message {
    Message {
        channel: Channel::new(channel),
        kind: Kind::Publication(Publication {
            data: data.as_bytes().to_vec().into(),
            info: None,
            tags: None,
            position,
            time_ms: 0,
        }),
    }
}

fn text(frame: &Frame) -> &str {
    std::str::from_utf8(&frame.bytes).unwrap()
}

const JSON: Flavor = Flavor {
    dialect: protocol::dialect::Dialect::Centrifuge,
    encoding: Encoding::Json,
    framing: Framing::Stream,
};
const PROTOBUF: Flavor = Flavor {
    dialect: protocol::dialect::Dialect::Centrifuge,
    encoding: Encoding::Protobuf,
    framing: Framing::Stream,
};
const WEBSOCKET: Flavor = Flavor {
    dialect: protocol::dialect::Dialect::Centrifuge,
    encoding: Encoding::Json,
    framing: Framing::WebSocket { deflate_bits: None },
};
