//! Which NATS subject is which channel.
//!
//! A channel of our own is listened to on `{prefix}.live.<escaped>` and, if it has history,
//! published to `{prefix}.history.<escaped>`, which the stream passes on to the former. A
//! channel that the configured patterns cover is the subject itself.

use std::fmt::Write as _;

use protocol::channel::Channel;
use protocol::subject::{Pattern, Subject};

/// The names of one cluster.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    live: String,
    history: String,
    verbatim: Vec<Pattern>,
    pub(super) history_stream: String,
    pub(super) presence_bucket: String,
    pub(super) state_bucket: String,
}

impl Names {
    pub(super) fn new(prefix: &str, verbatim: &[Pattern]) -> Self {
        let capitals = prefix.to_ascii_uppercase();
        Self {
            prefix: prefix.to_owned(),
            live: format!("{prefix}.live."),
            history: format!("{prefix}.history."),
            verbatim: verbatim.to_vec(),
            history_stream: format!("{capitals}_HISTORY"),
            presence_bucket: format!("{capitals}_PRESENCE"),
            state_bucket: format!("{capitals}_STATE"),
        }
    }

    /// Whether the channel is a subject of others.
    pub(super) fn is_verbatim(&self, channel: &Channel) -> bool {
        self.verbatim
            .iter()
            .any(|pattern| pattern.covers_text(channel))
    }

    /// What its subscribers listen on.
    pub(super) fn live(&self, channel: &Channel) -> String {
        let subject = channel.to_subject();
        if self.is_verbatim(channel) {
            return subject.as_str().to_owned();
        }
        format!("{}{subject}", self.live)
    }

    /// What it is published to if it has history.
    pub(super) fn history(&self, channel: &Channel) -> String {
        format!("{}{}", self.history, channel.to_subject())
    }

    /// What a stream over all history listens on, and where it passes it on to.
    pub(super) fn republished(&self) -> (String, String) {
        (format!("{}>", self.history), format!("{}>", self.live))
    }

    /// What to listen on for all channels that a pattern covers.
    pub(super) fn live_patterns(&self, pattern: &Pattern) -> Vec<String> {
        let shared = |verbatim| intersection(verbatim, pattern);
        let mut subjects: Vec<_> = self.verbatim.iter().filter_map(shared).collect();
        if !self
            .verbatim
            .iter()
            .any(|verbatim| verbatim.includes(pattern))
        {
            subjects.push(format!("{}{pattern}", self.live));
        }
        subjects
    }

    /// The channel whose messages come on a subject; `None` for what is not ours.
    pub(super) fn channel(&self, subject: &str) -> Option<Channel> {
        let own = subject.strip_prefix(&self.live);
        let own = own.or_else(|| subject.strip_prefix(&self.history));
        Channel::from_subject(&Subject::new(own.unwrap_or(subject)).ok()?).ok()
    }

    /// What gateways tell each other on.
    pub(super) fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// Where nobody listens: the server's word on that comes after all it did before.
    pub(super) fn sync(&self) -> String {
        format!("{}.sync", self.prefix)
    }

    /// Where a client's presence on a channel is noted.
    pub(super) fn presence(&self, channel: &Channel, client: &str) -> String {
        let bucket = &self.presence_bucket;
        format!("$KV.{bucket}.{}.{}", key_token(channel), key_token(client))
    }

    /// Where all presence on a channel is noted.
    pub(super) fn presence_of(&self, channel: &Channel) -> String {
        format!("$KV.{}.{}.*", self.presence_bucket, key_token(channel))
    }

    /// Where state is kept; a key's dots part it.
    pub(super) fn state(&self, key: &str) -> String {
        let tokens: Vec<_> = key.split('.').map(key_token).collect();
        format!("$KV.{}.{}", self.state_bucket, tokens.join("."))
    }

    /// Where all state below a key is kept; below the empty one is all.
    pub(super) fn state_below(&self, key: &str) -> String {
        if key.is_empty() {
            return format!("$KV.{}.>", self.state_bucket);
        }
        format!("{}.>", self.state(key))
    }

    /// Where the bucket of state passes on what is stored below a subject of its own.
    pub(super) fn state_told(&self, subject: &str) -> String {
        let own = subject.strip_prefix("$KV.");
        let own = own.and_then(|own| own.strip_prefix(&*self.state_bucket));
        format!("{}.state{}", self.prefix, own.unwrap_or(".>"))
    }

    /// The key whose state is kept there.
    pub(super) fn state_key(&self, subject: &str) -> Option<String> {
        let key = subject.strip_prefix("$KV.")?;
        let key = key.strip_prefix(&*self.state_bucket)?.strip_prefix('.')?;
        let tokens: Option<Vec<_>> = key.split('.').map(read_key_token).collect();
        Some(tokens?.join("."))
    }
}

/// The subjects in both sets, as a pattern.
pub(super) fn intersection(one: &Pattern, other: &Pattern) -> Option<String> {
    if !one.overlaps(other) {
        return None;
    }
    let (mut ones, mut others) = (one.as_str().split('.'), other.as_str().split('.'));
    let mut shared = Vec::new();
    loop {
        match (ones.next(), others.next()) {
            (Some(">"), Some(token)) => {
                shared.push(token);
                shared.extend(others);
                break;
            }
            (Some(token), Some(">")) => {
                shared.push(token);
                shared.extend(ones);
                break;
            }
            (Some("*"), Some(token)) | (Some(token), Some(_)) => shared.push(token),
            (None, _) | (_, None) => break,
        }
    }
    Some(shared.join("."))
}

/// Any text as one token of a key: other bytes than letters, digits, `-` and `_` become `=`
/// and two hexadecimal digits, and no text at all a lone `=`.
pub(super) fn key_token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(token, "={byte:02X}").unwrap_or_default();
        }
    }
    token
}

/// Reads what [`key_token`] writes.
fn read_key_token(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut parts = token.split('=');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(byte, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("tidegate", &[Pattern::new("xy.>").unwrap()])
    }

    #[test]
    fn channels_and_subjects_name_each_other() {
        let names = names();
        for (channel, live) in [
            ("news", "tidegate.live.news"),
            ("a b.*", "tidegate.live.a%20b.%2A"),
            ("", "tidegate.live.%"),
            ("xy", "tidegate.live.xy"),
            ("xy.md.tick", "xy.md.tick"),
        ] {
            assert_eq!(names.live(&channel.into()), live);
            assert_eq!(names.channel(live).unwrap(), channel);
        }
        assert_eq!(
            names.channel("tidegate.history.a").unwrap(),
            Channel::new("a")
        );
        assert!(names.channel("tidegate.live.%41").is_none());
    }

    #[test]
    fn patterns_are_listened_to_on_both_sides() {
        let subjects = |pattern| names().live_patterns(&Pattern::new(pattern).unwrap());
        assert_eq!(subjects("news.*"), ["tidegate.live.news.*"]);
        assert_eq!(subjects("xy.md.*"), ["xy.md.*"]);
        assert_eq!(subjects(">"), ["xy.>", "tidegate.live.>"]);
        assert_eq!(subjects("*.md.>"), ["xy.md.>", "tidegate.live.*.md.>"]);
    }

    #[test]
    fn any_text_is_a_key_token() {
        for text in ["", "plain-1_A", "a.b", "=", "ü *>", "a=2E"] {
            let token = key_token(text);
            assert!(Subject::new(&token).is_ok() && !token.contains('.'));
            assert_eq!(read_key_token(&token).unwrap(), text);
        }
        assert_eq!(read_key_token("a=Z1"), None);
        assert_eq!(
            names()
                .state_key("$KV.TIDEGATE_STATE.flags.a=2Eb")
                .as_deref(),
            Some("flags.a.b")
        );
    }
}
