//! What a request asks of a model, from its body's first bytes.

use super::CHARACTERS_PER_TOKEN;
use super::usage::whole;
use super::walk::{Found, Key, Walker};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// The model's name, if it has at most 256 bytes.
    pub model: Option<String>,
    /// The answer is to come as a stream.
    pub is_stream: bool,
    /// The stream is to end with its usage. OpenAI's counts nothing otherwise; Anthropic's
    /// always does.
    pub wants_usage: bool,
    /// The most tokens of each answer, if there is a limit.
    pub output_limit: Option<u64>,
    /// How many answers; at least one.
    pub answers: u64,
    /// Tokens asked, estimated from characters; a medium counts as a thousand, whatever
    /// its size. Token ids count one each.
    pub input_tokens: u64,
    /// The body was read to its end: nothing of the above can be missing.
    pub is_complete: bool,
}

/// Reads a request's body as it passes.
#[derive(Debug, Clone)]
pub struct Asker {
    walker: Walker,
    ask: Ask,
    characters: u64,
    tokens: u64,
}

impl Ask {
    /// What a body asks, or the beginning of one.
    pub fn read(body: &[u8]) -> Self {
        let mut asker = Asker::new();
        asker.push(body);
        asker.ask()
    }

    /// The most tokens this can come to, of input and of output, if an answer without a
    /// limit has at most `output_reserve`.
    pub fn tokens_max(&self, output_reserve: u64) -> (u64, u64) {
        let each = self.output_limit.unwrap_or(output_reserve);
        (self.input_tokens, each.saturating_mul(self.answers.max(1)))
    }
}

impl Asker {
    /// Before the body.
    pub fn new() -> Self {
        Self {
            walker: Walker::new(),
            ask: Ask {
                answers: 1,
                ..Ask::default()
            },
            characters: 0,
            tokens: 0,
        }
    }

    /// Reads on. The body may be cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self {
            walker,
            ask,
            characters,
            tokens,
        } = self;
        walker.push(chunk, &mut |path, found| match (path, found) {
            ([Key::Model], Found::Text(name)) => ask.model = name.text(),
            ([Key::Stream], Found::Bare(word)) => ask.is_stream = word == b"true",
            ([Key::StreamOptions, Key::IncludeUsage], Found::Bare(word)) => {
                ask.wants_usage = word == b"true";
            }
            (
                [Key::MaxTokens | Key::MaxCompletionTokens | Key::MaxOutputTokens],
                Found::Bare(number),
            ) => {
                // The larger of two is the safer one to reserve.
                ask.output_limit = ask.output_limit.max(whole(number));
            }
            ([Key::N], Found::Bare(number)) => {
                ask.answers = whole(number).unwrap_or(1).max(1);
            }
            ([asked, .., Key::Url | Key::Data | Key::FileData], Found::Text(_))
                if is_asked(*asked) =>
            {
                *tokens += MEDIUM_TOKENS;
            }
            ([_, .., Key::Url | Key::Data | Key::FileData], Found::Characters(_)) => {}
            ([asked, ..], Found::Characters(count)) if is_asked(*asked) => *characters += count,
            ([Key::Input | Key::Prompt, .., Key::Item], Found::Bare(_)) => *tokens += 1,
            _ => {}
        });
        ask.is_complete = walker.is_done();
    }

    /// What was asked so far.
    pub fn ask(&self) -> Ask {
        Ask {
            input_tokens: self.tokens + self.characters.div_ceil(CHARACTERS_PER_TOKEN),
            ..self.ask.clone()
        }
    }
}

impl Default for Asker {
    fn default() -> Self {
        Self::new()
    }
}

/// What is below this key is shown to the model.
fn is_asked(key: Key) -> bool {
    matches!(
        key,
        Key::Messages | Key::Input | Key::Prompt | Key::System | Key::Instructions | Key::Tools
    )
}

/// Tokens of an image, a sound or a file: the order of magnitude that upstreams charge.
const MEDIUM_TOKENS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"model":"gpt-x","messages":[{"role":"user","content":"12345678"},
        {"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAABBBBCCCCDDDD"}}]}],
        "stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":50,"n":2}"#;

    #[test]
    fn a_chat_says_what_it_asks_wherever_it_is_cut() {
        let ask = Ask::read(CHAT.as_bytes());
        assert_eq!(
            ask,
            Ask {
                model: Some("gpt-x".to_owned()),
                is_stream: true,
                wants_usage: true,
                output_limit: Some(50),
                answers: 2,
                // Roles and kinds are shown to the model as well.
                input_tokens: 1000 + (4 + 8 + 4 + 9_u64).div_ceil(4),
                is_complete: true,
            }
        );
        assert_eq!(ask.tokens_max(1000), (ask.input_tokens, 100));
        for at in 0..=CHAT.len() {
            let mut asker = Asker::new();
            let (head, tail) = CHAT.as_bytes().split_at(at);
            asker.push(head);
            asker.push(tail);
            assert_eq!(asker.ask(), ask, "cut at {at}");
        }
    }

    #[test]
    fn a_cut_body_says_what_it_has() {
        let ask = Ask::read(br#"{"model":"m","max_tokens":9,"system":"1234567"#);
        assert_eq!(ask.model.as_deref(), Some("m"));
        assert_eq!((ask.input_tokens, ask.is_complete), (2, false));
        assert_eq!(ask.tokens_max(7), (2, 9));
    }

    #[test]
    fn token_ids_count_one_each() {
        let ask = Ask::read(br#"{"input":[[1,2,3],[4,5]],"model":"e"}"#);
        assert_eq!(ask.input_tokens, 5);
        let ask = Ask::read(br#"{"prompt":[1,2,3]}"#);
        assert_eq!(ask.input_tokens, 3);
    }

    #[test]
    fn nonsense_asks_nothing() {
        for body in [
            &b""[..],
            b"no",
            b"[1,2]",
            b"{\"n\":-1,\"max_tokens\":\"many\"}",
        ] {
            let ask = Ask::read(body);
            assert_eq!((ask.model.is_none(), ask.answers), (true, 1));
            assert_eq!((ask.input_tokens, ask.output_limit), (0, None));
        }
    }
}
