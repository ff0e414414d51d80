//! From a stream to the parts of a call.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use quantum_proto::streams::End;

use super::fields::{self, BYTES_MAX, Field, FieldsError};
use super::{code, kind};
use crate::error::ReadError;
use crate::{Chunk, RecvStream};

/// Reads one direction of a call.
#[derive(Debug)]
pub(super) struct Reader {
    recv: RecvStream,
    at: At,
    /// The end of the stream has been seen.
    ended: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Part {
    Headers(Vec<Field>),
    /// A piece of the body, cut anywhere.
    Data(Bytes),
    Trailers(Vec<Field>),
    End,
}

/// The call cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Stream(#[from] ReadError),
    #[error("peer sent a message of the unknown kind {0}")]
    Kind(u8),
    #[error(transparent)]
    Fields(#[from] FieldsError),
    #[error("peer sent {0}")]
    Order(&'static str),
}

#[derive(Debug)]
enum At {
    /// The next byte is the first of a message.
    Begin,
    /// Within a block of fields.
    Block { is_headers: bool, block: BytesMut },
    /// Within bytes of the body.
    Data,
}

/// Pieces without anything for the reader, one after the other, before other tasks of the thread
/// get their turn: a peer can send a great many of them.
const EMPTY_MAX: usize = 64;

impl Reader {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self {
            recv,
            at: At::Begin,
            ended: false,
        }
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Broken>> {
        for _ in 0..EMPTY_MAX {
            if self.ended {
                return Poll::Ready(Ok(Part::End));
            }
            let Some(chunk) = ready!(self.recv.poll_read(cx))? else {
                self.ended = true;
                continue;
            };
            match self.take(chunk) {
                Ok(None) => {}
                Ok(Some(part)) => return Poll::Ready(Ok(part)),
                Err(broken) => {
                    self.recv.abandon(code::PROTOCOL);
                    return Poll::Ready(Err(broken));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, chunk: Chunk) -> Result<Option<Part>, Broken> {
        let Chunk { mut data, end } = chunk;
        self.ended = end == End::Stream;
        if matches!(self.at, At::Begin) {
            if data.is_empty() {
                return Ok(None);
            }
            self.at = match data.split_to(1)[0] {
                kind::DATA => At::Data,
                kind::HEADERS => At::block(true),
                kind::TRAILERS => At::block(false),
                other => return Err(Broken::Kind(other)),
            };
        }
        let is_whole = end != End::More;
        match &mut self.at {
            At::Begin => Ok(None),
            At::Data => {
                if is_whole {
                    self.at = At::Begin;
                }
                Ok((!data.is_empty()).then_some(Part::Data(data)))
            }
            At::Block { is_headers, block } => {
                if block.len() + data.len() > BYTES_MAX {
                    return Err(FieldsError::Large.into());
                }
                let is_headers = *is_headers;
                if !is_whole {
                    block.extend_from_slice(&data);
                    return Ok(None);
                }
                let block = if block.is_empty() {
                    data
                } else {
                    block.extend_from_slice(&data);
                    std::mem::take(block).freeze()
                };
                self.at = At::Begin;
                let fields = fields::read(&block)?;
                Ok(Some(if is_headers {
                    Part::Headers(fields)
                } else {
                    Part::Trailers(fields)
                }))
            }
        }
    }

    /// Waits for the headers that everything begins with.
    pub(super) async fn headers(&mut self) -> Result<Vec<Field>, Broken> {
        match std::future::poll_fn(|cx| self.poll_part(cx)).await? {
            Part::Headers(fields) => Ok(fields),
            Part::Data(_) => Err(self.out_of_order("a body before its headers")),
            Part::Trailers(_) => Err(self.out_of_order("trailers before headers")),
            Part::End => Err(Broken::Order("an end before headers")),
        }
    }

    /// What came should not have come now.
    pub(super) fn out_of_order(&mut self, what: &'static str) -> Broken {
        self.recv.abandon(code::PROTOCOL);
        Broken::Order(what)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    pub(super) fn stream(&mut self) -> &mut RecvStream {
        &mut self.recv
    }
}

impl At {
    fn block(is_headers: bool) -> Self {
        Self::Block {
            is_headers,
            block: BytesMut::new(),
        }
    }
}
