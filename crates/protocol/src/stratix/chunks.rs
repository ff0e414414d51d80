//! Large payloads in pieces (`contracts`: relay 1.4, R10).
//!
//! The first byte of a binary frame says what it is:
//!
//! ```text
//! 0x01  start  JSON {messageId, totalSize, chunkCount, contentType, compressed, checksum?}
//! 0x02  data   u32 BE index | u32 BE hash(messageId) | u32 BE length | the data
//! 0x03  end    JSON {messageId, checksum}
//! else         the whole frame is a payload
//! ```
//!
//! Data names its message by a hash of 32 bits only. A start whose hash is taken is therefore
//! refused; and if it is of another message, data with that hash can't be told apart from
//! then on and ends the first message, too, unless it was whole already.
//!
//! What must hold:
//! - what the messages under way hold together is bounded when they start, by what they
//!   announce, and none ever holds more than it announced; memory grows with what has come;
//! - data may come in any order and more than once, but never differently;
//! - an assembly that broke a rule is dropped at once, and what still comes for it is refused.

mod assembly;
mod frame;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use assembly::Assembly;

use super::id::IdError;

pub use assembly::PARKED_MAX;
pub use frame::{CHUNK_COUNT_MAX, Chunk, Frame, Start};

/// What one connection may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one message.
    pub message_max: u64,
    /// Most messages at a time.
    pub assemblies: usize,
    /// Most bytes of all messages together, as they announce them.
    pub bytes: u64,
    /// A message that is not whole so long after its start is dropped.
    pub age: Duration,
}

/// The messages of one connection that are under way. Drop it when it [is
/// empty](Self::is_empty), and call [`expire`](Self::expire) at
/// [`next_expiry_ms`](Self::next_expiry_ms).
#[derive(Debug, Default)]
pub struct Chunks {
    /// By the hash of the id.
    assemblies: BTreeMap<u32, Assembly>,
}

/// A message whose chunks have all come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Its id; a valid one.
    pub message_id: String,
    /// MIME type; empty if unknown.
    pub content_type: String,
    /// The payload is compressed.
    pub compressed: bool,
    /// The payload, as large as was announced.
    pub data: Vec<u8>,
    /// SHA-256 that the payload must have, if the sender said; a message with another one is
    /// to be refused by the caller, for nothing here does cryptography.
    pub checksum: Option<[u8; 32]>,
}

/// A frame that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunked message was refused: {problem}")]
pub struct ChunkError {
    /// The message that is lost by it, if it is known: its client can be told.
    pub message_id: Option<String>,
    /// What is wrong.
    pub problem: ChunkProblem,
}

/// What is wrong with a chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkProblem {
    /// The frame is no chunk of its kind.
    #[error("{kind} frame {problem}")]
    Malformed {
        /// `start`, `data` or `end`.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The id is none.
    #[error("`messageId` {0}")]
    Id(IdError),
    /// Larger than one message may be.
    #[error("{size} bytes are more than {max}")]
    TooLarge {
        /// Bytes announced.
        size: u64,
        /// Most bytes.
        max: u64,
    },
    /// More chunks than can be numbered, or none for something.
    #[error("{count} chunks of {size} bytes in all are not between 1 and {CHUNK_COUNT_MAX}")]
    Count {
        /// Chunks announced.
        count: u64,
        /// Bytes announced.
        size: u64,
    },
    /// Neither `sha256:` and 64 hexadecimal digits nor the digits alone.
    #[error("`checksum` must be a SHA-256 in 64 hexadecimal digits, with or without `sha256:`")]
    Checksum,
    /// Start and end name different checksums.
    #[error("start and end have different checksums")]
    ChecksumChanged,
    /// Too much is under way already; a later try may succeed.
    #[error("too many messages or bytes are under way on this connection")]
    Busy,
    /// The same id, or one with the same hash, is under way already.
    #[error("a message of the same id or hash is under way already")]
    InFlight,
    /// A message of the same hash was started, so that nobody can tell whose data it is.
    #[error("its data can't be told from that of another message of the same hash")]
    Contested,
    /// Nothing of that hash or id is under way.
    #[error("no such message is under way")]
    Unknown,
    /// A number beyond those announced.
    #[error("chunk {index} is not one of {count}")]
    Index {
        /// Its number.
        index: u32,
        /// Chunks announced.
        count: u32,
    },
    /// More bytes than announced.
    #[error("more bytes came than the {size} announced")]
    Overrun {
        /// Bytes announced.
        size: u64,
    },
    /// A chunk came twice, and differently.
    #[error("chunk {index} came twice and differently")]
    Changed {
        /// Its number.
        index: u32,
    },
    /// Too many chunks came before their turn.
    #[error("more than {PARKED_MAX} chunks came before their turn")]
    Disorder,
    /// The end came before all chunks.
    #[error("only {came} of {count} chunks have come")]
    Incomplete {
        /// Chunks that came.
        came: u32,
        /// Chunks announced.
        count: u32,
    },
    /// All chunks came, and are less than announced.
    #[error("only {came} of {size} bytes have come")]
    Short {
        /// Bytes that came.
        came: u64,
        /// Bytes announced.
        size: u64,
    },
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_max: 50 * 1024 * 1024,
            assemblies: 4,
            bytes: 50 * 1024 * 1024,
            age: Duration::from_secs(600),
        }
    }
}

impl ChunkError {
    /// Whether the same message can't succeed when it is sent again.
    pub fn is_final(&self) -> bool {
        !matches!(
            self.problem,
            ChunkProblem::Busy | ChunkProblem::InFlight | ChunkProblem::Contested
        )
    }

    fn about(message_id: &str, problem: ChunkProblem) -> Self {
        Self {
            message_id: Some(message_id.to_owned()),
            problem,
        }
    }
}

impl Chunks {
    /// Takes a chunk; the end of a message answers with the message. `now_ms` is of any clock
    /// that does not step back.
    pub fn handle(
        &mut self,
        now_ms: u64,
        chunk: Chunk<'_>,
        limits: &Limits,
    ) -> Result<Option<Assembled>, ChunkError> {
        match chunk {
            Chunk::Start(start) => self.start(now_ms, start, limits).map(|()| None),
            Chunk::Data { index, hash, data } => self.data(index, hash, data).map(|()| None),
            Chunk::End {
                message_id,
                checksum,
            } => self.end(&message_id, checksum).map(Some),
        }
    }

    /// Drops what is too old; returns the ids.
    pub fn expire(&mut self, now_ms: u64) -> Vec<String> {
        let old = |_: &u32, assembly: &mut Assembly| assembly.expires_ms <= now_ms;
        self.assemblies
            .extract_if(.., old)
            .map(|(_, assembly)| assembly.start.message_id)
            .collect()
    }

    /// When something is too old, on the clock of [`handle`](Self::handle).
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.assemblies
            .values()
            .map(|assembly| assembly.expires_ms)
            .min()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.assemblies.is_empty()
    }

    /// Bytes that have come and are held.
    pub fn bytes(&self) -> u64 {
        self.assemblies.values().map(|one| one.came).sum()
    }

    fn start(&mut self, now_ms: u64, start: Start, limits: &Limits) -> Result<(), ChunkError> {
        let refuse = |start: &Start, problem| Err(ChunkError::about(&start.message_id, problem));
        if start.size > limits.message_max {
            let problem = ChunkProblem::TooLarge {
                size: start.size,
                max: limits.message_max,
            };
            return refuse(&start, problem);
        }
        let hash = hash(&start.message_id);
        if let Some(first) = self.assemblies.get_mut(&hash) {
            first.is_contested |= first.start.message_id != start.message_id;
            return refuse(&start, ChunkProblem::InFlight);
        }
        let announced = self.assemblies.values().map(|one| one.start.size);
        let announced = announced.fold(start.size, u64::saturating_add);
        if self.assemblies.len() >= limits.assemblies || announced > limits.bytes {
            return refuse(&start, ChunkProblem::Busy);
        }
        let age_ms = u64::try_from(limits.age.as_millis()).unwrap_or(u64::MAX);
        let assembly = Assembly::new(start, now_ms.saturating_add(age_ms));
        self.assemblies.insert(hash, assembly);
        Ok(())
    }

    fn data(&mut self, index: u32, hash: u32, data: &[u8]) -> Result<(), ChunkError> {
        let refused = |message_id, problem| {
            Err(ChunkError {
                message_id,
                problem,
            })
        };
        let Entry::Occupied(mut entry) = self.assemblies.entry(hash) else {
            return refused(None, ChunkProblem::Unknown);
        };
        let assembly = entry.get_mut();
        let taken = match (assembly.is_contested, assembly.is_whole()) {
            // The other message was refused when it started, and this one needs nothing.
            (true, true) => return refused(None, ChunkProblem::Contested),
            (true, false) => Err(ChunkProblem::Contested),
            (false, _) => assembly.take(index, data),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(problem) => refused(Some(entry.remove().start.message_id), problem),
        }
    }

    fn end(
        &mut self,
        message_id: &str,
        checksum: Option<[u8; 32]>,
    ) -> Result<Assembled, ChunkError> {
        let finished = match self.assemblies.entry(hash(message_id)) {
            Entry::Occupied(entry) if entry.get().start.message_id == message_id => {
                entry.remove().finish(checksum)
            }
            _ => Err(ChunkProblem::Unknown),
        };
        finished.map_err(|problem| ChunkError::about(message_id, problem))
    }
}

/// The hash by which data names its message: `31 * h + c` over the code points, from 0.
pub(super) fn hash(message_id: &str) -> u32 {
    message_id.chars().fold(0, |hash: u32, one| {
        hash.wrapping_mul(31).wrapping_add(u32::from(one))
    })
}

#[cfg(test)]
mod tests;
