//! From a body to a stream.
//!
//! A body is polled as long as it has something at once, and what it gave is written in one go:
//! so a call or an answer that is complete leaves as one packet, end of the stream included.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use quantum_proto::streams::{End, Priority};
use tonic::Status;

use super::fields::{self, FIELDS_MAX, FieldsError};
use super::{code, kind};
use crate::SendStream;
use crate::error::WriteError;

/// Writes headers and a body. Dropped before the end, it resets the stream.
pub(super) struct Pump {
    send: SendStream,
    body: tonic::body::Body,
    /// Answers end with trailers, requests just end.
    is_answer: bool,
    queue: VecDeque<(Bytes, End)>,
    queued: usize,
    sent: usize,
    body_is_over: bool,
    priority: Priority,
}

/// Bytes that are collected from a body before they are written.
const COLLECT_MAX: usize = 64 << 10;
/// Pieces of a body up to this are copied to stand behind their kind; above it is one part more.
const COPY_MAX: usize = 16 << 10;
/// A body that is larger is a transfer, to which others do not wait.
const BULK: usize = 256 << 10;

impl Pump {
    /// Begins with `headers`, a message with its kind.
    pub(super) fn new(
        send: SendStream,
        headers: Bytes,
        body: tonic::body::Body,
        is_answer: bool,
    ) -> Self {
        Self {
            send,
            body,
            is_answer,
            queued: headers.len(),
            queue: VecDeque::from([(headers, End::Message)]),
            sent: 0,
            body_is_over: false,
            priority: Priority::Unary,
        }
    }

    /// Ready when all is written. A peer that reads no more is an error even while the body has
    /// nothing.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        loop {
            let waits_for_body = self.collect(cx);
            self.sent += std::mem::take(&mut self.queued);
            if let Poll::Ready(written) = self.send.poll_write_all(cx, &mut self.queue) {
                written?;
            } else {
                return Poll::Pending;
            }
            if self.body_is_over {
                return Poll::Ready(Ok(()));
            }
            self.reconsider_priority(waits_for_body);
            if waits_for_body {
                return match ready!(self.send.poll_stopped(cx)) {
                    Some(reason) => Poll::Ready(Err(WriteError::Stopped(reason))),
                    // The next write says how the connection ended.
                    None => Poll::Ready(Err(WriteError::Ended)),
                };
            }
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), WriteError> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn reset(&mut self, reason: u32) {
        self.send.reset(reason);
    }

    /// Fills the queue; `true` if the body has nothing at present.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.body_is_over && self.queued < COLLECT_MAX {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => self.finish(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push_data(data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.push_trailers(&trailers);
                        }
                    }
                },
                Poll::Ready(Some(Err(status))) => self.fail(&status),
            }
        }
        false
    }

    fn push_data(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.queued += data.len() + 1;
        if data.len() <= COPY_MAX {
            let mut message = BytesMut::with_capacity(data.len() + 1);
            message.put_u8(kind::DATA);
            message.put_slice(&data);
            self.queue.push_back((message.freeze(), End::Message));
        } else {
            let kind = Bytes::from_static(&[kind::DATA]);
            self.queue.push_back((kind, End::More));
            self.queue.push_back((data, End::Message));
        }
    }

    fn push_trailers(&mut self, trailers: &HeaderMap) {
        self.body_is_over = true;
        if !self.is_answer {
            // Requests have none; there is nothing to tell them to.
            self.finish();
            return;
        }
        let message = message(kind::TRAILERS, &[], trailers).unwrap_or_else(|error| {
            let status = Status::internal(format!("trailers cannot be sent: {error}"));
            message_of(kind::TRAILERS, &status)
        });
        self.queued += message.len();
        self.queue.push_back((message, End::Stream));
    }

    /// The end of the stream goes with the last part, if that is still here.
    fn finish(&mut self) {
        self.body_is_over = true;
        match self.queue.back_mut() {
            Some((_, end)) => *end = End::Stream,
            None => self.queue.push_back((Bytes::new(), End::Stream)),
        }
    }

    fn fail(&mut self, status: &Status) {
        self.body_is_over = true;
        if self.is_answer {
            let message = message_of(kind::TRAILERS, status);
            self.queue.push_back((message, End::Stream));
        } else {
            // A request that is not whole must not look as if it were.
            self.queue.clear();
            self.send.reset(code::CANCELLED);
        }
    }

    /// Sequences and transfers come after single calls.
    fn reconsider_priority(&mut self, waits_for_body: bool) {
        let fitting = if self.sent > BULK {
            Priority::Bulk
        } else if waits_for_body {
            Priority::ServerStream
        } else {
            self.priority
        };
        if fitting > self.priority {
            self.priority = fitting;
            self.send.set_priority(fitting);
        }
    }
}

/// A message of fields, kind included. `pseudo` are names with a colon.
pub(super) fn message(
    kind: u8,
    pseudo: &[(&str, &[u8])],
    headers: &HeaderMap,
) -> Result<Bytes, FieldsError> {
    let mut message = BytesMut::with_capacity(128);
    message.put_u8(kind);
    let mut block = message.split_off(1);
    for (name, value) in pseudo {
        fields::write(&mut block, name, value)?;
    }
    let mut count = pseudo.len();
    for (name, value) in headers {
        if !HTTP_ONLY.contains(&name.as_str()) {
            fields::write(&mut block, name.as_str(), value.as_bytes())?;
            count += 1;
        }
    }
    if count > FIELDS_MAX {
        return Err(FieldsError::Many);
    }
    message.unsplit(block);
    Ok(message.freeze())
}

/// A message that consists of a status and its metadata.
pub(super) fn message_of(kind: u8, status: &Status) -> Bytes {
    let mut headers = HeaderMap::new();
    let whole = status.add_header(&mut headers).is_ok();
    let whole = whole.then(|| message(kind, &[], &headers).ok()).flatten();
    whole.unwrap_or_else(|| {
        // Without the metadata, which were what did not fit.
        let mut short = BytesMut::from(&[kind][..]);
        let digits = (status.code() as i32).to_string();
        let mut block = BytesMut::new();
        let _ = fields::write(&mut block, "grpc-status", digits.as_bytes());
        short.extend_from_slice(&block);
        short.freeze()
    })
}

/// What HTTP/2 needs and we do not.
const HTTP_ONLY: [&str; 5] = [
    "te",
    "connection",
    "host",
    "transfer-encoding",
    "keep-alive",
];
