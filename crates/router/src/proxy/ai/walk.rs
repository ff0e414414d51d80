//! A walk over JSON as it passes, cut anywhere, that holds nothing of it.
//!
//! Whoever walks is told each value with the keys that lead to it. Only keys in [`Key`]
//! have a name, others are [`Key::Other`]; elements of arrays are [`Key::Item`]. Of a
//! string, its beginning is shown and its characters are counted.
//!
//! It does not check what it reads: what is no JSON ends the walk
//! or is told in some way, and nothing worse.

use memchr::memchr2;

/// Reads one document.
#[derive(Debug, Clone)]
pub(super) struct Walker {
    state: State,
    depth: usize,
    /// For each level from the outermost, whether it is an object.
    objects: u128,
    path: [Key; PATH_MAX],
    /// The beginning of the scalar or the key that is being read, as it is spelt.
    held: Held,
    is_key: bool,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// An object begins.
    Object,
    /// So many characters of a string have passed; a string is told in one or more parts.
    Characters(u64),
    /// A string is over.
    Text(Spelling<'a>),
    /// A number, `true`, `false` or `null`.
    Bare(&'a [u8]),
}

/// A string as it is spelt: without its quotes, with its escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling<'a> {
    spelt: &'a [u8],
    is_cut: bool,
}

impl Spelling<'_> {
    /// What is meant, unless it is too long or no text.
    pub(super) fn text(&self) -> Option<String> {
        if self.is_cut {
            return None;
        }
        if !self.spelt.contains(&b'\\') {
            return str::from_utf8(self.spelt).ok().map(str::to_owned);
        }
        let quoted = [b"\"", self.spelt, b"\""].concat();
        serde_json::from_slice(&quoted).ok()
    }

    /// It is this plain word.
    pub(super) fn is(&self, word: &str) -> bool {
        !self.is_cut && self.spelt == word.as_bytes()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value, or the end of an array.
    Value,
    /// A key, or the end of an object.
    Key,
    Colon,
    /// A comma or the end of what is open.
    After,
    /// Within a string.
    Text,
    /// Within a string, after a backslash.
    Escape,
    /// Within a string, so many digits of `\u` are to come.
    Hex(u8),
    /// Within a number or a word.
    Bare,
    Done,
    Lost,
}

#[derive(Debug, Clone)]
struct Held {
    bytes: [u8; HELD_MAX],
    len: usize,
    is_cut: bool,
}

macro_rules! keys {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// A step from a value to one within it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key { $($variant,)+
            /// An element of an array.
            Item,
            /// A key without a name here.
            Other,
        }

        impl Key {
            #[expect(non_upper_case_globals, reason = "the names are those of the variants")]
            fn of(name: &[u8]) -> Self {
                $(const $variant: &[u8] = $name.as_bytes();)+
                match name { $($variant => Self::$variant,)+ _ => Self::Other }
            }
        }
    };
}

keys! {
    Arguments = "arguments",
    CacheCreation = "cache_creation_input_tokens",
    CacheRead = "cache_read_input_tokens",
    CachedTokens = "cached_tokens",
    Choices = "choices",
    CompletionTokens = "completion_tokens",
    Content = "content",
    ContentBlock = "content_block",
    Data = "data",
    Delta = "delta",
    Error = "error",
    FileData = "file_data",
    FinishReason = "finish_reason",
    Function = "function",
    FunctionCall = "function_call",
    IncludeUsage = "include_usage",
    Input = "input",
    InputTokens = "input_tokens",
    InputTokensDetails = "input_tokens_details",
    Instructions = "instructions",
    MaxCompletionTokens = "max_completion_tokens",
    MaxOutputTokens = "max_output_tokens",
    MaxTokens = "max_tokens",
    Message = "message",
    Messages = "messages",
    Model = "model",
    N = "n",
    Name = "name",
    Output = "output",
    OutputTokens = "output_tokens",
    PartialJson = "partial_json",
    Prompt = "prompt",
    PromptTokens = "prompt_tokens",
    PromptTokensDetails = "prompt_tokens_details",
    Reasoning = "reasoning",
    ReasoningContent = "reasoning_content",
    Refusal = "refusal",
    Response = "response",
    StopReason = "stop_reason",
    Stream = "stream",
    StreamOptions = "stream_options",
    Summary = "summary",
    System = "system",
    Text = "text",
    Thinking = "thinking",
    ToolCalls = "tool_calls",
    Tools = "tools",
    Type = "type",
    Url = "url",
    Usage = "usage",
}

impl Walker {
    /// Before a document.
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            depth: 0,
            objects: 0,
            path: [Key::Other; PATH_MAX],
            held: Held {
                bytes: [0; HELD_MAX],
                len: 0,
                is_cut: false,
            },
            is_key: false,
        }
    }

    /// Forgets the document; another one comes.
    pub(super) fn restart(&mut self) {
        self.state = State::Value;
        self.depth = 0;
        self.held.clear();
    }

    /// The document was read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What was read is no JSON, or nested more than 128 deep. The rest is not read.
    #[cfg(test)]
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Reads on. The keys told are those of the first ten levels.
    pub(super) fn push(&mut self, mut chunk: &[u8], sink: &mut impl FnMut(&[Key], Found<'_>)) {
        while let Some((&byte, rest)) = chunk.split_first() {
            chunk = match self.state {
                State::Text => self.text(chunk, sink),
                State::Bare => self.bare(chunk, sink),
                State::Done | State::Lost => return,
                State::Escape => {
                    self.held.push(byte);
                    self.state = if byte == b'u' {
                        State::Hex(4)
                    } else {
                        State::Text
                    };
                    rest
                }
                State::Hex(left) => {
                    self.held.push(byte);
                    self.state = match left {
                        2.. => State::Hex(left - 1),
                        _ => State::Text,
                    };
                    // A quote here is no digit, but it surely ends the string.
                    if byte == b'"' {
                        self.state = State::Lost;
                    }
                    rest
                }
                State::Value | State::Key | State::Colon | State::After => {
                    if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                        rest
                    } else {
                        self.token(byte, chunk, sink)
                    }
                }
            };
        }
    }

    /// A byte between two scalars; returns what is to be read next.
    fn token<'a>(
        &mut self,
        byte: u8,
        chunk: &'a [u8],
        sink: &mut impl FnMut(&[Key], Found<'_>),
    ) -> &'a [u8] {
        match (self.state, byte) {
            (State::Value, b'{') => {
                sink(self.keys(), Found::Object);
                self.open(true);
            }
            (State::Value, b'[') => self.open(false),
            (State::Value, b']') if !self.in_object() => self.close(),
            (State::Key, b'}') if self.in_object() => self.close(),
            (State::After, b']') if self.depth > 0 && !self.in_object() => self.close(),
            (State::After, b'}') if self.in_object() => self.close(),
            (State::Value, b'"') => self.begin_text(false),
            (State::Key, b'"') => self.begin_text(true),
            (State::Value, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.held.clear();
                self.state = State::Bare;
                return chunk;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::After, b',') if self.depth > 0 => {
                self.state = if self.in_object() {
                    State::Key
                } else {
                    State::Value
                };
            }
            _ => self.state = State::Lost,
        }
        chunk.get(1..).unwrap_or_default()
    }

    fn text<'a>(&mut self, chunk: &'a [u8], sink: &mut impl FnMut(&[Key], Found<'_>)) -> &'a [u8] {
        let end = memchr2(b'"', b'\\', chunk).unwrap_or(chunk.len());
        let (run, rest) = chunk.split_at(end);
        self.held.extend(run);
        let mut characters = characters(run);
        let rest = match rest.split_first() {
            Some((b'"', rest)) => {
                self.tell(characters, sink);
                self.end_text(sink);
                return rest;
            }
            Some((&backslash, rest)) => {
                self.held.push(backslash);
                self.state = State::Escape;
                characters += 1;
                rest
            }
            None => rest,
        };
        self.tell(characters, sink);
        rest
    }

    fn tell(&self, characters: u64, sink: &mut impl FnMut(&[Key], Found<'_>)) {
        if !self.is_key && characters > 0 {
            sink(self.keys(), Found::Characters(characters));
        }
    }

    fn begin_text(&mut self, is_key: bool) {
        self.held.clear();
        self.is_key = is_key;
        self.state = State::Text;
    }

    fn end_text(&mut self, sink: &mut impl FnMut(&[Key], Found<'_>)) {
        if !self.is_key {
            sink(self.keys(), Found::Text(self.held.spelling()));
            self.after();
            return;
        }
        let spelling = self.held.spelling();
        let key = if spelling.spelt.contains(&b'\\') {
            spelling
                .text()
                .map_or(Key::Other, |text| Key::of(text.as_bytes()))
        } else if spelling.is_cut {
            Key::Other
        } else {
            Key::of(spelling.spelt)
        };
        if let Some(place) = self.path.get_mut(self.depth - 1) {
            *place = key;
        }
        self.state = State::Colon;
    }

    fn bare<'a>(&mut self, chunk: &'a [u8], sink: &mut impl FnMut(&[Key], Found<'_>)) -> &'a [u8] {
        let end = chunk.iter().position(
            |byte| !matches!(byte, b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'),
        );
        let (run, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        self.held.extend(run);
        if end.is_some() {
            if !self.held.is_cut {
                sink(self.keys(), Found::Bare(self.held.spelling().spelt));
            }
            self.after();
        }
        rest
    }

    fn open(&mut self, is_object: bool) {
        if self.depth >= DEPTH_MAX {
            self.state = State::Lost;
            return;
        }
        let bit = 1 << self.depth;
        if is_object {
            self.objects |= bit;
        } else {
            self.objects &= !bit;
        }
        if let Some(place) = self.path.get_mut(self.depth) {
            *place = if is_object { Key::Other } else { Key::Item };
        }
        self.depth += 1;
        self.state = if is_object { State::Key } else { State::Value };
    }

    fn close(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => {
                self.depth = depth;
                self.after();
            }
            None => self.state = State::Lost,
        }
    }

    fn after(&mut self) {
        self.state = if self.depth == 0 {
            State::Done
        } else {
            State::After
        };
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.objects & (1 << (self.depth - 1)) != 0
    }

    fn keys(&self) -> &[Key] {
        self.path.get(..self.depth).unwrap_or(&self.path)
    }
}

impl Held {
    fn clear(&mut self) {
        self.len = 0;
        self.is_cut = false;
    }

    fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    fn extend(&mut self, run: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = run.len().min(room.len());
        if let (Some(room), Some(run)) = (room.get_mut(..taken), run.get(..taken)) {
            room.copy_from_slice(run);
        }
        self.len += taken;
        self.is_cut |= taken < run.len();
    }

    fn spelling(&self) -> Spelling<'_> {
        Spelling {
            spelt: self.bytes.get(..self.len).unwrap_or_default(),
            is_cut: self.is_cut,
        }
    }
}

/// Bytes that begin a character in UTF-8.
fn characters(run: &[u8]) -> u64 {
    run.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64
}

/// Levels that can be nested.
const DEPTH_MAX: usize = 128;
/// Levels whose keys are told; longer paths are told by their beginning.
const PATH_MAX: usize = 10;
/// Bytes of a string that are shown: the longest name of a model, with some room.
const HELD_MAX: usize = 256;

#[cfg(test)]
mod tests;
