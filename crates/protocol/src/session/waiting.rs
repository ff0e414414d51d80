//! What is in progress: the step that waits for an answer, and what came since.

use std::collections::VecDeque;

use super::operations::{Operation, ServerSubscribing};
use super::{connect, subscribe};

/// Kept from a request to its answer, and for no resting session.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) step: Step,
    pub(super) backlog: Backlog,
    pub(super) operations: VecDeque<Operation>,
}

/// What to do with the answer.
#[derive(Debug)]
pub(super) enum Step {
    Connect(Box<connect::Connecting>),
    Subscribe(subscribe::Subscribing),
    ServerSubscribe(ServerSubscribing),
    Publish { id: u32 },
    Call { id: u32 },
    History { id: u32 },
    Presence { id: u32 },
    PresenceStats { id: u32 },
    Refresh { id: u32 },
    SubRefresh { id: u32, channel: Box<str> },
}

/// Frames not carried out yet, in order. They stay apart, because a frame that is
/// malformed must not be completed by the next.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    frames: VecDeque<Box<[u8]>>,
    /// How many bytes of the first have been carried out.
    done: usize,
    /// What all of them take.
    cost: usize,
}

impl Waiting {
    pub(super) fn new(step: Step) -> Self {
        Self {
            step,
            backlog: Backlog::default(),
            operations: VecDeque::new(),
        }
    }
}

impl Backlog {
    /// Whether a frame of so many bytes may be kept beside those that are; each costs
    /// its place as well, so that empty ones are bounded too.
    pub(super) fn has_room(&self, bytes: usize, max: usize) -> bool {
        self.cost + cost(bytes) <= max
    }

    /// Keeps a frame behind the others.
    pub(super) fn keep(&mut self, frame: &[u8]) {
        self.cost += cost(frame.len());
        self.frames.push_back(frame.into());
    }

    /// The next frame, and how many bytes of it have been carried out.
    pub(super) fn take_first(&mut self) -> Option<(Box<[u8]>, usize)> {
        let frame = self.frames.pop_front()?;
        self.cost -= cost(frame.len());
        Some((frame, std::mem::take(&mut self.done)))
    }

    /// Keeps a frame before the others, of which `done` bytes have been carried out.
    pub(super) fn put_back(&mut self, frame: Box<[u8]>, done: usize) {
        self.cost += cost(frame.len());
        self.done = done;
        self.frames.push_front(frame);
    }
}

fn cost(bytes: usize) -> usize {
    bytes + size_of::<Box<[u8]>>()
}
