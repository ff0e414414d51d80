//! Records as brokers hold them.
//!
//! Version 1, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | priority: 0 control, 1 interactive, 2 bulk |
//! | 2–3 | length of the client's id |
//! | 4–11 | when it was accepted, milliseconds since the Unix epoch |
//! | 12–27 | the caller's key |
//! | 28–43 | the writer: drawn anew by every process that opens the outbox |
//! | 44– | the client's id, then the contents |
//! | last 4 | CRC-32C (Castagnoli) of everything before |
//!
//! Brokers check what they store in ways of their own or not at all, so the sum is ours.
//! The writer tells whether a record found at an id is the one that was sent with it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use crate::face::{Priority, Record};

/// Bytes that an envelope adds to the client's id and the contents.
pub(crate) const OVERHEAD: usize = HEAD + SUM;

/// Longest client id in bytes.
pub(crate) const CLIENT_MAX: usize = u16::MAX as usize;

/// What came out of an envelope.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The record.
    pub record: Record,
    /// Who wrote it.
    pub writer: u128,
}

/// Puts a record into an envelope. The client's id must not be longer than [`CLIENT_MAX`].
pub fn seal(record: &Record, writer: u128) -> Bytes {
    let Record {
        client,
        priority,
        at_ms,
        key,
        payload,
    } = record;
    let client = client.as_bytes();
    let length = u16::try_from(client.len()).unwrap_or(u16::MAX);
    let client = &client[..usize::from(length)];
    let mut bytes = BytesMut::with_capacity(OVERHEAD + client.len() + payload.len());
    bytes.put_u8(VERSION);
    bytes.put_u8(match priority {
        Priority::Control => 0,
        Priority::Interactive => 1,
        Priority::Bulk => 2,
    });
    bytes.put_u16_le(length);
    bytes.put_u64_le(*at_ms);
    bytes.put_u128_le(*key);
    bytes.put_u128_le(writer);
    bytes.put_slice(client);
    bytes.put_slice(payload);
    bytes.put_u32_le(sum(&bytes));
    bytes.freeze()
}

/// Takes a record out of its envelope.
///
/// # Errors
/// In words for operators, if it is not one or was changed.
pub fn open(bytes: &Bytes) -> Result<Opened, String> {
    let size = bytes.len();
    if size < OVERHEAD {
        return Err(format!("{size} bytes are too short for a record"));
    }
    let (body, stored) = (bytes.slice(..size - SUM), &bytes[size - SUM..]);
    if sum(&body).to_le_bytes() != stored {
        return Err("checksum does not match".to_owned());
    }
    if body[0] != VERSION {
        return Err(format!("version {} is not known", body[0]));
    }
    let priority = match body[1] {
        0 => Priority::Control,
        1 => Priority::Interactive,
        2 => Priority::Bulk,
        other => return Err(format!("priority {other} is not known")),
    };
    let client_end = HEAD + usize::from(u16::from_le_bytes(array(&body[2..4])));
    let client = body
        .get(HEAD..client_end)
        .ok_or("the client's id reaches beyond the record")?;
    let client = std::str::from_utf8(client).map_err(|_| "the client's id is not UTF-8")?;
    Ok(Opened {
        record: Record {
            client: Arc::from(client),
            priority,
            at_ms: u64::from_le_bytes(array(&body[4..12])),
            key: u128::from_le_bytes(array(&body[12..28])),
            payload: body.slice(client_end..),
        },
        writer: u128::from_le_bytes(array(&body[28..44])),
    })
}

/// The sum that closes an envelope.
pub fn sum(bytes: &[u8]) -> u32 {
    // A 32-bit sum in a 64-bit result.
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or(u32::MAX)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

const VERSION: u8 = 1;
const HEAD: usize = 44;
const SUM: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_comes_back_as_it_was() {
        let record = record();
        let opened = open(&seal(&record, 7)).unwrap();
        assert_eq!(opened, Opened { record, writer: 7 });
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = seal(&record(), 7);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            open(&Bytes::from(flipped)).unwrap_err();
        }
        for end in 0..sealed.len() {
            open(&sealed.slice(..end)).unwrap_err();
        }
    }

    #[test]
    fn layout_is_the_one_written_down() {
        let sealed = seal(&record(), 7);
        assert_eq!(&sealed[..4], [1, 2, 5, 0]);
        assert_eq!(sealed[4..12], 1_709_078_400_000_u64.to_le_bytes());
        assert_eq!(sealed[12], 9);
        assert_eq!(sealed[28], 7);
        assert_eq!(&sealed[44..54], b"ada-7hello");
        assert_eq!(sealed.len(), OVERHEAD + 10);
    }

    fn record() -> Record {
        Record {
            client: Arc::from("ada-7"),
            priority: Priority::Bulk,
            at_ms: 1_709_078_400_000,
            key: 9,
            payload: Bytes::from_static(b"hello"),
        }
    }
}
