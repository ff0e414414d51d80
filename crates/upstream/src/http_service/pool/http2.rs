//! Connections of HTTP/2, which many requests share.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use lifecycle::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::figures::{Figures, Miss};
use super::shelf::{Landing, Shelf, Speaks, Step};
use super::{DialError, Dialled, Http2Link, Link, Shared, Stream, millis};
use crate::http_service::Scheme;

/// A connection on a shelf.
#[derive(Debug)]
pub(super) struct Trunk {
    sender: SendRequest<Bytes>,
    vitals: Arc<Vitals>,
    dies_ms: u64,
}

/// What its users and its task know of a connection.
#[derive(Debug)]
struct Vitals {
    streams: AtomicUsize,
    has_served: AtomicBool,
    /// No new streams.
    is_retired: AtomicBool,
    /// When the last stream ended.
    rests_since_ms: AtomicU64,
    /// When the server was last heard.
    heard_ms: AtomicU64,
    /// Rung when the last stream of a retired connection ends.
    emptied: Notify,
}

/// A stream's place on a connection.
#[derive(Debug)]
pub(in crate::http_service) struct Lease {
    vitals: Arc<Vitals>,
    shelf: Arc<Shelf>,
}

impl Trunk {
    /// New streams may be opened, as far as age and the server go.
    pub(super) fn is_usable(&self, now_ms: u64) -> bool {
        if self.dies_ms <= now_ms || self.vitals.is_retired.load(Ordering::Acquire) {
            return false;
        }
        // Fails once the server has said that it goes away.
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams() < self.sender.current_max_send_streams()
    }

    pub(super) fn streams(&self) -> usize {
        self.vitals.streams.load(Ordering::Acquire)
    }

    pub(super) fn has_rested(&self, now_ms: u64, idle_ms: u64) -> bool {
        let since_ms = self.vitals.rests_since_ms.load(Ordering::Acquire);
        self.streams() == 0 && now_ms.saturating_sub(since_ms) >= idle_ms
    }

    pub(super) fn lease(&self, shelf: &Arc<Shelf>, miss: Option<Miss>) -> Http2Link {
        self.vitals.streams.fetch_add(1, Ordering::AcqRel);
        Http2Link {
            sender: self.sender.clone(),
            is_reused: self.vitals.has_served.swap(true, Ordering::AcqRel),
            miss,
            lease: Lease {
                vitals: Arc::clone(&self.vitals),
                shelf: Arc::clone(shelf),
            },
        }
    }
}

impl Lease {
    /// What the connection runs over.
    pub(in crate::http_service) fn scheme(&self) -> Scheme {
        self.shelf.origin.scheme
    }

    /// The connection is broken: nobody is to open a stream on it any more.
    pub(in crate::http_service) fn retire(&self) {
        self.vitals.is_retired.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let vitals = &self.vitals;
        vitals
            .rests_since_ms
            .store(self.shelf.clock.mono_ms(), Ordering::Release);
        if vitals.streams.fetch_sub(1, Ordering::AcqRel) == 1
            && vitals.is_retired.load(Ordering::Acquire)
        {
            vitals.emptied.notify_one();
        }
        self.shelf.freed.notify_one();
    }
}

impl Shared {
    /// Connects where HTTP/2 may be spoken: those that come meanwhile wait for the same
    /// connection instead of making their own.
    pub(super) async fn connect_together(
        self: &Arc<Self>,
        shelf: &Arc<Shelf>,
        miss: Miss,
    ) -> Result<Link, DialError> {
        let patience = shelf.origin.dial_timeout + self.settings.tls_timeout;
        timeout(patience, self.share(shelf, miss))
            .await
            .map_err(|_| DialError::NoStream)?
    }

    async fn share(self: &Arc<Self>, shelf: &Arc<Shelf>, miss: Miss) -> Result<Link, DialError> {
        loop {
            let mut freed = pin!(shelf.freed.notified());
            freed.as_mut().enable();
            if let Some(link) = shelf.lease(Some(miss)) {
                return Ok(Link::Http2(link));
            }
            if shelf.speaks() == Speaks::Http1 {
                return self.take_or_dial(shelf, miss).await;
            }
            let mut attempt = match shelf.step(self.settings.http2_per_origin_max) {
                Step::Await(attempt) => attempt,
                Step::Attempt(report, attempt) => {
                    let flight = Arc::clone(self).fly(Arc::clone(shelf), report);
                    self.tasks.spawn("http connect", flight);
                    attempt
                }
                Step::AwaitStream => {
                    freed.await;
                    continue;
                }
            };
            let landing = match attempt.wait_for(Option::is_some).await {
                Ok(landing) => landing.clone(),
                Err(_) => {
                    shelf.landed(None);
                    return Err(DialError::Stopping);
                }
            };
            if let Some(Err(error)) = landing {
                if !shelf.has_http2() {
                    return Err(error);
                }
                // There are connections; they are only all in use.
                freed.await;
            }
        }
    }

    /// The server has chosen HTTP/1.1.
    async fn take_or_dial(
        self: &Arc<Self>,
        shelf: &Arc<Shelf>,
        miss: Miss,
    ) -> Result<Link, DialError> {
        let resting = match shelf.take_resting() {
            Ok(resting) if miss != Miss::Fresh || !resting.has_served => resting,
            _ => {
                let dialled = self.dial(shelf).await?;
                if dialled.is_http2 {
                    self.adopt(shelf, dialled).await?;
                    let link = shelf.lease(Some(miss)).ok_or(DialError::NoStream)?;
                    return Ok(Link::Http2(link));
                }
                self.newborn(dialled.stream)
            }
        };
        Ok(Link::Http1(self.link(shelf, resting, Some(miss))))
    }

    /// The common attempt; in its own task, as those who wait for it come and go.
    async fn fly(self: Arc<Self>, shelf: Arc<Shelf>, report: watch::Sender<Landing>) {
        let landed = match self.dial(&shelf).await {
            Ok(dialled) if dialled.is_http2 => self
                .adopt(&shelf, dialled)
                .await
                .map(|()| Some(Speaks::Http2)),
            Ok(dialled) => {
                let resting = self.newborn(dialled.stream);
                self.rest(&shelf, resting);
                Ok(Some(Speaks::Http1))
            }
            Err(error) => Err(error),
        };
        shelf.landed(landed.as_ref().ok().copied().flatten());
        report.send_replace(Some(landed.map(|_| ())));
    }

    /// Speaks HTTP/2 on a new connection and lays it on the shelf.
    pub(super) async fn adopt(
        &self,
        shelf: &Arc<Shelf>,
        dialled: Dialled,
    ) -> Result<(), DialError> {
        let now_ms = self.clock.mono_ms();
        let vitals = Arc::new(Vitals {
            streams: AtomicUsize::new(0),
            has_served: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            rests_since_ms: AtomicU64::new(now_ms),
            heard_ms: AtomicU64::new(now_ms),
            emptied: Notify::new(),
        });
        let heard = Heard {
            stream: dialled.stream,
            vitals: Arc::clone(&vitals),
            clock: self.clock,
        };
        let handshake = settings().handshake(heard);
        let (sender, connection) = match timeout(self.settings.tls_timeout, handshake).await {
            Ok(Ok(made)) => made,
            outcome => {
                let error = match outcome {
                    Ok(Err(error)) => DialError::Http2(Arc::new(error)),
                    _ => DialError::TlsTimedOut,
                };
                self.figures.note_failure(&error);
                return Err(error);
            }
        };
        let driver = Driver {
            connection,
            vitals: Arc::clone(&vitals),
            shelf: Arc::downgrade(shelf),
            figures: Arc::clone(&self.figures),
            clock: self.clock,
            ping_after: self.settings.http2_ping_after,
            ping_timeout: self.settings.http2_ping_timeout,
        };
        self.figures.http2.up();
        let stopping = self.tasks.stopping();
        self.tasks.spawn("http2 connection", driver.drive(stopping));
        shelf.share(Trunk {
            sender,
            vitals,
            dies_ms: now_ms.saturating_add(self.lifetime_ms()),
        });
        Ok(())
    }
}

fn settings() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAM_KEPT)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX));
    builder
}

/// The task of a connection.
struct Driver {
    connection: Connection<Heard, Bytes>,
    vitals: Arc<Vitals>,
    /// Weak, as the shelf holds what keeps the connection open.
    shelf: Weak<Shelf>,
    figures: Arc<Figures>,
    clock: Clock,
    ping_after: Duration,
    ping_timeout: Duration,
}

impl Driver {
    /// Until the connection ends: by the server, by its silence, or because nobody uses it
    /// any more.
    async fn drive(mut self, stopping: lifecycle::CancellationToken) {
        let pings = self.connection.ping_pong();
        let vitals = Arc::clone(&self.vitals);
        let mut silence = pin!(silence(
            pings,
            &vitals,
            self.clock,
            self.ping_after,
            self.ping_timeout
        ));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = &mut self.connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "http/2 connection ended");
                    }
                    break;
                }
                () = &mut silence => {
                    tracing::debug!("http/2 connection does not answer");
                    break;
                }
                () = stopping.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    vitals.is_retired.store(true, Ordering::Release);
                }
                () = vitals.emptied.notified(), if is_stopping => {}
            }
            // The requests under way are finished first.
            if is_stopping && vitals.streams.load(Ordering::Acquire) == 0 {
                break;
            }
        }
        vitals.is_retired.store(true, Ordering::Release);
        self.figures.http2.down();
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.freed.notify_waiters();
        }
    }
}

/// Ends when the server, silent while streams are open, does not answer a ping either.
async fn silence(
    pings: Option<PingPong>,
    vitals: &Vitals,
    clock: Clock,
    ping_after: Duration,
    ping_timeout: Duration,
) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    let after_ms = millis(ping_after);
    let mut wait = ping_after;
    loop {
        tokio::time::sleep(wait).await;
        let silent_ms = clock
            .mono_ms()
            .saturating_sub(vitals.heard_ms.load(Ordering::Acquire));
        if silent_ms < after_ms {
            wait = Duration::from_millis(after_ms - silent_ms);
            continue;
        }
        wait = ping_after;
        // Servers count pings on connections without streams as abuse.
        if vitals.streams.load(Ordering::Acquire) > 0
            && !matches!(
                timeout(ping_timeout, pings.ping(Ping::opaque())).await,
                Ok(Ok(_))
            )
        {
            return;
        }
    }
}

/// A stream that notes when the server was heard.
struct Heard {
    stream: Stream,
    vitals: Arc<Vitals>,
    clock: Clock,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.vitals
                .heard_ms
                .store(self.clock.mono_ms(), Ordering::Release);
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Bytes of one answer that may come before they are read.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of all answers together: as many as a hundred clients may leave unread, or a few
/// that do not read would stop the answers of all others on the connection.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;

const HEADER_LIST_MAX: u32 = 64 * 1024;

const FRAME_MAX: u32 = 64 * 1024;

/// Bytes of one request that may wait for the socket.
const SEND_BUFFER_MAX: usize = 64 * 1024;

/// Streams that were cancelled and of which frames may still come.
const RESET_STREAMS_MAX: usize = 256;
const RESET_STREAM_KEPT: Duration = Duration::from_secs(5);

/// Faults of the server in single streams, before the whole connection is closed.
const ERROR_RESETS_MAX: usize = 256;
