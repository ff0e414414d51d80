//! One deadline that is kept to the microsecond, not to the millisecond.
//!
//! Pacing at 100 Mbit/s sends a datagram every 100 µs and a tail repair waits 2 ms; tokio's
//! timer counts whole milliseconds and rounds up. On Linux the kernel's timer wakes the task
//! through the same epoll as its socket. Elsewhere tokio's has to do.

use std::task::{Context, Poll};
use std::time::Duration;

/// Wakes its task once, at a deadline that may move.
#[derive(Debug)]
pub(crate) struct Timer(imp::Timer);

impl Timer {
    /// # Errors
    /// The system has no timer left.
    pub(crate) fn new() -> std::io::Result<Self> {
        imp::Timer::new().map(Self)
    }

    /// Sets the deadline, `after` from now; an earlier one is forgotten.
    pub(crate) fn set(&mut self, after: Duration) {
        self.0.set(after);
    }

    /// Ready once when the deadline has come; otherwise the task is woken then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use super::{Context, Duration, Poll};
    use rustix::fd::OwnedFd;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            unsafe_code,
            reason = "the type cannot say that a descriptor stays open"
        )]
        pub(super) fn new() -> std::io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: an `OwnedFd` keeps its descriptor, and closes it only after the
            // registration is gone, since nobody takes it out of the `AsyncFd`.
            let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            Ok(Self(fd.map_err(std::io::Error::from)?))
        }

        pub(super) fn set(&mut self, after: Duration) {
            // Zero would switch the timer off.
            let after = after.max(Duration::from_nanos(1));
            let value = Timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(after.subsec_nanos()),
            };
            let once = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: value,
            };
            let set = timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once);
            if let Err(error) = set {
                tracing::error!(%error, "timer was not set");
            }
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            loop {
                let Ok(mut ready) = std::task::ready!(self.0.poll_read_ready(cx)) else {
                    return Poll::Pending;
                };
                let mut expired = [0; 8];
                let read = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut expired)?));
                if matches!(read, Ok(Ok(_))) {
                    return Poll::Ready(());
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{Context, Duration, Poll};
    use std::pin::Pin;
    use tokio::time::Sleep;

    #[derive(Debug)]
    pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

    impl Timer {
        pub(super) fn new() -> std::io::Result<Self> {
            Ok(Self(None))
        }

        pub(super) fn set(&mut self, after: Duration) {
            self.0 = Some(Box::pin(tokio::time::sleep(after)));
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            let Some(sleep) = &mut self.0 else {
                return Poll::Pending;
            };
            std::task::ready!(sleep.as_mut().poll(cx));
            self.0 = None;
            Poll::Ready(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_once_per_deadline_and_not_before() {
        let clock = lifecycle::Clock::start();
        let mut timer = Timer::new().unwrap();
        for wait in [300, 2_000, 50].map(Duration::from_micros) {
            let begun = clock.elapsed();
            timer.set(wait);
            std::future::poll_fn(|cx| timer.poll(cx)).await;
            assert!(clock.elapsed() - begun >= wait);
        }
        let idle = std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending()));
        assert!(idle.await);
    }
}
