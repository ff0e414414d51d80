//! `/admin/overview`: where everything stands, once or as a stream of events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use lifecycle::CancellationToken;
use tokio::sync::OwnedSemaphorePermit;

use super::{Refusal, json};
use crate::control::{Console, Control, Operator};
use crate::listener::Stopping;
use crate::router::Shared;

pub(super) async fn show<C: Operator>(control: &C) -> Result<Response, Refusal> {
    let overview = control.console().overview().await;
    Ok(json(StatusCode::OK, &overview))
}

/// Server-sent events, one a second, until the client goes, the listener stops, or a
/// quarter of an hour is over: then the token is looked at again.
pub(super) fn stream<C: Control + Operator>(
    shared: &Arc<Shared<C>>,
    head: &Parts,
) -> Result<Response, Refusal> {
    let slot = Arc::clone(&shared.streams).try_acquire_owned();
    let slot = slot.map_err(|_none_free| Refusal::Busy("too many streams are open"))?;
    let stopping = head.extensions.get::<Stopping>();
    let feed = Feed {
        shared: Arc::clone(shared),
        stopping: stopping.map_or_else(CancellationToken::new, |it| it.0.clone()),
        ends_at: shared.clock.elapsed() + STREAM_MAX,
        is_first: true,
        _slot: slot,
    };
    let events = futures_util::stream::unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(event)), feed))
    });
    let mut response = Body::new(StreamBody::new(Box::pin(events))).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Says the same to proxies that would wait for the end.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// One stream.
struct Feed<C> {
    shared: Arc<Shared<C>>,
    stopping: CancellationToken,
    ends_at: Duration,
    is_first: bool,
    _slot: OwnedSemaphorePermit,
}

impl<C: Control + Operator> Feed<C> {
    /// The next event; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.is_first) {
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        if self.shared.clock.elapsed() >= self.ends_at {
            return None;
        }
        let overview = self.shared.control.console().overview().await;
        let text = serde_json::to_string(&overview).ok()?;
        Some(Bytes::from(format!("data: {text}\n\n")))
    }
}

const EVERY: Duration = Duration::from_secs(1);

/// How long a stream lasts.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);

/// Streams that may be open at once, over all operators.
pub(crate) const STREAMS_MAX: usize = 32;
