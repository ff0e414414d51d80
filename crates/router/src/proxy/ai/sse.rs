//! Server-sent events, taken apart as they pass (HTML Living Standard, 9.2.6).
//!
//! The scanner hands out the data of events piece by piece, where it lies, and keeps
//! nothing of it: an event may have any size, and chunks may be cut anywhere. What it
//! remembers is where in an event it is, so that somebody can add a comment or an event
//! of their own between two.

use memchr::memchr2;

/// Reads a stream of events.
#[derive(Debug, Clone)]
pub struct Scanner {
    state: State,
    /// The name of the field that is being read, as far as it matters.
    name: [u8; NAME_MAX],
    name_len: usize,
    /// Bytes of a byte order mark seen at the stream's start; `None` after it.
    mark: Option<usize>,
    /// The last byte was CR: an LF now belongs to it.
    is_after_cr: bool,
    /// Fields of the event that is under way have been read.
    is_under_way: bool,
    /// One of them was `data`.
    has_data: bool,
    events: u64,
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part of a line of data; never empty.
    Data(&'a [u8]),
    /// A line of data is over. Lines of one event are joined by a newline.
    LineEnd,
    /// An event with data is over.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a field's name, or at the start of a line.
    Name,
    /// After the colon: one space is not part of the value.
    Space,
    /// In the value of `data`.
    Data,
    /// In a comment or the value of another field.
    Skip,
}

impl Scanner {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self {
            state: State::Name,
            name: [0; NAME_MAX],
            name_len: 0,
            mark: Some(0),
            is_after_cr: false,
            is_under_way: false,
            has_data: false,
            events: 0,
        }
    }

    /// Reads on. Pieces borrow from `chunk`.
    pub fn push<'a>(&mut self, mut chunk: &'a [u8], mut sink: impl FnMut(Piece<'a>)) {
        while let Some((&byte, rest)) = chunk.split_first() {
            if std::mem::take(&mut self.is_after_cr) && byte == b'\n' {
                chunk = rest;
                continue;
            }
            chunk = match self.state {
                State::Name => {
                    self.name_byte(byte, &mut sink);
                    rest
                }
                State::Space => {
                    self.state = if self.is_data() {
                        State::Data
                    } else {
                        State::Skip
                    };
                    if byte == b' ' { rest } else { chunk }
                }
                State::Data | State::Skip => self.value(chunk, &mut sink),
            };
        }
    }

    /// Nothing of an event, a comment or a line end is under way: what is written here
    /// stands between two events.
    ///
    /// A stream whose lines end in CR alone never gets here, for it can't be told from
    /// one that is cut within CR LF.
    pub fn at_boundary(&self) -> bool {
        self.state == State::Name
            && self.name_len == 0
            && !self.is_under_way
            && !self.is_after_cr
            && matches!(self.mark, None | Some(0 | MARK_LEN))
    }

    /// Events with data that were complete.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn name_byte<'a>(&mut self, byte: u8, sink: &mut impl FnMut(Piece<'a>)) {
        if let Some(seen) = self.mark {
            if MARK.get(seen) == Some(&byte) {
                self.mark = Some(seen + 1);
                return;
            }
            self.mark = None;
            // Half a mark is the start of a name that nobody knows.
            if seen != 0 && seen != MARK_LEN {
                self.name_len = NAME_MAX;
            }
        }
        match byte {
            b'\r' | b'\n' => self.line_end(byte, sink),
            b':' if self.name_len == 0 => self.state = State::Skip,
            b':' => {
                self.is_under_way = true;
                self.state = State::Space;
            }
            _ => {
                if let Some(place) = self.name.get_mut(self.name_len) {
                    *place = byte;
                    self.name_len += 1;
                }
            }
        }
    }

    /// Reads on in a value; returns what comes after it or its end.
    fn value<'a>(&mut self, chunk: &'a [u8], sink: &mut impl FnMut(Piece<'a>)) -> &'a [u8] {
        let end = memchr2(b'\r', b'\n', chunk).unwrap_or(chunk.len());
        let (value, rest) = chunk.split_at(end);
        if self.state == State::Data && !value.is_empty() {
            sink(Piece::Data(value));
        }
        match rest.split_first() {
            Some((&byte, rest)) => {
                self.line_end(byte, sink);
                rest
            }
            None => rest,
        }
    }

    fn line_end<'a>(&mut self, byte: u8, sink: &mut impl FnMut(Piece<'a>)) {
        self.is_after_cr = byte == b'\r';
        let is_blank = self.state == State::Name && self.name_len == 0;
        if is_blank {
            self.is_under_way = false;
            if std::mem::take(&mut self.has_data) {
                self.events += 1;
                sink(Piece::End);
            }
        } else if self.is_data() {
            self.is_under_way = true;
            self.has_data = true;
            sink(Piece::LineEnd);
        }
        self.name_len = 0;
        self.state = State::Name;
    }

    fn is_data(&self) -> bool {
        self.name.get(..self.name_len) == Some(b"data")
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

/// One more than the longest name that matters, so that a longer one is another.
const NAME_MAX: usize = 5;
/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";
const MARK_LEN: usize = 3;

#[cfg(test)]
mod tests;
