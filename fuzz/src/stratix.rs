//! Frames of Stratix clients.

use std::collections::BTreeMap;
use std::time::Duration;

use ::protocol::stratix::{
    Chunk, Chunks, Encoding, Frame, History, Inbound, Kind, Limits, Outbound, answer,
    check_client_id, check_message_id, data_bytes,
};

/// A text frame. What is read of it, written as a message, is read again alike; its ids keep
/// their rules, and its bytes are those of the text unless they are text in Base64.
pub fn text(data: &[u8]) {
    let read = Inbound::parse(data);
    assert_eq!(read, Inbound::parse(data));
    let Ok(read) = read else {
        let shown = read.map_err(|error| error.to_string());
        assert!(shown.is_err_and(|text| text.len() < 200));
        return;
    };
    let message = &read.message;
    assert!(message.message_id.is_empty() || check_message_id(&message.message_id).is_ok());
    assert_eq!(message.route, "");
    if let Some(key_id) = &read.key_id {
        assert!(check_client_id(key_id).is_ok());
    }
    if message.kind != Kind::Binary {
        let Ok(Outbound::Text(json)) = answer(message) else {
            panic!("{message:?} is not written as text");
        };
        let again = Inbound::parse(json.as_bytes()).expect("what we write we read");
        assert_eq!(&again.message, message);
        assert_eq!(again.timestamp_ms(), read.timestamp_ms());
    }
    let auto = data_bytes(&message.data, Encoding::Auto).expect("text always has bytes");
    let text = data_bytes(&message.data, Encoding::Base64)
        .ok()
        .filter(|bytes| std::str::from_utf8(bytes).is_ok());
    assert_eq!(auto, text.unwrap_or(message.data.as_bytes().into()));

    let query = Some(message.data.as_str());
    if let Some(history) = History::parse(Some("true"), query, query, 500) {
        assert!(history.limit <= 500);
    }
}

/// Binary frames of one connection, each behind a byte that moves the clock and its length in
/// two bytes. Whatever comes, what is held stays within the limits, ends in time, and makes
/// only messages that are as large as they announced.
pub fn binary(data: &[u8]) {
    let mut chunks = Chunks::default();
    let mut announced = BTreeMap::new();
    let mut now_ms = 0;
    let mut rest = data;
    while let Some(([step, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        now_ms += u64::from(*step);
        chunks.expire(now_ms);
        match Frame::read(frame) {
            Ok(Frame::Raw(raw)) => {
                assert_eq!(raw, frame);
                assert!(!matches!(raw.first(), Some(1..=3)));
            }
            Ok(Frame::Chunk(chunk)) => take(&mut chunks, &mut announced, now_ms, chunk),
            Err(error) => assert!(error.to_string().len() < 400, "{error}"),
        }
        assert!(chunks.bytes() <= LIMITS.bytes);
        let next = chunks.next_expiry_ms();
        assert_eq!(next.is_none(), chunks.is_empty());
        assert!(next.is_none_or(|at| at > now_ms && at <= now_ms + 1000));
    }
    chunks.expire(now_ms + 1000);
    assert!(chunks.is_empty() && chunks.bytes() == 0);
}

fn take(chunks: &mut Chunks, announced: &mut Announced, now_ms: u64, chunk: Chunk<'_>) {
    let start = match &chunk {
        Chunk::Start(start) => Some((start.message_id.clone(), start.size)),
        Chunk::Data { .. } | Chunk::End { .. } => None,
    };
    match chunks.handle(now_ms, chunk, &LIMITS) {
        Ok(None) => announced.extend(start),
        Ok(Some(whole)) => {
            let size = announced.remove(&whole.message_id);
            assert_eq!(size, Some(whole.data.len() as u64));
            assert!(whole.data.len() as u64 <= LIMITS.message_max);
            assert!(check_message_id(&whole.message_id).is_ok());
        }
        Err(error) => {
            if let Some(id) = &error.message_id {
                assert!(check_message_id(id).is_ok());
            }
        }
    }
}

/// Bytes that a message under way, or one that was dropped, has announced.
type Announced = BTreeMap<String, u64>;

const LIMITS: Limits = Limits {
    message_max: 300,
    assemblies: 3,
    bytes: 500,
    age: Duration::from_millis(1000),
};
