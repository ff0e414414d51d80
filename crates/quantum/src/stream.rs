//! The two halves of a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quantum_proto::streams::{self, Chunk, End, Priority, StreamId};

use crate::connection::{Owner, State};
use crate::error::{ReadError, WriteError};

/// The half that we write. Dropped before its end was written, it resets the stream.
#[derive(Debug)]
pub struct SendStream {
    owner: Arc<Owner>,
    id: StreamId,
    /// The end is written, or the stream reset.
    is_over: bool,
}

/// The half that we read. Dropped before its end was read, it asks the peer to stop.
#[derive(Debug)]
pub struct RecvStream {
    owner: Arc<Owner>,
    id: StreamId,
    /// The end was read, or the stream stopped, or the peer has reset it.
    is_over: bool,
}

/// What a dropped half tells the peer.
pub const ABANDONED: u32 = 0;

impl SendStream {
    pub(crate) fn new(owner: Arc<Owner>, id: StreamId) -> Self {
        Self {
            owner,
            id,
            is_over: false,
        }
    }

    /// Writes all of `data`; waits while the buffer is full. `end` says what ends with it.
    ///
    /// Cancelled, it may have written a part.
    ///
    /// # Errors
    /// The peer stopped the stream, it has ended already, or the connection is over.
    pub async fn write(&mut self, data: Bytes, end: End) -> Result<(), WriteError> {
        let mut queue = VecDeque::from([(data, end)]);
        std::future::poll_fn(|cx| self.poll_write_all(cx, &mut queue)).await
    }

    /// Writes what stands in the queue and takes it out of there, all at once as far as there
    /// is room, so that small parts travel in one packet.
    ///
    /// # Errors
    /// As for [`SendStream::write`].
    pub fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<(Bytes, End)>,
    ) -> Poll<Result<(), WriteError>> {
        let shared = Arc::clone(&self.owner.0);
        let mut state = shared.lock();
        let mut wrote = false;
        let result = loop {
            let Some((data, end)) = queue.front_mut() else {
                break Poll::Ready(Ok(()));
            };
            if self.is_over {
                break Poll::Ready(Err(WriteError::Ended));
            }
            match offer(&mut state, self.id, data, *end) {
                Ok(taken) if taken == data.len() => {
                    wrote = true;
                    self.is_over = *end == End::Stream;
                    queue.pop_front();
                }
                Ok(taken) => {
                    wrote |= taken > 0;
                    let _ = data.split_to(taken);
                    state.wakers(self.id).write = Some(cx.waker().clone());
                    break Poll::Pending;
                }
                Err(error) => {
                    self.is_over = true;
                    break Poll::Ready(Err(error));
                }
            }
        };
        drop(state);
        if wrote {
            shared.wake();
        }
        result
    }

    /// Writes as much as there is room for and says how much that was.
    ///
    /// # Errors
    /// As for [`SendStream::write`].
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &Bytes,
        end: End,
    ) -> Poll<Result<usize, WriteError>> {
        if self.is_over {
            return Poll::Ready(Err(WriteError::Ended));
        }
        let shared = Arc::clone(&self.owner.0);
        let mut state = shared.lock();
        let taken = offer(&mut state, self.id, data, end)?;
        if taken == 0 && !data.is_empty() {
            state.wakers(self.id).write = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.is_over |= taken == data.len() && end == End::Stream;
        shared.wake();
        Poll::Ready(Ok(taken))
    }

    /// Gives the stream up: what was not delivered yet will not be.
    pub fn reset(&mut self, code: u32) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.owner
                .0
                .lock()
                .machine
                .streams_mut()
                .reset(self.id, code);
            self.owner.0.wake();
        }
    }

    /// Changes in which order its data leave beside those of others.
    pub fn set_priority(&mut self, priority: Priority) {
        let mut state = self.owner.0.lock();
        state.machine.streams_mut().set_priority(self.id, priority);
    }

    /// Waits until the peer stops the stream (`Some` code) or the connection is over (`None`).
    pub async fn stopped(&self) -> Option<u32> {
        std::future::poll_fn(|cx| self.poll_stopped(cx)).await
    }

    /// As [`SendStream::stopped`]. One task at a time is woken.
    pub fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut state = self.owner.0.lock();
        if let Some(code) = state.wakers(self.id).stop {
            return Poll::Ready(Some(code));
        }
        if state.closed().is_some() {
            return Poll::Ready(None);
        }
        state.wakers(self.id).stopped = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Its id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The connection it belongs to.
    pub fn connection(&self) -> crate::Connection {
        crate::Connection(Arc::clone(&self.owner))
    }
}

impl RecvStream {
    pub(crate) fn new(owner: Arc<Owner>, id: StreamId) -> Self {
        Self {
            owner,
            id,
            is_over: false,
        }
    }

    /// Waits for the next bytes, in order; `None` after the end.
    ///
    /// # Errors
    /// The peer reset the stream, or the connection is over.
    pub async fn read(&mut self) -> Result<Option<Chunk>, ReadError> {
        std::future::poll_fn(|cx| self.poll_read(cx)).await
    }

    /// As [`RecvStream::read`].
    ///
    /// # Errors
    /// As for [`RecvStream::read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, ReadError>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let shared = Arc::clone(&self.owner.0);
        let mut state = shared.lock();
        let now = shared.lane.now();
        match state.machine.streams_mut().read(now, self.id) {
            Ok(Some(chunk)) => {
                // Reading may have made room of which the peer has to hear.
                let must_tell = state.machine.streams_mut().has_data();
                drop(state);
                self.is_over = chunk.end == End::Stream;
                if must_tell {
                    shared.wake();
                }
                Poll::Ready(Ok(Some(chunk)))
            }
            Ok(None) => {
                if let Some(closed) = state.closed() {
                    self.is_over = true;
                    return Poll::Ready(Err(ReadError::Closed(closed.clone())));
                }
                state.wakers(self.id).read = Some(cx.waker().clone());
                Poll::Pending
            }
            Err(error) => {
                let closed = state.closed().cloned();
                self.is_over = true;
                Poll::Ready(Err(match (error, closed) {
                    (streams::ReadError::Reset(code), _) => ReadError::Reset(code),
                    (_, Some(closed)) => ReadError::Closed(closed),
                    (_, None) => ReadError::Stopped,
                }))
            }
        }
    }

    /// Asks the peer to stop sending; what comes nevertheless is dropped.
    pub fn stop(&mut self, code: u32) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.owner
                .0
                .lock()
                .machine
                .streams_mut()
                .stop(self.id, code);
            self.owner.0.wake();
        }
    }

    /// Gives up both halves: this one is stopped, and the other, wherever it is, reset.
    pub(crate) fn abandon(&mut self, code: u32) {
        self.stop(code);
        let mut state = self.owner.0.lock();
        state.machine.streams_mut().reset(self.id, code);
        let waiting = state.wakers(self.id).abandon(code);
        drop(state);
        waiting.into_iter().flatten().for_each(Waker::wake);
        self.owner.0.wake();
    }

    /// The end was read, or nothing more will come for another reason.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Its id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The connection it belongs to.
    pub fn connection(&self) -> crate::Connection {
        crate::Connection(Arc::clone(&self.owner))
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.reset(ABANDONED);
        self.owner.0.lock().forget_half(self.id);
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(ABANDONED);
        self.owner.0.lock().forget_half(self.id);
    }
}

fn offer(state: &mut State, id: StreamId, data: &Bytes, end: End) -> Result<usize, WriteError> {
    if let Some(closed) = state.closed() {
        return Err(WriteError::Closed(closed.clone()));
    }
    let written = state.machine.streams_mut().write(id, data.clone(), end);
    written.map_err(|error| match error {
        streams::WriteError::Stopped(code) => WriteError::Stopped(code),
        streams::WriteError::Closed => WriteError::Ended,
    })
}
