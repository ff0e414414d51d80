//! Tests of streams: two sides, and between them whatever a case wants.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::chance::Random;
use crate::codes::close;
use crate::frame::{Frame, Frames, STREAM_HEAD};

mod carrier;
mod life;
mod limits;
mod model;
mod order;
mod violations;

const ROOM: usize = 1_150;

const LIMITS: Limits = Limits {
    stream_window: 64 << 10,
    connection_window: 256 << 10,
    send_buffer: 64 << 10,
    max_streams: 16,
};

fn grants(limits: Limits) -> PeerLimits {
    PeerLimits {
        connection_window: u64::from(limits.connection_window),
        stream_window: u64::from(limits.stream_window),
        max_streams: limits.max_streams,
    }
}

/// A client and a server that grant each other `limits`.
fn pair(limits: Limits) -> (Streams, Streams) {
    let mut client = Streams::new(Role::Client, limits);
    let mut server = Streams::new(Role::Server, limits);
    client.set_peer(grants(limits));
    server.set_peer(grants(limits));
    (client, server)
}

/// The next source part, if there is anything to say.
fn part(from: &mut Streams, room: usize) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let filled = from.fill(&mut out, room);
    assert_eq!(filled.bytes, out.len());
    assert!(out.len() <= room, "{} bytes in {room}", out.len());
    (!out.is_empty()).then(|| out.freeze())
}

fn frames(part: &Bytes) -> Vec<Frame> {
    Frames::of_source_part(part.clone())
        .map(|frame| frame.expect("readable"))
        .collect()
}

fn deliver(part: &Bytes, to: &mut Streams) -> Result<(), Violation> {
    for frame in frames(part) {
        match frame {
            Frame::Stream {
                id,
                offset,
                fin,
                message_end,
                data,
            } => to.on_stream(id, offset, data, fin, message_end)?,
            Frame::MaxData { id, limit } => to.on_max_data(id, limit)?,
            Frame::Reset { id, code } => to.on_reset(id, code)?,
            Frame::Stop { id, code } => to.on_stop(id, code)?,
            Frame::MaxStreams(count) => to.on_max_streams(count)?,
            other => panic!("no source frame: {other:?}"),
        }
    }
    Ok(())
}

/// Carries everything over in order until both are silent.
fn settle(a: &mut Streams, b: &mut Streams) {
    loop {
        let mut quiet = true;
        while let Some(part) = part(a, ROOM) {
            deliver(&part, b).expect("no violation");
            quiet = false;
        }
        while let Some(part) = part(b, ROOM) {
            deliver(&part, a).expect("no violation");
            quiet = false;
        }
        if quiet {
            assert!(!a.has_data() && !b.has_data());
            return;
        }
    }
}

fn events(streams: &mut Streams) -> Vec<StreamEvent> {
    std::iter::from_fn(|| streams.poll()).collect()
}

fn read(streams: &mut Streams, id: StreamId) -> Result<Option<Chunk>, ReadError> {
    streams.read(Time::ZERO, id)
}

/// Reads until there is nothing now; bytes, and where messages end.
fn read_all(streams: &mut Streams, id: StreamId) -> (Vec<u8>, Vec<usize>, bool) {
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    while let Some(chunk) = read(streams, id).expect("readable") {
        bytes.extend_from_slice(&chunk.data);
        match chunk.end {
            End::More => {}
            End::Message => marks.push(bytes.len()),
            End::Stream => return (bytes, marks, true),
        }
    }
    (bytes, marks, false)
}

/// The byte that stands at `at` of stream `id` in all tests.
fn byte(id: u32, at: u64) -> u8 {
    (u64::from(id) * 31 + at * 7 + (at >> 8)) as u8
}

fn bytes(id: u32, at: u64, len: usize) -> Bytes {
    (at..at + len as u64).map(|at| byte(id, at)).collect()
}
