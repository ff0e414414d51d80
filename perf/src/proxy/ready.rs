//! Sockets that are ready: epoll with waits of less than a millisecond.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Sockets that are watched for bytes to read.
pub(super) struct Ready {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Ready {
    pub(super) fn new() -> anyhow::Result<Self> {
        // Waits end when they are due, not up to 50 µs later.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
            .context("timer slack was not set")?;
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("no epoll")?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Watches a socket until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, key: u64) -> anyhow::Result<()> {
        epoll::add(&self.epoll, socket, EventData::new_u64(key), EventFlags::IN)
            .context("socket is not watched")
    }

    /// Keys of sockets with bytes to read or an end; none after the timeout.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        keys: &mut Vec<u64>,
    ) -> anyhow::Result<()> {
        keys.clear();
        self.events.clear();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll does not wait"),
        }
        keys.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}

/// Taken in at once.
const EVENTS: usize = 1024;
