//! Where a worker's frames become the body of an HTTP response.
//!
//! HTTP-streaming and server-sent events rest in a worker like WebSocket
//! connections, but their bytes leave through hyper. The pipe between is bounded:
//! when it is full, frames stay in the connection's send queue, under its policy,
//! and the body asks for more when it has room.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::inbox::{Inbox, Mail};
use super::slab::Key;

/// Bytes that wait between worker and hyper.
const ROOM: usize = 64 * 1024;

/// The worker's end.
#[derive(Debug, Clone)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    abandoned: bool,
    /// The worker holds frames back until there is room.
    awaited: bool,
    reader: Option<Waker>,
}

/// hyper's end.
pub(crate) struct PipeBody {
    pipe: Pipe,
    inbox: Arc<Inbox>,
    /// Known once the worker has taken the connection in.
    key: Arc<std::sync::OnceLock<Key>>,
}

impl Pipe {
    /// A pipe, and the body that drains it.
    pub(crate) fn new(inbox: Arc<Inbox>) -> (Self, PipeBody, Arc<std::sync::OnceLock<Key>>) {
        let pipe = Self(Arc::default());
        let key = Arc::new(std::sync::OnceLock::new());
        let body = PipeBody {
            pipe: pipe.clone(),
            inbox,
            key: Arc::clone(&key),
        };
        (pipe, body, key)
    }

    /// How many bytes may be pushed now; 0 makes the body report when that changes.
    pub(crate) fn room(&self) -> usize {
        let mut state = self.state();
        let room = ROOM.saturating_sub(state.bytes);
        state.awaited = room == 0;
        room
    }

    /// Hands bytes over.
    pub(crate) fn push(&self, bytes: Bytes) {
        let mut state = self.state();
        state.bytes += bytes.len();
        state.chunks.push_back(bytes);
        wake(&mut state);
    }

    /// Ends the body after what was pushed.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        wake(&mut state);
    }

    /// Whether the client has gone away.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(state: &mut State) {
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.pipe.state();
        let Some(chunk) = state.chunks.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.bytes -= chunk.len();
        let has_room_again = state.awaited && state.bytes <= ROOM / 2;
        if has_room_again {
            state.awaited = false;
        }
        drop(state);
        if has_room_again && let Some(key) = self.key.get() {
            self.inbox.post(Mail::Room(*key));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.pipe.state();
        state.ended && state.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.abandoned = true;
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        if let Some(key) = self.key.get() {
            self.inbox.post(Mail::Gone(*key));
        }
    }
}
