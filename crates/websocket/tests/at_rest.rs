//! What a connection allocates: nothing for whole messages, and nothing that stays.
//!
//! A single test, so that no other thread disturbs the count.
#![expect(unsafe_code, reason = "counting allocations takes an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, encode_frame};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static FREES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        FREES.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counts() -> (usize, usize) {
    (
        ALLOCATIONS.load(Ordering::Relaxed),
        FREES.load(Ordering::Relaxed),
    )
}

#[test]
fn whole_messages_allocate_nothing_and_split_ones_leave_nothing() {
    let limits = Limits::default();
    let mut inflater = Inflater::new();
    let mut decoder = Decoder::new(Role::Server, None);
    let mut wire = Vec::new();
    for opcode in [OpCode::Text, OpCode::Binary, OpCode::Ping, OpCode::Pong] {
        encode_frame(
            &mut wire,
            opcode,
            true,
            false,
            Some([5, 6, 7, 8]),
            b"a small message",
        );
    }

    let mut bytes = wire.clone();
    let before = counts();
    let mut heard = 0;
    let mut input = bytes.as_mut_slice();
    while !input.is_empty() {
        let (used, event) = decoder.decode(&limits, &mut inflater, input).unwrap();
        heard += usize::from(event.is_some());
        input = &mut input[used..];
    }
    let after = counts();
    assert_eq!(heard, 4);
    assert_eq!(before, after, "whole messages allocated");

    // Split anywhere, the box and the message come and go; what the inflater lends stays with it.
    let mut bytes = wire.clone();
    let (first, second) = bytes.split_at_mut(10);
    let (used, event) = decoder.decode(&limits, &mut inflater, first).unwrap();
    assert_eq!((used, event), (10, None));
    let (_, event) = decoder.decode(&limits, &mut inflater, second).unwrap();
    assert_eq!(
        event,
        Some(Event::Message {
            binary: false,
            payload: b"a small message"
        })
    );
    assert_eq!(decoder.held_bytes(), 0);
    drop(inflater);
    let (allocations, frees) = counts();
    assert_eq!(
        allocations - after.0,
        3,
        "box, message and this test's copy"
    );
    assert_eq!(frees - after.1, 2, "box and message are freed");
}
