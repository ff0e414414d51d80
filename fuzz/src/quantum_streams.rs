//! Streams between an application and a peer that may say anything.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quantum_proto::Time;
use quantum_proto::frame::{Frame, Frames};
use quantum_proto::streams::{
    End, FILL_ROOM_MIN, Limits, PeerLimits, Priority, Role, StreamId, Streams,
};

const LIMITS: Limits = Limits {
    stream_window: 1_000,
    connection_window: 2_000,
    send_buffer: 500,
    max_streams: 8,
};

/// Windows grow to at most so many times their configured size.
const GROWTH: usize = 16;

/// Steps of four bytes: what happens, to which stream, and two numbers. Memory stays within the
/// limits, and whatever is sent can be read and fits.
pub fn operations(data: &[u8]) {
    let mut streams = Streams::new(Role::Server, LIMITS);
    streams.set_peer(PeerLimits {
        connection_window: 3_000,
        stream_window: 700,
        max_streams: 5,
    });
    streams.set_rtt(Duration::from_millis(3));
    let mut known: Vec<StreamId> = Vec::new();
    let (steps, _) = data.as_chunks();
    for (step, [kind, id, low, high]) in steps.iter().copied().enumerate() {
        let now = Time::after(Duration::from_millis(step as u64));
        let stream = known.get(usize::from(id) % known.len().max(1)).copied();
        let number = u64::from(low) * 4;
        let peer = match (kind % 16, stream) {
            (0 | 1, _) => {
                let body = Bytes::from(vec![kind; usize::from(high)]);
                let (fin, mark) = (kind & 0x80 != 0, kind & 0x40 != 0);
                streams.on_stream(u32::from(id), number, body, fin, mark)
            }
            (2, _) => streams.on_max_data(u32::from(id), number * 16),
            (3, _) => streams.on_reset(u32::from(id), u32::from(low)),
            (4, _) => streams.on_stop(u32::from(id), u32::from(low)),
            (5, _) => streams.on_max_streams(u32::from(id)),
            (6, _) => {
                known.extend(streams.open(Priority::Bulk));
                Ok(())
            }
            (7, _) => {
                known.extend(streams.accept());
                Ok(())
            }
            (8, Some(stream)) => {
                let end = [End::More, End::Message, End::Stream][usize::from(high) % 3];
                let body = Bytes::from(vec![kind; number as usize]);
                let len = body.len();
                let taken = streams.write(stream, body, end);
                assert!(taken.is_err() || taken.is_ok_and(|taken| taken <= len));
                Ok(())
            }
            (9 | 10, Some(stream)) => {
                // Either is right: only the bounds matter.
                let _read = streams.read(now, stream);
                Ok(())
            }
            (11, Some(stream)) => {
                streams.reset(stream, u32::from(low));
                Ok(())
            }
            (12, Some(stream)) => {
                streams.stop(stream, u32::from(low));
                Ok(())
            }
            (13, Some(stream)) => {
                streams.set_priority(stream, Priority::Control);
                Ok(())
            }
            (14, _) => {
                let _event = streams.poll();
                Ok(())
            }
            _ => {
                fill(&mut streams, FILL_ROOM_MIN + usize::from(low) * 4);
                Ok(())
            }
        };
        if let Err(violation) = peer {
            assert!(violation.to_string().len() < 100);
            return;
        }
        let sending = streams.len() * LIMITS.send_buffer as usize;
        let receiving = GROWTH * LIMITS.connection_window as usize;
        assert!(streams.buffered() <= sending + receiving);
    }
}

fn fill(streams: &mut Streams, room: usize) {
    let had = streams.has_data();
    let mut out = BytesMut::new();
    let filled = streams.fill(&mut out, room);
    assert_eq!(filled.bytes, out.len());
    assert!(out.len() <= room);
    assert_eq!(had, !out.is_empty());
    for frame in Frames::of_source_part(out.freeze()) {
        let frame = frame.expect("what we write can be read");
        assert!(matches!(
            frame,
            Frame::Stream { .. }
                | Frame::MaxData { .. }
                | Frame::MaxStreams(_)
                | Frame::Reset { .. }
                | Frame::Stop { .. }
        ));
    }
}
