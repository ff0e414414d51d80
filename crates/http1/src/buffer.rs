//! Read buffers, kept per thread.
//!
//! A connection that waits holds none: it takes one when there is something to read and
//! gives it back when all of it has gone on.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes that a fresh buffer has room for.
pub const BUFFER_SIZE: usize = 32 * 1_024;

/// A buffer with less room than that is renewed when it is taken: a message is small, and
/// many of them fit in one behind the other while the ones before are still in use.
const ROOM_MIN: usize = 8 * 1_024;

/// Buffers that rest in each thread.
const RESTING_MAX: usize = 64;

thread_local! {
    static RESTING: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub fn take_buffer() -> BytesMut {
    let rested = RESTING.with(|resting| resting.borrow_mut().pop());
    let mut buffer = rested.unwrap_or_default();
    if buffer.capacity() < ROOM_MIN {
        // Where parts of it are still on their way out, this allocates anew.
        buffer.reserve(BUFFER_SIZE);
    }
    buffer
}

/// Gives a buffer back, whatever is left in it.
pub fn give_back(mut buffer: BytesMut) {
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    RESTING.with(|resting| {
        let mut resting = resting.borrow_mut();
        if resting.len() < RESTING_MAX {
            resting.push(buffer);
        }
    });
}
