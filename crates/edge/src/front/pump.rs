//! A tunnel: bytes pass both ways until both ends have closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http1::{give_back, take_buffer};
use lifecycle::Clock;
use router::proxy::{Ended, Phase, Tunnel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::alarm::Alarm;
use super::client::Client;

/// One direction. It holds a buffer only while there is something in it.
#[derive(Default)]
struct Half {
    buffer: BytesMut,
    has_ended: bool,
    is_closed: bool,
}

/// How long one end may go on after the other has said its last, in milliseconds. Both
/// ends of a WebSocket have then said that they close; one that does not would hold its
/// slot for ever.
const HALF_OPEN_MS: u64 = 5_000;

/// Passes bytes until both ends have closed, one failed, or a limit is over.
pub(super) async fn run(mut client: Client, mut tunnel: Tunnel, clock: Clock) {
    let (total_ms, silence_ms) = tunnel.limits();
    let until = total_ms.map(|total| clock.mono_ms() + total);
    let mut heard_ms = clock.mono_ms();
    let mut half_open_until = None;
    let mut alarm = Alarm::default();
    let mut up = Half {
        buffer: std::mem::take(&mut client.input),
        ..Half::default()
    };
    let mut down = Half::default();
    let how = poll_fn(|cx| {
        let sent = up.poll(cx, &mut client.stream, &mut tunnel);
        let heard = down.poll(cx, &mut tunnel, &mut client.stream);
        let moved = match (sent, heard) {
            (Err(_), _) => return Poll::Ready(Ended::ClientLeft),
            (_, Err(_)) => return Poll::Ready(Ended::UpstreamBroke),
            (Ok(sent), Ok(heard)) => sent || heard,
        };
        if up.is_closed && down.is_closed {
            return Poll::Ready(Ended::Complete);
        }
        let now = clock.mono_ms();
        if moved {
            heard_ms = now;
        }
        if (up.is_closed || down.is_closed)
            && alarm
                .poll(
                    cx,
                    clock,
                    *half_open_until.get_or_insert(now + HALF_OPEN_MS),
                )
                .is_ready()
        {
            return Poll::Ready(Ended::Complete);
        }
        let silent_at = silence_ms.map(|silence| heard_ms + silence);
        for (at, phase) in [(silent_at, Phase::Gap), (until, Phase::Total)] {
            if let Some(at) = at
                && alarm.poll(cx, clock, at).is_ready()
            {
                return Poll::Ready(Ended::TimedOut(phase));
            }
        }
        Poll::Pending
    })
    .await;
    tunnel.ends(how);
}

impl Half {
    /// Passes on what there is; whether anything was.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<bool> {
        let mut moved = false;
        while !self.is_closed {
            match self.poll_step(cx, from, to) {
                Poll::Ready(step) => step?,
                Poll::Pending => break,
            }
            moved = true;
        }
        Ok(moved)
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && !self.has_ended {
            self.buffer = take_buffer();
            let count = poll_read_buf(Pin::new(from), cx, &mut self.buffer);
            if self.buffer.is_empty() {
                give_back(std::mem::take(&mut self.buffer));
            }
            self.has_ended = ready!(count)? == 0;
        }
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
        }
        give_back(std::mem::take(&mut self.buffer));
        ready!(Pin::new(&mut *to).poll_flush(cx))?;
        if self.has_ended {
            // The other direction may go on.
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.is_closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
