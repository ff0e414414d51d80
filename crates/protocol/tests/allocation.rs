//! What a frame can make the decoder allocate.
#![expect(unsafe_code, reason = "an allocator that counts wraps the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use protocol::codec::{Encoding, commands};

/// Live and most bytes of this thread.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all calls are passed on to the system's allocator unchanged; counting does not
// allocate, for the cells are constant-initialised and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size());
        MOST.set(MOST.get().max(LIVE.get()));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        // SAFETY: the pointer came from `alloc` above, hence from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAME_BYTES: usize = 65_536;

/// The worst a frame can do is to name server-side channels, each of which becomes a
/// structure of its own.
#[test]
fn frames_allocate_in_proportion_to_their_size() {
    for (encoding, frame, times) in [
        (Encoding::Json, json_subs(), 64),
        (Encoding::Protobuf, protobuf_subs(), 64),
        (Encoding::Json, json_payload(), 3),
        (Encoding::Protobuf, vec![0; FRAME_BYTES], 1),
        (Encoding::Json, vec![b'['; FRAME_BYTES], 1),
        (Encoding::Json, b"{}\n".repeat(FRAME_BYTES / 3), 1),
    ] {
        assert!(frame.len() <= FRAME_BYTES);
        let before = LIVE.get();
        MOST.set(before);
        let count = commands(encoding, &frame).count();
        let most = MOST.get() - before;
        assert!(count > 0);
        assert!(
            most <= times * frame.len(),
            "{encoding:?}: {most} bytes for {}",
            frame.len()
        );
        assert_eq!(LIVE.get(), before);
    }
}

fn json_subs() -> Vec<u8> {
    let mut frame = String::from("{\"connect\":{\"subs\":{");
    for number in 0..6_000 {
        frame.push_str(&format!("\"{number:x}\":{{}},"));
    }
    frame.push_str("\"\":{}}}}");
    frame.into_bytes()
}

fn protobuf_subs() -> Vec<u8> {
    let mut request = Vec::new();
    for number in 0..8_000_u16 {
        let [high, low] = [(number >> 7) as u8, (number & 0x7f) as u8];
        request.extend_from_slice(&[0x1a, 4, 0x0a, 2, high, low]);
    }
    let mut command = vec![0x22];
    write_varint(request.len(), &mut command);
    command.extend_from_slice(&request);
    let mut frame = Vec::new();
    write_varint(command.len(), &mut frame);
    frame.extend_from_slice(&command);
    frame
}

fn json_payload() -> Vec<u8> {
    format!("{{\"rpc\":{{\"data\":\"{}\"}}}}", "x".repeat(65_000)).into_bytes()
}

fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
