//! Binary frames, one by one.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ChunkError, ChunkProblem};
use crate::stratix::id::{self, check_message_id};

/// Most chunks of a message: the highest number is 65535.
pub const CHUNK_COUNT_MAX: u32 = 65_536;

/// A binary frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A payload of its own.
    Raw(&'a [u8]),
    /// A part of one.
    Chunk(Chunk<'a>),
}

/// A part of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// What will come.
    Start(Start),
    /// A piece.
    Data {
        /// Its number, from 0.
        index: u32,
        /// Of which message.
        hash: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// All has come.
    End {
        /// The message; a valid id.
        message_id: String,
        /// SHA-256 of the payload, if the sender has made it.
        checksum: Option<[u8; 32]>,
    },
}

/// What a start frame announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The message; a valid id.
    pub message_id: String,
    /// Bytes of the payload.
    pub size: u64,
    /// Chunks of the payload: 1 to [`CHUNK_COUNT_MAX`], or 0 of an empty one.
    pub count: u32,
    /// MIME type; empty if unknown.
    pub content_type: String,
    /// The payload is compressed.
    pub compressed: bool,
    /// SHA-256 of the payload, if the sender has made it.
    pub checksum: Option<[u8; 32]>,
}

impl<'a> Frame<'a> {
    /// Reads a binary frame.
    pub fn read(frame: &'a [u8]) -> Result<Self, ChunkError> {
        match frame.split_first() {
            Some((1, rest)) => start(rest).map(Chunk::Start),
            Some((2, rest)) => data(rest),
            Some((3, rest)) => end(rest),
            _ => return Ok(Self::Raw(frame)),
        }
        .map(Self::Chunk)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StartFields {
    message_id: String,
    total_size: Option<u64>,
    chunk_count: Option<u64>,
    content_type: Option<String>,
    compressed: Option<bool>,
    checksum: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndFields {
    message_id: String,
    checksum: Option<String>,
}

fn start(json: &[u8]) -> Result<Start, ChunkError> {
    let fields: StartFields = object("start", json)?;
    let message_id = message_id(fields.message_id)?;
    let about = |problem| ChunkError::about(&message_id, problem);
    let (Some(size), Some(count)) = (fields.total_size, fields.chunk_count) else {
        return Err(about(malformed(
            "start",
            "needs `totalSize` and `chunkCount`",
        )));
    };
    let is_countable = match count {
        0 => size == 0,
        _ => count <= u64::from(CHUNK_COUNT_MAX),
    };
    let count = u32::try_from(count)
        .ok()
        .filter(|_| is_countable)
        .ok_or_else(|| about(ChunkProblem::Count { count, size }))?;
    let content_type = fields.content_type.unwrap_or_default();
    if !content_type.is_empty()
        && let Err(problem) = id::check(&content_type, CONTENT_TYPE_MAX)
    {
        let problem = malformed("start", &format!("has a `contentType` that {problem}"));
        return Err(about(problem));
    }
    let checksum = checksum(fields.checksum.as_deref()).map_err(about)?;
    Ok(Start {
        size,
        count,
        content_type,
        compressed: fields.compressed.unwrap_or_default(),
        checksum,
        message_id,
    })
}

fn data(rest: &[u8]) -> Result<Chunk<'_>, ChunkError> {
    let (header, data) = rest
        .split_first_chunk::<12>()
        .ok_or_else(|| unknown(malformed("data", "is shorter than its header")))?;
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (index, hash, length) = (number(0), number(4), number(8));
    if usize::try_from(length) != Ok(data.len()) {
        let problem = format!("has {} bytes, not the {length} it says", data.len());
        return Err(unknown(malformed("data", &problem)));
    }
    Ok(Chunk::Data { index, hash, data })
}

fn end(json: &[u8]) -> Result<Chunk<'_>, ChunkError> {
    let fields: EndFields = object("end", json)?;
    let message_id = message_id(fields.message_id)?;
    let checksum = checksum(fields.checksum.as_deref())
        .map_err(|problem| ChunkError::about(&message_id, problem))?;
    Ok(Chunk::End {
        message_id,
        checksum,
    })
}

fn object<T: DeserializeOwned>(kind: &'static str, json: &[u8]) -> Result<T, ChunkError> {
    // The derived reader would also take an array of the values.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(unknown(malformed(kind, "is not a JSON object")));
    }
    serde_json::from_slice(json).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => "has a value of the wrong type",
            _ => "is not valid JSON",
        };
        let problem = format!("{problem} at byte {}", error.column());
        unknown(malformed(kind, &problem))
    })
}

fn message_id(id: String) -> Result<String, ChunkError> {
    match check_message_id(&id) {
        Ok(()) => Ok(id),
        Err(problem) => Err(unknown(ChunkProblem::Id(problem))),
    }
}

/// Empty means that the sender made none (`contracts`: R10).
fn checksum(text: Option<&str>) -> Result<Option<[u8; 32]>, ChunkProblem> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
    let mut checksum = [0; 32];
    if digits.len() != 2 * checksum.len() {
        return Err(ChunkProblem::Checksum);
    }
    for (byte, pair) in checksum.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else {
            return Err(ChunkProblem::Checksum);
        };
        *byte = (high << 4 | low) as u8;
    }
    Ok(Some(checksum))
}

fn malformed(kind: &'static str, problem: &str) -> ChunkProblem {
    ChunkProblem::Malformed {
        kind,
        problem: problem.to_owned(),
    }
}

fn unknown(problem: ChunkProblem) -> ChunkError {
    ChunkError {
        message_id: None,
        problem,
    }
}

/// Most bytes of a MIME type.
const CONTENT_TYPE_MAX: usize = 128;
