//! What a client sends after its request's head.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::fields::Fields;
use crate::head::ResponseHead;

/// A part of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Never empty.
    Data(Bytes),
    /// Nothing comes after it. Trailers, if there were any.
    End(Option<Box<Fields>>),
}

/// The rest of the request will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The client closed or reset the connection or the stream.
    #[error("client has gone")]
    Left,
    /// The client's body breaks the rules of its framing.
    #[error("request body is malformed")]
    Malformed,
    /// The body did not come in time.
    #[error("request body came too slowly")]
    TooSlow,
    /// The body is larger than the route allows.
    #[error("request body is too large")]
    TooLarge,
}

/// A request's body as it comes in, and word of the client's leaving.
pub trait Inflow: Send {
    /// The next part. After [`Chunk::End`] or an error it is not polled again.
    ///
    /// The first poll tells a client that waits for it to go on (`100 Continue`).
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>>;

    /// Ready once the client is known to have left, whether or not the body is
    /// complete.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Ready once the monotonic clock shows `at` milliseconds.
    ///
    /// A client's connection keeps one timer for all of its requests and moves it only
    /// when it would ring too late: a deadline that does not pass costs next to nothing.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()>;

    /// An interim answer (1xx other than 100 and 101) to be passed on.
    fn interim(&mut self, head: &ResponseHead);
}
