//! Repairs of a peer that may be wrong or lie.

use bytes::Bytes;
use quantum_proto::fec::{Decoder, LARGEST_SOURCE};
use quantum_proto::frame::{Frame, Frames};
use quantum_proto::packet::Numbering;

/// Steps `kind u8, length u16, bytes`: a source part some numbers further on, or a payload with
/// REPAIR frames. What the decoder keeps and gives stays within its bounds.
pub fn repairs(data: &[u8]) {
    let (mut decoder, mut newest) = (Decoder::new(), 0_u64);
    let Some((start, mut rest)) = data.split_first_chunk() else {
        return;
    };
    let numbering = Numbering::new(u32::from_be_bytes(*start));
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])) & 0x7ff;
        let (bytes, after) = after.split_at(length.min(after.len()));
        let bytes = Bytes::copy_from_slice(bytes);
        rest = after;
        if kind & 1 == 0 {
            newest += u64::from(kind >> 1);
            decoder.on_source(newest.max(1), &bytes);
        } else {
            for frame in Frames::new(bytes).flatten() {
                if let Frame::Repair(repair) = frame {
                    // Either is right: only the bounds matter.
                    let _taken = decoder.on_repair(&repair, &numbering);
                }
            }
        }
        while let Some((seq, part)) = decoder.poll_recovered() {
            assert!(seq > 0 && (1..=LARGEST_SOURCE).contains(&part.len()));
            newest = newest.max(seq);
        }
        assert!(decoder.memory() <= 128 << 10);
    }
}
