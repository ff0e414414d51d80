//! Many clients, read by one thread.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{Client, ClientError};

/// Clients that are read as their sockets become readable.
#[derive(Default)]
pub struct Crowd {
    /// The members; a closed one stays in its place.
    pub members: Vec<Client>,
}

impl Crowd {
    /// Makes so many members.
    pub fn gather(
        count: usize,
        mut member: impl FnMut(usize) -> Result<Client, ClientError>,
    ) -> Result<Self, ClientError> {
        let members = (0..count).map(&mut member).collect::<Result<_, _>>()?;
        Ok(Self { members })
    }

    /// Reads from all until `turn` says that it is enough. `turn` is called with the index
    /// and the member after each read (and once for each at the start, because something
    /// may have come before), and may replace the member.
    pub fn run(
        &mut self,
        timeout: Duration,
        mut turn: impl FnMut(usize, &mut Client) -> Result<Progress, ClientError>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut ready: Vec<usize> = (0..self.members.len()).collect();
        loop {
            for index in ready.drain(..) {
                let member = &mut self.members[index];
                if turn(index, member)? == Progress::Enough {
                    return Ok(());
                }
            }
            ensure!(
                Instant::now() < deadline,
                "crowd is not done after {timeout:?}"
            );
            let open: Vec<usize> = (0..self.members.len())
                .filter(|index| self.members[*index].close().is_none())
                .collect();
            let mut sockets: Vec<_> = open
                .iter()
                .map(|index| PollFd::new(self.members[*index].stream(), PollFlags::IN))
                .collect();
            poll(&mut sockets, Some(&TICK))?;
            let readable: Vec<bool> = sockets
                .iter()
                .map(|socket| !socket.revents().is_empty())
                .collect();
            for (index, _) in open
                .into_iter()
                .zip(readable)
                .filter(|(_, readable)| *readable)
            {
                self.members[index].pump(Duration::ZERO)?;
                ready.push(index);
            }
            // Without this a quiet crowd would never look at its own condition again.
            if ready.is_empty() && !self.members.is_empty() {
                ready.push(0);
            }
        }
    }
}

/// What [`Crowd::run`] does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Reads on.
    More,
    /// Returns.
    Enough,
}

/// How long a poll waits before conditions are looked at again.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
