//! What the bus over NATS is told.

use std::time::Duration;

use protocol::subject::{Pattern, Subject};

use super::NatsBusError;
use crate::MemoryConfig;

/// How the bus uses NATS.
///
/// # What each role must be allowed
///
/// With `P` for the prefix (`tidegate`), `H` for `TIDEGATE_HISTORY`, `V` for the patterns
/// of `subjects` and `S` for each stream over them.
///
/// A gateway:
///
/// | | subjects |
/// |---|---|
/// | subscribe | `P.live.>`, `P.control`, `P.state.>`, `V`, `_INBOX.>` |
/// | publish | `P.live.>`, `P.history.>`, `P.control`, `P.sync`, `$KV.TIDEGATE_PRESENCE.>`, `$KV.TIDEGATE_STATE.>`, `$JS.API.INFO`, `$JS.API.STREAM.INFO.>`, `$JS.API.DIRECT.GET.>`, `$JS.API.STREAM.PURGE.H`, `xy.md.req.>`, `xy.flags` |
/// | if it may create | publish `$JS.API.STREAM.CREATE.>`, `$JS.API.STREAM.UPDATE.>` |
///
/// So it can't publish market data. An aggregator:
///
/// | | subjects |
/// |---|---|
/// | subscribe | `xy.src.tick.>`, `xy.src.replay.>`, `xy.ref.contract.>`, `xy.md.req.>`, `_INBOX.>` |
/// | publish | `xy.md.tick.>`, `xy.md.snapshot.>`, `xy.exec.health`, `P.sync`, `$JS.API.INFO`, `$JS.API.STREAM.INFO.>`, `$JS.API.DIRECT.GET.>`, and responses to requests (`allow_responses`) |
///
/// A pattern of `subjects` may be wider than what is allowed: refused is only what somebody
/// asks for beyond. Whoever may do less gets errors that name the subject, at the start for what the start
/// needs.
#[derive(Debug, Clone)]
pub struct NatsBusConfig {
    /// Begins the subjects of our own channels, and in capitals the names of our own
    /// streams and buckets. One token. Gateways with the same prefix are one cluster.
    pub prefix: String,
    /// Names this process among those of the cluster; no other may have the same.
    pub node: String,
    /// Channels that are NATS subjects as they stand. They have publishers of their own,
    /// who alone number what they send; no two of these may overlap.
    pub subjects: Vec<Pattern>,
    /// Streams over subjects of others.
    pub streams: Vec<StreamConfig>,
    /// Whether streams and buckets that are absent may be created.
    pub create: bool,
    /// Whether our own channels may have history and presence, and state is kept, all of
    /// which needs JetStream.
    pub keep: bool,
    /// Copies of our own streams and of those created, in a cluster of NATS.
    pub replicas: usize,
    /// Most publications that one channel keeps: the largest size that any channel asks
    /// for, plus two.
    pub history_max: usize,
    /// Most bytes of our own history stream; the oldest go first.
    pub history_bytes_max: u64,
    /// Where our own history lies.
    pub history_storage: StreamStorage,
    /// How long interest in a subject outlives its last subscriber here, so that many who
    /// come and go are no storm at the servers.
    pub linger: Duration,
    /// Messages that wait to be sent; a publication beyond is refused as busy.
    pub queue: usize,
    /// Limits of what is held in memory: `channels_max`, `patterns_max`, `presence_max`.
    pub limits: MemoryConfig,
}

/// A stream over subjects of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it stores.
    pub subjects: Vec<Pattern>,
    /// How long a message is kept; zero means for ever.
    pub max_age: Duration,
    /// Most bytes; the oldest go first. 0 means a tenth of what the server has free, at
    /// most 200 GiB; which that is stands in the log.
    pub max_bytes: u64,
    /// Most messages per subject; 0 means as many as there is room for.
    pub max_per_subject: u64,
    /// Where it lies.
    pub storage: StreamStorage,
}

/// Where a stream lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStorage {
    /// On the server's disk.
    File,
    /// In the server's memory: gone when it restarts.
    Memory,
}

impl Default for NatsBusConfig {
    fn default() -> Self {
        Self {
            prefix: "tidegate".to_owned(),
            node: String::new(),
            subjects: Vec::new(),
            streams: Vec::new(),
            create: true,
            keep: true,
            replicas: 1,
            history_max: 1_000,
            history_bytes_max: 1 << 30,
            history_storage: StreamStorage::File,
            linger: Duration::from_secs(5),
            queue: 8_192,
            limits: MemoryConfig::default(),
        }
    }
}

impl NatsBusConfig {
    /// Checks what no server needs to be asked for.
    ///
    /// # Errors
    ///
    /// [`NatsBusError::Setting`] names the setting and what is wrong.
    pub fn check(&self) -> Result<(), NatsBusError> {
        let refuse = |setting, why: String| Err(NatsBusError::Setting { setting, why });
        if !is_name(&self.prefix) {
            return refuse(
                "prefix",
                format!("{:?} is not letters, digits, - and _", self.prefix),
            );
        }
        if self.node.is_empty() || Subject::new(&self.node).is_err() {
            return refuse("node", format!("{:?} is not a name", self.node));
        }
        let own = Pattern::new(&format!("{}.>", self.prefix));
        for (index, pattern) in self.subjects.iter().enumerate() {
            if let Some(other) = self.subjects[..index].iter().find(|o| o.overlaps(pattern)) {
                return refuse("subjects", format!("{pattern} overlaps {other}"));
            }
            if own.as_ref().is_ok_and(|own| own.overlaps(pattern)) {
                return refuse(
                    "subjects",
                    format!("{pattern} overlaps what begins with {}", self.prefix),
                );
            }
        }
        for stream in &self.streams {
            if !is_name(&stream.name) || stream.subjects.is_empty() {
                return refuse(
                    "streams",
                    format!("{:?} needs a name and subjects", stream.name),
                );
            }
        }
        if self.replicas == 0 || self.history_max < 2 || self.queue == 0 {
            return refuse(
                "replicas, history_max, queue",
                "1, 2 and 1 are the least".to_owned(),
            );
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use protocol::subject::Pattern;

    use super::NatsBusConfig;

    #[test]
    fn settings_are_checked() {
        let config = |change: fn(&mut NatsBusConfig)| {
            let mut config = NatsBusConfig {
                node: "a".to_owned(),
                subjects: vec![Pattern::new("xy.>").unwrap()],
                ..NatsBusConfig::default()
            };
            change(&mut config);
            config.check().err().map(|error| error.to_string())
        };
        assert_eq!(config(|_| {}), None);
        let refused = [
            config(|config| config.prefix = "a.b".to_owned()),
            config(|config| config.node.clear()),
            config(|config| config.subjects.push(Pattern::new("*.md").unwrap())),
            config(|config| config.subjects = vec![Pattern::new(">").unwrap()]),
            config(|config| config.replicas = 0),
        ];
        assert!(refused.iter().all(Option::is_some), "{refused:?}");
    }
}
