//! The body of a call, as whoever reads it sees it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::code;
use super::fields::Field;
use super::reading::{Broken, Part, Reader};
use crate::error::ReadError;

/// What the client sends to a server.
pub(super) struct RequestBody(pub(super) Reader);

/// What the server answers. Dropped before its end, it cancels the call.
pub(super) struct ResponseBody {
    reader: Reader,
    /// The end of a whole answer was seen, or an error was told.
    is_over: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(super) fn new(reader: Reader, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        Self {
            is_over: reader.is_over(),
            reader,
            deadline,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(self.0.poll_part(cx)) {
            Ok(Part::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Part::End) => None,
            Ok(Part::Headers(_) | Part::Trailers(_)) => {
                let broken = self.0.out_of_order("fields after the headers of a request");
                Some(Err(status_of(&broken)))
            }
            Err(broken) => Some(Err(status_of(&broken))),
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for RequestBody {
    /// The answer may be complete without all of the request.
    fn drop(&mut self) {
        self.0.stream().stop(code::DONE);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let result = match this.reader.poll_part(cx) {
            Poll::Ready(Ok(Part::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Poll::Ready(Ok(Part::Trailers(fields))) => Ok(Frame::trailers(plain(fields))),
            Poll::Ready(Ok(Part::End)) => Err(Status::internal("answer ended without a status")),
            Poll::Ready(Ok(Part::Headers(_))) => {
                let broken = this.reader.out_of_order("headers twice");
                Err(status_of(&broken))
            }
            Poll::Ready(Err(broken)) => Err(status_of(&broken)),
            Poll::Pending => {
                let Some(deadline) = &mut this.deadline else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(cx));
                this.reader.stream().abandon(code::CANCELLED);
                Err(deadline_exceeded())
            }
        };
        this.is_over = true;
        Poll::Ready(Some(result))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.is_over {
            self.reader.stream().abandon(code::CANCELLED);
        }
    }
}

/// Fields without those that begin with a colon.
pub(super) fn plain(fields: Vec<Field>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        if let Field::Plain(name, value) = field {
            headers.append(name, value);
        }
    }
    headers
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("deadline has passed")
}

/// What a call that broke off came to.
pub(super) fn status_of(broken: &Broken) -> Status {
    let text = broken.to_string();
    match broken {
        Broken::Stream(ReadError::Reset(reason)) => match *reason {
            code::DEADLINE => deadline_exceeded(),
            code::CANCELLED => Status::cancelled("peer cancelled the call"),
            code::REFUSED => Status::unavailable("server takes no more calls at present"),
            code::LEAVING => Status::unavailable("server is going away"),
            code::PROTOCOL => Status::internal("peer found an error in the call"),
            _ => Status::internal(text),
        },
        Broken::Stream(ReadError::Stopped) => Status::cancelled("call was given up"),
        Broken::Stream(ReadError::Closed(closed)) => {
            Status::unavailable(format!("connection was lost: {closed}"))
        }
        Broken::Kind(_) | Broken::Fields(_) | Broken::Order(_) => Status::internal(text),
    }
}
