//! A request's body, kept as long as it might be needed again.

use std::task::{Context, Poll};

use bytes::Bytes;
use http1::{Chunk, Fields, Gone, Inflow, ResponseHead};

use super::ai::{Ask, Asker};

/// What was seen of a request's body.
#[derive(Debug, Default)]
pub(super) struct Replay {
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Most bytes that are kept.
    kept_max: usize,
    /// Parts of `kept` that the present try has sent.
    sent: usize,
    /// More came than is kept, or it was decided that there will be no further try.
    is_spent: bool,
    /// The end has come, with these trailers.
    end: Option<Option<Box<Fields>>>,
    /// The present try waits for the client.
    is_waiting: bool,
    /// All that has come.
    seen_bytes: u64,
    /// Most bytes there may be; 0 is no limit.
    body_max: u64,
}

/// A body that is read through its [`Replay`].
pub(super) struct Replaying<'a> {
    pub(super) replay: &'a mut Replay,
    pub(super) inflow: &'a mut dyn Inflow,
}

impl Replay {
    /// Keeps up to `kept_max` bytes of a body of up to `body_max`.
    pub(super) fn new(kept_max: usize, body_max: u64) -> Self {
        Self {
            kept_max,
            body_max,
            ..Self::default()
        }
    }

    /// Another try can send the body from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_spent
    }

    /// Goes back to the beginning.
    pub(super) fn rewind(&mut self) {
        debug_assert!(self.is_whole(), "what was let go can't be sent again");
        self.sent = 0;
    }

    /// There will be no further try: what was sent is let go.
    pub(super) fn let_go(&mut self) {
        self.is_spent = true;
        self.kept.drain(..self.sent);
        self.sent = 0;
    }

    /// What is missing is the client's: the upstream has been given all that came.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Bytes that came from the client.
    pub(super) fn seen_bytes(&self) -> u64 {
        self.seen_bytes
    }

    /// Reads ahead until the end, or until no more can be kept; nothing of it counts as
    /// sent.
    pub(super) fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<(), Gone>> {
        while self.end.is_none() && self.kept_bytes < self.kept_max {
            match inflow.poll_chunk(cx) {
                Poll::Ready(Ok(chunk)) => self.take_in(chunk)?,
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What the part that was read ahead asks of a model.
    pub(super) fn ask(&self) -> Ask {
        let mut asker = Asker::new();
        for part in &self.kept {
            asker.push(part);
        }
        asker.ask()
    }

    fn take_in(&mut self, chunk: Chunk) -> Result<(), Gone> {
        match chunk {
            Chunk::Data(data) => {
                self.seen_bytes += data.len() as u64;
                if self.body_max > 0 && self.seen_bytes > self.body_max {
                    return Err(Gone::TooLarge);
                }
                self.kept_bytes += data.len();
                // A small part must not hold the whole buffer that it came in.
                self.kept.push(if data.len() < COPIED_MAX {
                    Bytes::copy_from_slice(&data)
                } else {
                    data
                });
            }
            Chunk::End(trailers) => self.end = Some(trailers),
        }
        Ok(())
    }

    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, Gone>> {
        self.is_waiting = false;
        loop {
            if let Some(data) = self.kept.get(self.sent) {
                let data = data.clone();
                self.sent += 1;
                if self.is_spent {
                    self.let_go();
                }
                return Poll::Ready(Ok(Chunk::Data(data)));
            }
            if let Some(trailers) = &self.end {
                return Poll::Ready(Ok(Chunk::End(trailers.clone())));
            }
            match inflow.poll_chunk(cx) {
                Poll::Ready(Ok(chunk)) => self.take_in(chunk)?,
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                Poll::Pending => {
                    self.is_waiting = true;
                    return Poll::Pending;
                }
            }
            if self.kept_bytes > self.kept_max {
                self.is_spent = true;
            }
        }
    }
}

/// Parts up to this size are copied.
const COPIED_MAX: usize = 1_024;

impl Inflow for Replaying<'_> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        self.replay.poll_chunk(cx, self.inflow)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.inflow.poll_gone(cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        self.inflow.poll_deadline(cx, at)
    }

    fn interim(&mut self, head: &ResponseHead) {
        self.inflow.interim(head);
    }
}
