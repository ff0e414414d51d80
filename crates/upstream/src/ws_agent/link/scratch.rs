//! What connections need only for a moment, once per thread.

use std::cell::RefCell;

use websocket::Inflater;

/// Room to read into.
pub(super) struct Scratch {
    pub(super) input: Box<[u8]>,
    pub(super) inflater: Inflater,
}

struct Masks {
    bytes: [u8; 1024],
    used: usize,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; INPUT_LEN].into_boxed_slice(),
        inflater: Inflater::new(),
    });
    static MASKS: RefCell<Masks> = const {
        RefCell::new(Masks { bytes: [0; 1024], used: 1024 })
    };
}

/// Lends this thread's room. The work must not ask for it again.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(work)
}

/// The mask key of one frame, from the system's random numbers, drawn many at a time.
pub(super) fn mask() -> Result<[u8; 4], getrandom::Error> {
    MASKS.with_borrow_mut(|masks| {
        if masks.used + 4 > masks.bytes.len() {
            getrandom::fill(&mut masks.bytes)?;
            masks.used = 0;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&masks.bytes[masks.used..masks.used + 4]);
        masks.used += 4;
        Ok(key)
    })
}

/// Bytes read at once.
const INPUT_LEN: usize = 32 * 1024;
