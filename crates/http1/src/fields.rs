//! Fields of a head: names and values in the order and spelling they came in.
//!
//! The values stay where they were read; what is added is kept beside. So taking a
//! head from one connection to the next copies nothing but what is written.

use std::ops::Range;

use bytes::Bytes;

/// Fields of a head or of trailers.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    block: Bytes,
    own: Vec<u8>,
    list: Vec<Entry>,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which one, if the gateway has to know it.
    pub known: Known,
    /// As it was spelt.
    name: &'a [u8],
    /// Without white space around it; never CR, LF or NUL.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether this is its name; case does not matter.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether its name begins so; case does not matter.
    pub fn name_begins(&self, prefix: &str) -> bool {
        self.name
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }

    /// Its name, as it was spelt.
    pub fn name(&self) -> &'a str {
        // A token, which is ASCII. To look at that only here is quicker.
        str::from_utf8(self.name).unwrap_or("")
    }
}

/// A name or value that can't stand in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid field name or value")]
pub struct InvalidField;

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    /// Both parts lie in `own`, not in `block`.
    is_own: bool,
    name: Range<u32>,
    value: Range<u32>,
}

macro_rules! known {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// Fields that the gateway reads, writes or strips.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of its name")]
        pub enum Known { $($variant,)+
            /// Any other.
            Other,
        }

        impl Known {
            /// The name, in lower case; empty for [`Known::Other`].
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ Self::Other => "" }
            }

            const NAMED: &[Self] = &[$(Self::$variant),+];
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    KeepAlive = "keep-alive",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    RetryAfter = "retry-after",
    SecWebSocketAccept = "sec-websocket-accept",
    SecWebSocketKey = "sec-websocket-key",
    Server = "server",
    Te = "te",
    Traceparent = "traceparent",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
}

impl Known {
    /// Which one a name is; case does not matter.
    pub fn of(name: &[u8]) -> Self {
        let slot = SLOTS.get(slot_of(name, SEED)).copied().unwrap_or(EMPTY);
        match NAMES.get(usize::from(slot)) {
            Some((known, spelt)) if is_same(name, spelt.as_bytes()) => *known,
            _ => Self::Other,
        }
    }

    /// It speaks of one connection and ends at it (RFC 9110, 7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// Case aside; `lower` is in lower case. No early end: so the loop becomes vector
/// instructions.
fn is_same(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).fold(0, |differs, (one, other)| {
            differs | (one.to_ascii_lowercase() ^ other)
        }) == 0
}

/// By the numbers in [`SLOTS`].
const NAMES: [(Known, &str); Known::NAMED.len()] = {
    let mut names = [(Known::Other, ""); Known::NAMED.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = (Known::NAMED[index], Known::NAMED[index].name());
        index += 1;
    }
    names
};

const SLOT_COUNT: usize = 256;
const EMPTY: u8 = u8::MAX;

/// With this seed no two names of [`Known`] share a slot; found when this is compiled.
const SEED: usize = seed();
const SLOTS: [u8; SLOT_COUNT] = match slots(SEED) {
    Some(slots) => slots,
    None => [EMPTY; SLOT_COUNT],
};

/// Length, first and last byte tell the names of [`Known`] apart.
const fn slot_of(name: &[u8], seed: usize) -> usize {
    if name.is_empty() {
        return 0;
    }
    let (first, last) = (name[0] | 0x20, name[name.len() - 1] | 0x20);
    let mixed = (name.len() ^ ((first as usize) << 8) ^ ((last as usize) << 16)).wrapping_mul(seed);
    (mixed >> 16) % SLOT_COUNT
}

const fn slots(seed: usize) -> Option<[u8; SLOT_COUNT]> {
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut index = 0;
    while index < Known::NAMED.len() {
        let slot = slot_of(Known::NAMED[index].name().as_bytes(), seed);
        if slots[slot] != EMPTY {
            return None;
        }
        slots[slot] = index as u8;
        index += 1;
    }
    Some(slots)
}

const fn seed() -> usize {
    assert!(Known::NAMED.len() < EMPTY as usize);
    let mut seed = 0x9e37_79b1;
    let mut tries = 0;
    while slots(seed).is_none() {
        seed += 2;
        tries += 1;
        assert!(
            tries < 10_000,
            "two names share length, first and last byte"
        );
    }
    seed
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// No fields, those to come lying in `block`.
    pub(crate) fn within(block: Bytes, capacity: usize) -> Self {
        Self {
            block,
            own: Vec::new(),
            list: Vec::with_capacity(capacity),
        }
    }

    /// Takes up a field that lies in the block; the parser has checked it.
    pub(crate) fn take_up(&mut self, name: Range<u32>, value: Range<u32>) -> Known {
        let known = Known::of(slice(&self.block, &name));
        self.list.push(Entry {
            known,
            is_own: false,
            name,
            value,
        });
        known
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.list.iter().map(|entry| self.field(entry))
    }

    /// The first value of a field.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.all(known).next()
    }

    /// All values of a field, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.list
            .iter()
            .filter(move |entry| entry.known == known)
            .map(|entry| self.field(entry).value)
    }

    /// The first value of a field that [`Known`] may not list; case does not matter.
    pub fn get_named(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|field| field.is_named(name))
            .map(|field| field.value)
    }

    /// The value as text, if it is UTF-8.
    pub fn text(&self, known: Known) -> Option<&str> {
        self.get(known).and_then(|value| str::from_utf8(value).ok())
    }

    /// A value where it lies, without a copy if it came from the wire.
    pub fn shared(&self, known: Known) -> Option<Bytes> {
        let entry = self.list.iter().find(|entry| entry.known == known)?;
        Some(if entry.is_own {
            Bytes::copy_from_slice(slice(&self.own, &entry.value))
        } else {
            self.block
                .slice(entry.value.start as usize..entry.value.end as usize)
        })
    }

    /// Takes a field out, all values.
    pub fn remove(&mut self, known: Known) {
        self.list.retain(|entry| entry.known != known);
    }

    /// Keeps what `keep` likes.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let (block, own) = (&self.block, &self.own);
        self.list.retain(|entry| {
            let source: &[u8] = if entry.is_own { own } else { block };
            keep(field_of(entry, source))
        });
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &str, value: &[u8]) -> Result<(), InvalidField> {
        if !is_name(name.as_bytes()) || !is_value(value) {
            return Err(InvalidField);
        }
        if self.own.capacity() == 0 {
            // What one adds, and the next.
            self.own.reserve(OWN_USUAL);
        }
        let start = self.own.len();
        self.own.extend_from_slice(name.as_bytes());
        let middle = self.own.len();
        self.own.extend_from_slice(value);
        let range =
            |from: usize, to: usize| Some(u32::try_from(from).ok()?..u32::try_from(to).ok()?);
        let (Some(name_range), Some(value_range)) =
            (range(start, middle), range(middle, self.own.len()))
        else {
            self.own.truncate(start);
            return Err(InvalidField);
        };
        self.list.push(Entry {
            known: Known::of(name.as_bytes()),
            is_own: true,
            name: name_range,
            value: value_range,
        });
        Ok(())
    }

    /// Puts a field in place of all of its name.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), InvalidField> {
        match Known::of(name.as_bytes()) {
            Known::Other => self.retain(|field| !field.is_named(name)),
            known => self.remove(known),
        }
        self.push(name, value)
    }

    /// The fields of an HTTP/2 message. White space around values is cut off.
    pub fn from_header_map(map: &http::HeaderMap) -> Self {
        let size = map
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let mut fields = Self {
            block: Bytes::new(),
            own: Vec::with_capacity(size),
            list: Vec::with_capacity(map.len()),
        };
        for (name, value) in map {
            // Both types hold only what is allowed, so nothing is refused here, short of 4 GiB.
            let _ = fields.push(name.as_str(), value.as_bytes().trim_ascii());
        }
        fields
    }

    /// For an HTTP/2 message: names in lower case, values from the wire not copied.
    ///
    /// # Errors
    ///
    /// More fields than a map can hold (24,576 names).
    pub fn to_header_map(&self) -> Result<http::HeaderMap, InvalidField> {
        let mut map =
            http::HeaderMap::try_with_capacity(self.list.len()).map_err(|_| InvalidField)?;
        for entry in &self.list {
            let field = self.field(entry);
            let name = http::HeaderName::from_bytes(field.name).map_err(|_| InvalidField)?;
            let value = if entry.is_own {
                http::HeaderValue::from_bytes(field.value)
            } else {
                let at = entry.value.start as usize..entry.value.end as usize;
                http::HeaderValue::from_maybe_shared(self.block.slice(at))
            };
            map.try_append(name, value.map_err(|_| InvalidField)?)
                .map_err(|_| InvalidField)?;
        }
        Ok(map)
    }

    /// Names and values as bytes, in order.
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|entry| {
            let source: &[u8] = if entry.is_own { &self.own } else { &self.block };
            (slice(source, &entry.name), slice(source, &entry.value))
        })
    }

    fn field(&self, entry: &Entry) -> Field<'_> {
        field_of(entry, if entry.is_own { &self.own } else { &self.block })
    }
}

fn field_of<'a>(entry: &Entry, source: &'a [u8]) -> Field<'a> {
    Field {
        known: entry.known,
        name: slice(source, &entry.name),
        value: slice(source, &entry.value),
    }
}

fn slice<'a>(source: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    source
        .get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

/// Bytes that a proxy usually adds to a head.
const OWN_USUAL: usize = 320;

/// RFC 9110, 5.6.2: a token.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && spelling(name) & NO_TOKEN == 0
}

/// All bytes of a name in one: [`UNDERSCORE`] and [`NO_TOKEN`], or neither.
pub(crate) fn spelling(name: &[u8]) -> u8 {
    name.iter()
        .fold(0, |found, byte| found | CLASSES[usize::from(*byte)])
}

/// Where the first colon of a line stands, and the spelling of what is before it.
pub(crate) fn name_end(line: &[u8]) -> Option<(usize, u8)> {
    let mut spelling = 0;
    for (at, byte) in line.iter().enumerate() {
        if *byte == b':' {
            return Some((at, spelling));
        }
        spelling |= CLASSES[usize::from(*byte)];
    }
    None
}

/// RFC 9110, 5.5: visible characters, spaces, tabs and obs-text; nothing around them.
pub(crate) fn is_value(value: &[u8]) -> bool {
    // No early end: so the loop becomes vector instructions.
    value.iter().fold(true, |fine, byte| {
        fine & ((*byte == b'\t') | ((*byte >= 0x20) & (*byte != 0x7f)))
    })
}

pub(crate) const UNDERSCORE: u8 = 1;
pub(crate) const NO_TOKEN: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut classes = [NO_TOKEN; 256];
    let letters = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut index = 0;
    while index < letters.len() {
        classes[letters[index] as usize] = 0;
        index += 1;
    }
    classes[b'_' as usize] = UNDERSCORE;
    classes
};

#[cfg(test)]
mod tests;
