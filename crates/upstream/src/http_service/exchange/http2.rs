//! A request and its answer over HTTP/2.

use std::task::{Context, Poll};

use http1::{Chunk, Inflow, RequestHead, ResponseHead};

use super::ExchangeError;
use crate::http_service::pool::Http2Link;

#[derive(Debug)]
pub(super) struct Http2Exchange {
    link: Http2Link,
}

impl Http2Exchange {
    pub(super) fn new(link: Http2Link, _head: &RequestHead) -> Self {
        Self { link }
    }

    pub(super) fn poll_head(
        &mut self,
        _cx: &mut Context<'_>,
        _inflow: &mut dyn Inflow,
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        Poll::Ready(Err(ExchangeError::NotProcessed))
    }

    pub(super) fn poll_chunk(
        &mut self,
        _cx: &mut Context<'_>,
        _inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, ExchangeError>> {
        Poll::Ready(Err(ExchangeError::NotProcessed))
    }

    pub(super) fn is_sent(&self) -> bool {
        false
    }

    pub(super) fn may_be_stale(&self) -> bool {
        self.link.is_reused
    }
}
