//! Those who listen: clients that stay, and newcomers that want to see something at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use protocol::message::Reply;

use super::crowd::{Crowd, Moment};
use super::wire::{self, Heard, Speech};
use super::{Options, microseconds};
use crate::server_process::Server;
use crate::token::Mint;

/// All clients of a run.
pub(super) struct Audience {
    crowd: Crowd,
    address: SocketAddr,
    mint: Mint,
    groups: usize,
    /// What the client of each number is for.
    roles: Vec<Role>,
    noted: Noted,
    newcomers: usize,
}

/// What is noted beside the crowd.
struct Noted {
    figures: Option<Figures>,
    /// Largest number of a batch that came, by group.
    newest: Vec<u64>,
    /// Since it is watched: the first snapshot of each group.
    first: Option<Vec<Option<First>>>,
    /// Symbols of each group.
    sizes: Vec<usize>,
    /// Newcomers that are done.
    leaving: Vec<usize>,
}

/// A snapshot that came.
#[derive(Debug, Clone, Copy)]
struct First {
    nanos: u64,
    seq: u64,
    symbols: usize,
}

/// What came to clients while it was recorded. Times in microseconds.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) tick_interval: Histogram<u64>,
    pub(super) snapshot_interval: Histogram<u64>,
    pub(super) end_to_end: Histogram<u64>,
    /// From asking to having, at newcomers.
    pub(super) first_snapshot: Histogram<u64>,
    /// From the start of the connection to having.
    pub(super) arrival: Histogram<u64>,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// Batches that never came to a client which got later ones.
    pub(super) gaps: u64,
    /// Newcomers that could not join the snapshot and the batches after it.
    pub(super) unjoined: u64,
    /// Newcomers that got no snapshot.
    pub(super) failed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Nobody,
    Ear(Ear),
    Newcomer(Newcomer),
}

/// A client that stays.
#[derive(Debug, Clone, Copy)]
struct Ear {
    group: usize,
    /// Number of the last batch; 0 before the first.
    seq: u64,
    tick_nanos: u64,
    snapshot_nanos: u64,
}

/// A client that wants to see something at once.
#[derive(Debug, Clone, Copy)]
struct Newcomer {
    group: usize,
    opened_nanos: u64,
    asked_nanos: u64,
    /// Number of the first batch that came.
    first: Option<u64>,
    /// Number that the snapshot includes.
    snapshot: Option<u64>,
}

impl Audience {
    /// Connects the clients that stay, each with its group's batches and snapshots.
    pub(super) fn open(gateway: &Server, options: &Options) -> anyhow::Result<Self> {
        let groups = options.groups as usize;
        let symbols = options.symbols as usize;
        let sizes: Vec<usize> = (0..groups)
            .map(|group| (symbols + groups - 1 - group) / groups)
            .collect();
        let mint = Mint::new(&gateway.secret)?;
        let address = gateway.address.socket;
        let mut crowd = Crowd::new()?;
        let clients = options.clients as usize;
        let opening = |number: usize| {
            let group = name(number % groups);
            let mut join = Vec::new();
            let commands = [
                wire::connect(mint.token(number)?),
                wire::subscribe(&format!("{TICKS}{group}")),
                wire::subscribe(&format!("{SNAPSHOTS}{group}")),
            ];
            wire::commands(&mut join, 1, commands)?;
            Ok((address, Speech::Centrifuge, join))
        };
        let mut refused = None;
        let numbers = crowd.open_all(clients, opening, |heard| match heard {
            Heard::Reply(reply) => {
                refused = refused.take().or_else(|| refusal(reply));
                reply.id == 3
            }
            _ => false,
        })?;
        if let Some(refused) = refused {
            bail!("client was refused: {refused}");
        }
        let mut audience = Self {
            crowd,
            address,
            mint,
            groups,
            roles: Vec::new(),
            noted: Noted {
                figures: None,
                newest: vec![0; groups],
                first: None,
                sizes,
                leaving: Vec::new(),
            },
            newcomers: clients,
        };
        for (index, number) in numbers.into_iter().enumerate() {
            let ear = Ear {
                group: index % groups,
                seq: 0,
                tick_nanos: 0,
                snapshot_nanos: 0,
            };
            audience.cast(number, Role::Ear(ear));
        }
        Ok(audience)
    }

    pub(super) fn nanos(&self) -> u64 {
        self.crowd.now().nanos
    }

    pub(super) fn losses(&self) -> Vec<String> {
        self.crowd.losses().to_vec()
    }

    /// Begins to record.
    pub(super) fn record(&mut self) -> anyhow::Result<()> {
        self.noted.figures = Some(Figures::new()?);
        Ok(())
    }

    /// Ends recording.
    pub(super) fn recorded(&mut self) -> anyhow::Result<Figures> {
        self.noted.figures.take().context("nothing was recorded")
    }

    /// Listens; beside it so many newcomers a second come and go, if any.
    pub(super) fn listen_for(
        &mut self,
        duration: Duration,
        newcomers: Option<u32>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let gap = newcomers.map(|rate| Duration::from_secs(1) / rate.max(1));
        let mut due = Duration::ZERO;
        while started.elapsed() < duration {
            if let Some(gap) = gap
                && started.elapsed() >= due
            {
                due += gap;
                self.welcome()?;
            }
            self.turn(Duration::from_millis(5))?;
        }
        if newcomers.is_some() {
            let deadline = Instant::now() + NEWCOMER_WITHIN;
            while self.waiting() > 0 && Instant::now() < deadline {
                self.turn(Duration::from_millis(5))?;
            }
            let waiting = self.waiting() as u64;
            if let Some(figures) = &mut self.noted.figures {
                figures.failed += waiting;
            }
        }
        Ok(())
    }

    /// Waits until a snapshot of every group has come, and sees that they tell of all symbols:
    /// when the last came, and how many groups' numbers are before those of batches that had
    /// come. Groups count together, since without the built-in market a symbol's group is that
    /// of its hash.
    pub(super) fn whole_state(&mut self, within: Duration) -> anyhow::Result<(u64, usize)> {
        self.noted.first = Some(vec![None; self.groups]);
        let deadline = Instant::now() + within;
        loop {
            self.turn(Duration::from_millis(5))?;
            let first = self.noted.first.iter().flatten();
            let came: Vec<First> = first.copied().flatten().collect();
            if came.len() == self.groups {
                let symbols: usize = came.iter().map(|first| first.symbols).sum();
                let all: usize = self.noted.sizes.iter().sum();
                ensure!(
                    symbols == all,
                    "after the restart snapshots tell of {symbols} of {all} symbols"
                );
                let last = came.iter().map(|first| first.nanos).max();
                let pairs = came.iter().zip(&self.noted.newest);
                let fallen_back = pairs.filter(|(first, newest)| first.seq < **newest);
                return Ok((last.unwrap_or_default(), fallen_back.count()));
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} of {} groups told their state within {within:?}",
                    came.len(),
                    self.groups
                );
            }
        }
    }

    /// Lets a newcomer in.
    fn welcome(&mut self) -> anyhow::Result<()> {
        self.newcomers += 1;
        let mut join = Vec::new();
        let token = self.mint.token(self.newcomers)?;
        wire::commands(&mut join, 1, [wire::connect(token)])?;
        let opened_nanos = self.crowd.now().nanos;
        let number = self.crowd.open(self.address, Speech::Centrifuge, join)?;
        let newcomer = Newcomer {
            group: self.newcomers % self.groups,
            opened_nanos,
            asked_nanos: 0,
            first: None,
            snapshot: None,
        };
        self.cast(number, Role::Newcomer(newcomer));
        Ok(())
    }

    fn waiting(&self) -> usize {
        let roles = self.roles.iter();
        roles
            .filter(|role| matches!(role, Role::Newcomer(_)))
            .count()
    }

    fn cast(&mut self, number: usize, role: Role) {
        if number >= self.roles.len() {
            self.roles.resize(number + 1, Role::Nobody);
        }
        self.roles[number] = role;
    }

    fn turn(&mut self, patience: Duration) -> anyhow::Result<()> {
        let Self {
            crowd,
            roles,
            noted,
            ..
        } = self;
        let mut complaint = None;
        crowd.turn(patience, |number, now, heard, out| {
            match &mut roles[number] {
                Role::Ear(ear) => ear.hear(now, &heard, noted),
                Role::Newcomer(newcomer) => {
                    if let Err(error) = newcomer.hear(number, now, &heard, out, noted) {
                        complaint = Some(error);
                    }
                }
                Role::Nobody => {}
            }
        })?;
        for number in noted.leaving.drain(..) {
            crowd.close(number);
            roles[number] = Role::Nobody;
        }
        match complaint {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Ear {
    fn hear(&mut self, now: Moment, heard: &Heard<'_>, noted: &mut Noted) {
        let Heard::Publication { subject, data } = heard else {
            return;
        };
        let Some(batch) = wire::batch(data) else {
            return;
        };
        if subject.starts_with(TICKS.as_bytes()) {
            let newest = &mut noted.newest[self.group];
            *newest = batch.seq.max(*newest);
            if let Some(figures) = &mut noted.figures {
                figures.batches += 1;
                figures.bytes += data.len() as u64;
                let age_us = now.unix_us.saturating_sub(batch.ts_ms * 1000);
                figures.end_to_end.saturating_record(age_us);
                if self.seq > 0 {
                    figures.gaps += batch.seq.saturating_sub(self.seq + 1);
                    let passed = now.nanos.saturating_sub(self.tick_nanos);
                    figures.tick_interval.saturating_record(passed / 1000);
                }
            }
            self.seq = batch.seq;
            self.tick_nanos = now.nanos;
        } else {
            if let Some(figures) = &mut noted.figures {
                figures.bytes += data.len() as u64;
                if self.snapshot_nanos > 0 {
                    let passed = now.nanos.saturating_sub(self.snapshot_nanos);
                    figures.snapshot_interval.saturating_record(passed / 1000);
                }
            }
            self.snapshot_nanos = now.nanos;
            if let Some(first) = &mut noted.first
                && first[self.group].is_none()
            {
                first[self.group] = Some(First {
                    nanos: now.nanos,
                    seq: batch.seq,
                    symbols: wire::entries(data),
                });
            }
        }
    }
}

impl Newcomer {
    fn hear(
        &mut self,
        number: usize,
        now: Moment,
        heard: &Heard<'_>,
        out: &mut Vec<u8>,
        noted: &mut Noted,
    ) -> anyhow::Result<()> {
        match heard {
            Heard::Upgraded | Heard::Pong => {}
            Heard::Reply(reply) => {
                if let Some(refused) = refusal(reply) {
                    bail!("newcomer was refused: {refused}");
                }
                if reply.id == 1 {
                    let group = name(self.group);
                    let commands = [
                        wire::subscribe(&format!("{TICKS}{group}")),
                        wire::ask_snapshot(&group),
                    ];
                    self.asked_nanos = now.nanos;
                    wire::commands(out, 2, commands)?;
                } else if let Some(rpc) = &reply.rpc {
                    let batch = wire::batch(&rpc.data).context("snapshot is no batch")?;
                    self.snapshot = Some(batch.seq);
                    let entries = wire::entries(&rpc.data);
                    let size = noted.sizes[self.group];
                    if entries != size {
                        bail!("snapshot has {entries} of {size} symbols");
                    }
                    if let Some(figures) = &mut noted.figures {
                        let asked = now.nanos.saturating_sub(self.asked_nanos);
                        let opened = now.nanos.saturating_sub(self.opened_nanos);
                        figures.first_snapshot.saturating_record(asked / 1000);
                        figures.arrival.saturating_record(opened / 1000);
                    }
                }
            }
            Heard::Publication { data, .. } => {
                let seq = wire::batch(data).context("batch is none")?.seq;
                let first = *self.first.get_or_insert(seq);
                // Done with the first batch that the snapshot does not include.
                if let Some(snapshot) = self.snapshot
                    && seq > snapshot
                {
                    if let Some(figures) = &mut noted.figures {
                        figures.unjoined += u64::from(first > snapshot + 1);
                    }
                    noted.leaving.push(number);
                    self.snapshot = None;
                }
            }
        }
        Ok(())
    }
}

impl Figures {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            tick_interval: microseconds()?,
            snapshot_interval: microseconds()?,
            end_to_end: microseconds()?,
            first_snapshot: microseconds()?,
            arrival: microseconds()?,
            batches: 0,
            bytes: 0,
            gaps: 0,
            unjoined: 0,
            failed: 0,
        })
    }
}

/// Why a command was refused, if it was.
fn refusal(reply: &Reply) -> Option<String> {
    let error = reply.error.as_ref()?;
    Some(format!("{} {}", error.code, error.message))
}

fn name(group: usize) -> String {
    format!("g{group:02}")
}

const TICKS: &str = "xy.md.tick.";
const SNAPSHOTS: &str = "xy.md.snapshot.";

/// Newcomers that have no snapshot this long after the end get none.
const NEWCOMER_WITHIN: Duration = Duration::from_secs(5);
