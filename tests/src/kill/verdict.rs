//! What came of it.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::client::Sent;
use super::ledger::Entry;
use super::scene::Scene;

/// What came of it all.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What chance started from.
    pub seed: u64,
    /// SIGKILLs.
    pub kills: u32,
    /// Of these, before the gateway was up again.
    pub kills_at_start: u32,
    /// Of these, just when a segment was begun.
    pub kills_at_roll: u32,
    /// Messages in the ledger.
    pub acked: u64,
    /// Messages that reached the agent.
    pub delivered: u64,
    /// Arrivals beyond the first of a message.
    pub duplicates: u64,
    /// Messages in the ledger that did not reach the agent, or not as they were sent.
    pub lost: u64,
    /// First arrivals behind a later one of the same client and priority.
    pub reordered: u64,
    /// What reached the agent and was not sent like that.
    pub invented: u64,
    /// Messages that the gateway had given up at the end.
    pub dead_letters: u64,
    /// Records that the gateway found damaged at the end.
    pub corrupt: u64,
    /// How long each start took, until clients could connect.
    pub recoveries: Vec<Duration>,
    /// Everything that should not have happened, in words; the first of it.
    pub remarks: Vec<String>,
}

impl Verdict {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Compares what was acknowledged and sent with what arrived.
    pub(super) fn compare(&mut self, entries: &[Entry], sent: &[Sent], scene: &Scene) {
        let book = scene.book();
        self.acked = entries.len() as u64;
        self.delivered = book.arrivals.len() as u64;
        self.duplicates = book.duplicates;
        self.reordered = book.reordered;
        self.remarks.extend(book.remarks.iter().cloned());
        let mut seen = HashSet::new();
        for Entry { name, hash } in entries {
            if !seen.insert((name.client, name.number)) {
                self.remark(format!("{name:?} is in the ledger twice"));
            }
            let arrival = book.arrivals.get(&(name.client, name.number));
            let is_there = arrival.is_some_and(|it| it.name == *name && it.hash == *hash);
            if !is_there {
                self.lost += 1;
                self.remark(format!("{name:?} was acknowledged and lost: {arrival:?}"));
            }
        }
        for arrival in book.arrivals.values() {
            let name = arrival.name;
            let sent = sent.iter().find(|sent| sent.client == name.client);
            let hash = sent.and_then(|sent| sent.hashes.get(name.number as usize));
            if hash != Some(&arrival.hash) {
                self.invented += 1;
                self.remark(format!("{name:?} arrived and was not sent like that"));
            }
        }
        let total: u64 = sent.iter().map(|sent| sent.hashes.len() as u64).sum();
        if total != self.acked {
            self.remarks.push(format!(
                "{total} messages were sent and {} acknowledged",
                self.acked
            ));
        }
    }

    /// Nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.remarks.is_empty()
            && self.lost + self.reordered + self.invented + self.dead_letters + self.corrupt == 0
    }

    /// The figures as one line of JSON.
    pub fn json(&self) -> String {
        json!({
            "bench": "kill",
            "seed": self.seed,
            "kills": self.kills,
            "kills_at_start": self.kills_at_start,
            "kills_at_roll": self.kills_at_roll,
            "acked": self.acked,
            "delivered": self.delivered,
            "duplicates": self.duplicates,
            "lost": self.lost,
            "reordered": self.reordered,
            "invented": self.invented,
            "dead_letters": self.dead_letters,
            "corrupt": self.corrupt,
            "recovery_p50_ms": milliseconds(self.recovery(0.5)),
            "recovery_max_ms": milliseconds(self.recovery(1.0)),
            "ok": self.is_clean(),
        })
        .to_string()
    }

    /// How long a start took at most, for this share of them.
    fn recovery(&self, share: f64) -> Duration {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        sorted.get(place).copied().unwrap_or_default()
    }

    fn remark(&mut self, remark: String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p50 = milliseconds(self.recovery(0.5));
        let max = milliseconds(self.recovery(1.0));
        writeln!(out, "seed          {}", self.seed)?;
        writeln!(
            out,
            "kills         {} ({} during a start, {} at a new segment)",
            self.kills, self.kills_at_start, self.kills_at_roll
        )?;
        writeln!(out, "acknowledged  {}", self.acked)?;
        writeln!(out, "delivered     {}", self.delivered)?;
        writeln!(
            out,
            "duplicates    {} (same id, same contents)",
            self.duplicates
        )?;
        writeln!(out, "lost          {}", self.lost)?;
        writeln!(out, "reordered     {}", self.reordered)?;
        writeln!(out, "invented      {}", self.invented)?;
        writeln!(out, "dead letters  {}", self.dead_letters)?;
        writeln!(out, "damaged       {}", self.corrupt)?;
        writeln!(out, "recovery      p50 {p50} ms, max {max} ms")?;
        for remark in &self.remarks {
            writeln!(out, "WRONG: {remark}")?;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

const REMARKS_MAX: usize = 100;
