//! The messages of `xy.md.v1`, read where they lie and written without anything in between.
//!
//! The aggregator reads millions of ticks a second, and a type that owns its symbol would cost an
//! allocation for each. What stands here reads and writes the same bytes as the types of `api`,
//! which the tests compare; fields that are not known are skipped, as the contract wants it.
//!
//! A symbol is bytes here: whoever takes a new one checks that it is text.

/// What happened to one symbol (`xy.md.v1.Tick`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tick<'a> {
    /// Time of the price, in milliseconds since 1970 UTC.
    pub ts_ms: i64,
    /// Name of what is traded.
    pub symbol: &'a [u8],
    /// Last price.
    pub price: f64,
    /// What was traded since the tick before.
    pub volume: u64,
}

/// What is known of one symbol (`xy.md.v1.Snapshot`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot<'a> {
    /// Time of the last change, in milliseconds since 1970 UTC.
    pub ts_ms: i64,
    /// Name of what is traded.
    pub symbol: &'a [u8],
    /// Best price somebody would pay.
    pub bid: f64,
    /// Best price somebody would sell at.
    pub ask: f64,
    /// What could be sold at the bid.
    pub bid_size: u64,
    /// What could be bought at the ask.
    pub ask_size: u64,
    /// Last price.
    pub last: f64,
    /// All that was traded since the aggregator counts.
    pub volume: u64,
}

/// A `TickBatch` or a `SnapshotBatch`, which differ in their entries only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch<'a> {
    /// Name of the group.
    pub group: &'a str,
    /// Number of the batch, or of the last batch that a snapshot includes.
    pub seq: u64,
    /// When it was closed, in milliseconds since 1970 UTC.
    pub ts_ms: i64,
    entries: Vec<&'a [u8]>,
}

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end within a field.
    #[error("message is cut short at byte {at}")]
    CutShort {
        /// Where more was expected.
        at: usize,
    },
    /// A number of more than 64 bits, or a field number that cannot be.
    #[error("message has a number out of range at byte {at}")]
    OutOfRange {
        /// Behind the number.
        at: usize,
    },
    /// A group of fields, which nobody writes any more.
    #[error("message has a field of a type that is not supported at byte {at}")]
    Unsupported {
        /// Behind the key of the field.
        at: usize,
    },
    /// A known field holds something else than it should.
    #[error("field {field} is of another type")]
    OtherType {
        /// Its number.
        field: u32,
    },
    /// The name of a group is not UTF-8.
    #[error("name of the group is not text")]
    NotText,
}

impl<'a> Tick<'a> {
    /// Reads one message.
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut tick = Self::default();
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Number(number)) => tick.ts_ms = number.cast_signed(),
                (2, Value::Bytes(bytes)) => tick.symbol = bytes,
                (3, Value::Fixed(bits)) => tick.price = f64::from_bits(bits),
                (4, Value::Number(number)) => tick.volume = number,
                (1..=4, _) => return Err(WireError::OtherType { field }),
                _ => {}
            }
        }
        Ok(tick)
    }

    /// Writes one message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.ts_ms.cast_unsigned());
        put_bytes(out, 2, self.symbol);
        put_double(out, 3, self.price);
        put_number(out, 4, self.volume);
    }

    fn written_len(&self) -> usize {
        number_len(self.ts_ms.cast_unsigned())
            + bytes_len(self.symbol)
            + double_len(self.price)
            + number_len(self.volume)
    }
}

impl<'a> Snapshot<'a> {
    /// Reads one message.
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut snapshot = Self::default();
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Number(number)) => snapshot.ts_ms = number.cast_signed(),
                (2, Value::Bytes(bytes)) => snapshot.symbol = bytes,
                (3, Value::Fixed(bits)) => snapshot.bid = f64::from_bits(bits),
                (4, Value::Fixed(bits)) => snapshot.ask = f64::from_bits(bits),
                (5, Value::Number(number)) => snapshot.bid_size = number,
                (6, Value::Number(number)) => snapshot.ask_size = number,
                (7, Value::Fixed(bits)) => snapshot.last = f64::from_bits(bits),
                (8, Value::Number(number)) => snapshot.volume = number,
                (1..=8, _) => return Err(WireError::OtherType { field }),
                _ => {}
            }
        }
        Ok(snapshot)
    }

    /// Writes one message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.ts_ms.cast_unsigned());
        put_bytes(out, 2, self.symbol);
        put_double(out, 3, self.bid);
        put_double(out, 4, self.ask);
        put_number(out, 5, self.bid_size);
        put_number(out, 6, self.ask_size);
        put_double(out, 7, self.last);
        put_number(out, 8, self.volume);
    }

    fn written_len(&self) -> usize {
        number_len(self.ts_ms.cast_unsigned())
            + bytes_len(self.symbol)
            + double_len(self.bid)
            + double_len(self.ask)
            + number_len(self.bid_size)
            + number_len(self.ask_size)
            + double_len(self.last)
            + number_len(self.volume)
    }
}

impl<'a> Batch<'a> {
    /// Reads the frame of a batch; its entries are read by [`Batch::ticks`] or
    /// [`Batch::snapshots`].
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut batch = Self::default();
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Bytes(bytes)) => {
                    batch.group = std::str::from_utf8(bytes).map_err(|_| WireError::NotText)?;
                }
                (2, Value::Number(number)) => batch.seq = number,
                (3, Value::Number(number)) => batch.ts_ms = number.cast_signed(),
                (4, Value::Bytes(bytes)) => batch.entries.push(bytes),
                (1..=4, _) => return Err(WireError::OtherType { field }),
                _ => {}
            }
        }
        Ok(batch)
    }

    /// The entries of a `TickBatch`.
    pub fn ticks(&self) -> Result<Vec<Tick<'a>>, WireError> {
        self.entries.iter().map(|entry| Tick::read(entry)).collect()
    }

    /// The entries of a `SnapshotBatch`.
    pub fn snapshots(&self) -> Result<Vec<Snapshot<'a>>, WireError> {
        let entries = self.entries.iter();
        entries.map(|entry| Snapshot::read(entry)).collect()
    }
}

/// Writes a batch without entries; what is appended by [`add_tick`] or [`add_snapshot`] is part
/// of it.
pub fn begin_batch(out: &mut Vec<u8>, group: &str, seq: u64, ts_ms: i64) {
    put_bytes(out, 1, group.as_bytes());
    put_number(out, 2, seq);
    put_number(out, 3, ts_ms.cast_unsigned());
}

/// Appends a tick to a batch.
pub fn add_tick(out: &mut Vec<u8>, tick: &Tick<'_>) {
    put_key(out, 4, TYPE_BYTES);
    put_varint(out, tick.written_len() as u64);
    tick.write(out);
}

/// Appends a snapshot to a batch.
pub fn add_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    put_key(out, 4, TYPE_BYTES);
    put_varint(out, snapshot.written_len() as u64);
    snapshot.write(out);
}

enum Value<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// 32 bits, which no field of ours has.
    Other,
}

struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn of(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    #[inline]
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.at == self.message.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key).map_err(|_| WireError::OutOfRange { at: self.at })? >> 3;
        if field == 0 {
            return Err(WireError::OutOfRange { at: self.at });
        }
        let value = match (key & 7) as u8 {
            TYPE_NUMBER => Value::Number(self.varint()?),
            TYPE_FIXED => {
                let bytes = self.take(8)?;
                let bytes: [u8; 8] = bytes.try_into().unwrap_or_default();
                Value::Fixed(u64::from_le_bytes(bytes))
            }
            TYPE_BYTES => {
                let length = self.varint()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Value::Bytes(self.take(length)?)
            }
            TYPE_FIXED_32 => {
                self.take(4)?;
                Value::Other
            }
            _ => return Err(WireError::Unsupported { at: self.at }),
        };
        Ok(Some((field, value)))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length);
        let taken = taken.ok_or(WireError::CutShort {
            at: self.message.len(),
        })?;
        self.at += length;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.message.get(self.at);
            let byte = *byte.ok_or(WireError::CutShort { at: self.at })?;
            self.at += 1;
            // Nine times seven bits leave one for the tenth byte.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(WireError::OutOfRange { at: self.at })
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        put_key(out, field, TYPE_NUMBER);
        put_varint(out, number);
    }
}

fn put_double(out: &mut Vec<u8>, field: u8, number: f64) {
    if number != 0.0 {
        put_key(out, field, TYPE_FIXED);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_key(out, field, TYPE_BYTES);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// All our fields have numbers below 16, and so keys of one byte.
fn put_key(out: &mut Vec<u8>, field: u8, kind: u8) {
    out.push(field << 3 | kind);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number_len(number: u64) -> usize {
    if number == 0 {
        0
    } else {
        1 + varint_len(number)
    }
}

fn double_len(number: f64) -> usize {
    if number == 0.0 { 0 } else { 9 }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + varint_len(bytes.len() as u64) + bytes.len()
    }
}

fn varint_len(number: u64) -> usize {
    // Every seven bits begun take a byte, and zero takes one too.
    ((number | 1).ilog2() / 7 + 1) as usize
}

const TYPE_NUMBER: u8 = 0;
const TYPE_FIXED: u8 = 1;
const TYPE_BYTES: u8 = 2;
const TYPE_FIXED_32: u8 = 5;

#[cfg(test)]
mod tests;
