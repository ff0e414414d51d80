//! Tokens of an answer, read as it passes.

use super::super::AiDialect;
use super::CHARACTERS_PER_TOKEN;
use super::sse::{Piece, Scanner};
use super::walk::{Found, Key, Walker};

/// Reads an answer beside its way to the caller.
#[derive(Debug, Clone)]
pub struct Meter {
    body: Body,
    walker: Walker,
    seen: Seen,
}

/// What an answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `text/event-stream`.
    EventStream,
    /// One JSON document.
    Json,
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the question, those from and for the upstream's cache included.
    pub input: u64,
    /// Those of them that came from the cache.
    pub cached: u64,
    /// Those of them that were put into the cache.
    pub cache_written: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// The upstream did not say, or not all: one of the figures is from characters.
    pub is_estimated: bool,
}

#[derive(Debug, Clone)]
enum Body {
    Events(Scanner, Head),
    Json,
}

/// The beginning of an event's data, to tell the word that ends a stream.
#[derive(Debug, Clone, Default)]
struct Head {
    bytes: [u8; DONE.len()],
    /// Bytes of data, also beyond those kept.
    len: usize,
}

#[derive(Debug, Clone)]
struct Seen {
    dialect: AiDialect,
    input: Option<u64>,
    cached: u64,
    cache_written: u64,
    output: Option<u64>,
    /// `output` is the last word and not a first count.
    is_final: bool,
    /// Of what the model has said.
    characters: u64,
    has_error: bool,
    is_terminated: bool,
}

impl Meter {
    /// For an answer that begins now.
    pub fn new(dialect: AiDialect, shape: Shape) -> Self {
        Self {
            body: match shape {
                Shape::EventStream => Body::Events(Scanner::new(), Head::default()),
                Shape::Json => Body::Json,
            },
            walker: Walker::new(),
            seen: Seen::new(dialect),
        }
    }

    /// Reads on. The body may be cut anywhere; it has to be uncompressed.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { body, walker, seen } = self;
        match body {
            Body::Json => {
                walker.push(chunk, &mut |path, found| seen.in_document(path, found));
                seen.is_terminated |= walker.is_done();
            }
            Body::Events(scanner, head) => scanner.push(chunk, |piece| match piece {
                Piece::Data(data) => {
                    head.extend(data);
                    walker.push(data, &mut |path, found| seen.in_event(path, found));
                }
                // No upstream cuts a number or a word in two lines.
                Piece::LineEnd => seen.is_terminated |= head.is_done(),
                Piece::End => {
                    head.len = 0;
                    walker.restart();
                }
            }),
        }
    }

    /// Between two events; always so in a body that has none.
    pub fn at_boundary(&self) -> bool {
        match &self.body {
            Body::Events(scanner, _) => scanner.at_boundary(),
            Body::Json => true,
        }
    }

    /// Complete events so far.
    pub fn events(&self) -> u64 {
        match &self.body {
            Body::Events(scanner, _) => scanner.events(),
            Body::Json => 0,
        }
    }

    /// The model has begun to speak: text, reasoning or the call of a tool, and not only
    /// the frame around it.
    pub fn has_content(&self) -> bool {
        self.seen.characters > 0
    }

    /// The answer says that it is complete: a reason why the model stopped, `[DONE]`,
    /// `message_stop`, `response.completed` and the like, or the end of the document. A
    /// stream that ends without was cut. More may come all the same: the usage does.
    pub fn is_terminated(&self) -> bool {
        self.seen.is_terminated
    }

    /// The answer has an error in it, whatever its status.
    pub fn has_error(&self) -> bool {
        self.seen.has_error
    }

    /// What has been used so far. `input_estimate` stands in for an input that the
    /// upstream has not counted. Where the output was not counted to its end, it is taken
    /// from what the model has said so far. An error that came instead of an answer has
    /// used nothing.
    pub fn usage(&self, input_estimate: u64) -> Usage {
        let seen = &self.seen;
        if seen.has_error && seen.characters == 0 && seen.input.is_none() {
            return Usage::default();
        }
        let said = seen.characters.div_ceil(CHARACTERS_PER_TOKEN);
        let cache = seen.cached.saturating_add(seen.cache_written);
        let input = match (seen.input, seen.dialect) {
            (Some(input), AiDialect::OpenAi) => input,
            // Anthropic counts what went through the cache apart.
            (Some(input), AiDialect::Anthropic) => input.saturating_add(cache),
            (None, _) => input_estimate,
        };
        let output = match seen.output {
            Some(output) if seen.is_final => output,
            output => output.unwrap_or(0).max(said),
        };
        // Embeddings have no output to count.
        let is_silent = seen.is_terminated && seen.output.is_none() && seen.characters == 0;
        Usage {
            input,
            cached: seen.cached.min(input),
            cache_written: seen.cache_written.min(input),
            output,
            is_estimated: seen.input.is_none() || !(seen.is_final || is_silent),
        }
    }
}

impl Seen {
    fn new(dialect: AiDialect) -> Self {
        Self {
            dialect,
            input: None,
            cached: 0,
            cache_written: 0,
            output: None,
            is_final: false,
            characters: 0,
            has_error: false,
            is_terminated: false,
        }
    }

    /// A value of an answer that is one document.
    fn in_document(&mut self, path: &[Key], found: Found<'_>) {
        match (path, found) {
            ([Key::Usage, counted @ ..], Found::Bare(number)) => {
                self.count(counted, number, true);
            }
            (path, Found::Characters(count)) if is_said_in_document(path) => {
                self.characters += count;
            }
            ([Key::Error], Found::Object | Found::Text(_)) => self.has_error = true,
            ([Key::Type], Found::Text(kind)) => self.has_error |= kind.is("error"),
            _ => {}
        }
    }

    /// A value of an event's data.
    fn in_event(&mut self, path: &[Key], found: Found<'_>) {
        match (path, found) {
            ([Key::Usage, counted @ ..] | [Key::Response, Key::Usage, counted @ ..], found) => {
                if let Found::Bare(number) = found {
                    self.count(counted, number, true);
                }
            }
            // The beginning of an answer counts its first token.
            ([Key::Message, Key::Usage, counted @ ..], Found::Bare(number)) => {
                self.count(counted, number, false);
            }
            (path, Found::Characters(count)) if is_said_in_event(path) => {
                self.characters += count;
            }
            // Some upstreams leave `[DONE]` out.
            (
                [Key::Choices, Key::Item, Key::FinishReason] | [Key::Delta, Key::StopReason],
                Found::Text(_),
            ) => self.is_terminated = true,
            ([Key::Error], Found::Object | Found::Text(_)) => self.has_error = true,
            ([Key::Type], Found::Text(kind)) => {
                let failed = kind.is("error") || kind.is("response.failed");
                self.has_error |= failed;
                self.is_terminated |= failed
                    || kind.is("message_stop")
                    || kind.is("response.completed")
                    || kind.is("response.incomplete");
            }
            _ => {}
        }
    }

    /// A number of a usage object. Later ones stand for the whole answer so far, so the
    /// largest is right, also where an upstream repeats itself.
    fn count(&mut self, path: &[Key], number: &[u8], is_final: bool) {
        let Some(number) = whole(number) else {
            return;
        };
        let raise = |place: &mut Option<u64>| *place = Some(place.unwrap_or(0).max(number));
        match path {
            [Key::PromptTokens | Key::InputTokens] => raise(&mut self.input),
            [Key::CompletionTokens | Key::OutputTokens] => {
                raise(&mut self.output);
                self.is_final |= is_final;
            }
            [Key::CacheRead]
            | [
                Key::PromptTokensDetails | Key::InputTokensDetails,
                Key::CachedTokens,
            ] => self.cached = self.cached.max(number),
            [Key::CacheCreation] => self.cache_written = self.cache_written.max(number),
            _ => {}
        }
    }
}

impl Head {
    fn extend(&mut self, data: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(data) {
            *place = *byte;
        }
        self.len = self.len.saturating_add(data.len());
    }

    fn is_done(&self) -> bool {
        self.len == DONE.len() && self.bytes == DONE
    }
}

/// What the model says, at these places of an answer.
fn is_said_in_document(path: &[Key]) -> bool {
    match path {
        // Chat completions and completions.
        [Key::Choices, Key::Item, Key::Message, rest @ ..] => is_said_by_assistant(rest),
        [Key::Choices, Key::Item, Key::Text] => true,
        // Responses.
        [Key::Output, Key::Item, Key::Arguments] => true,
        [
            Key::Output,
            Key::Item,
            Key::Content | Key::Summary,
            Key::Item,
            Key::Text | Key::Refusal,
        ] => true,
        // Messages.
        [Key::Content, Key::Item, Key::Text | Key::Thinking] => true,
        [Key::Content, Key::Item, Key::Input, ..] => true,
        _ => false,
    }
}

/// What the model says, at these places of an event. Events that repeat what others have
/// said (`….done`, `response.completed`) are not among them.
fn is_said_in_event(path: &[Key]) -> bool {
    match path {
        [Key::Choices, Key::Item, Key::Delta, rest @ ..] => is_said_by_assistant(rest),
        [Key::Choices, Key::Item, Key::Text] => true,
        [Key::Delta] => true,
        [Key::Delta, Key::Text | Key::Thinking | Key::PartialJson] => true,
        [Key::ContentBlock, Key::Name | Key::Text | Key::Thinking] => true,
        _ => false,
    }
}

/// Within the message of a chat completion or a part of it.
fn is_said_by_assistant(path: &[Key]) -> bool {
    matches!(
        path,
        [Key::Content | Key::Reasoning | Key::ReasoningContent | Key::Refusal]
            | [Key::Content, Key::Item, Key::Text]
            | [Key::FunctionCall, Key::Name | Key::Arguments]
            | [
                Key::ToolCalls,
                Key::Item,
                Key::Function,
                Key::Name | Key::Arguments
            ]
    )
}

/// A whole number that is not negative, as upstreams count. Larger ones than any model
/// can mean count as the largest, so that sums don't overflow.
pub(super) fn whole(number: &[u8]) -> Option<u64> {
    let text = str::from_utf8(number).ok()?;
    let number: u64 = text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // The cast saturates.
        (number >= 0.0).then_some(number as u64)
    })?;
    Some(number.min(COUNT_MAX))
}

/// A trillion.
const COUNT_MAX: u64 = 1 << 40;

const DONE: [u8; 6] = *b"[DONE]";

#[cfg(test)]
mod tests;
