//! What happens to connections, as JSON lines in a file; for finding out why something is slow.
//!
//! Off by default. A thread writes; when the disk is slower than the events these are dropped and
//! counted, so the log never holds up a packet. Each line has `t_us` (microseconds since the
//! endpoint's clock began), `guuid`, `role` and `event`:
//!
//! | event | further fields |
//! |---|---|
//! | `began` | `remote` |
//! | `connected` | `handshake_us` |
//! | `figures` | at most every 20 ms while something happens: `rtt_us`, `rtt_min_us`, `cwnd`, `inflight`, `rate` (bytes per second), `state`, `loss`, `sent`, `received`, `lost`, `retransmitted`, `spurious`, `repairs`, `recovered`, `datagram` |
//! | `moved` | `remote` |
//! | `closed` | `reason` |

use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use quantum_proto::Time;
use quantum_proto::connection::{Closed, Stats};
use serde_json::{Map, Value, json};

use crate::connection::Shared;
use crate::error::BindError;
use crate::metrics::{role_label, state_label};

/// Where events go, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    queue: Option<SyncSender<Value>>,
    dropped: AtomicU64,
}

/// Events that wait to be written.
const QUEUE: usize = 4_096;

impl EventLog {
    /// Appends to a file.
    pub(crate) fn open(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::EventLog {
            path: path.to_owned(),
            source,
        };
        let options = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        let file = options.map_err(failed)?;
        let (queue, events) = sync_channel(QUEUE);
        lifecycle::thread("quantum-log", move || write(&events, BufWriter::new(file)))
            .map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(Self {
            queue: Some(queue),
            dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Events for which there was no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn began(&self, now: Time, of: &Shared, remote: SocketAddr) {
        self.say(now, of, "began", || json!({ "remote": remote.to_string() }));
    }

    pub(crate) fn connected(&self, now: Time, of: &Shared, took: Option<Duration>) {
        self.say(
            now,
            of,
            "connected",
            || json!({ "handshake_us": took.map(micros) }),
        );
    }

    pub(crate) fn moved(&self, now: Time, of: &Shared, remote: SocketAddr) {
        self.say(now, of, "moved", || json!({ "remote": remote.to_string() }));
    }

    pub(crate) fn figures(&self, now: Time, of: &Shared, stats: &Stats) {
        self.say(now, of, "figures", || {
            json!({
                "rtt_us": micros(stats.rtt),
                "rtt_min_us": micros(stats.rtt_min),
                "cwnd": stats.cwnd,
                "inflight": stats.inflight,
                "rate": stats.pacing_rate,
                "state": state_label(stats.state),
                "loss": stats.loss,
                "sent": stats.packets_sent,
                "received": stats.packets_received,
                "lost": stats.packets_lost,
                "retransmitted": stats.retransmissions,
                "spurious": stats.spurious,
                "repairs": stats.fec_repairs_sent,
                "recovered": stats.fec_recoveries,
                "datagram": stats.datagram,
            })
        });
    }

    pub(crate) fn closed(&self, now: Time, of: &Shared, reason: &Closed) {
        self.say(
            now,
            of,
            "closed",
            || json!({ "reason": reason.to_string() }),
        );
    }

    fn say(&self, now: Time, of: &Shared, event: &str, fields: impl FnOnce() -> Value) {
        let Some(queue) = &self.queue else {
            return;
        };
        let mut line = Map::new();
        line.insert("t_us".to_owned(), json!(now.nanos() / 1_000));
        line.insert("guuid".to_owned(), json!(of.guuid.to_string()));
        line.insert("role".to_owned(), json!(role_label(of.role)));
        line.insert("event".to_owned(), json!(event));
        if let Value::Object(fields) = fields() {
            line.extend(fields);
        }
        if queue.try_send(Value::Object(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Ends with the endpoint.
fn write(events: &Receiver<Value>, mut file: impl Write) {
    while let Ok(first) = events.recv() {
        let mut batch = std::iter::once(first).chain(events.try_iter());
        let written = batch.try_for_each(|event| writeln!(file, "{event}"));
        if let Err(error) = written.and_then(|()| file.flush()) {
            tracing::warn!(%error, "event log ends: it cannot be written");
            return;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
