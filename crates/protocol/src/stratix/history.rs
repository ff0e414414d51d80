//! What a client wants to hear again when it connects (`contracts`: relay 1.5, R13).

use super::id::check_message_id;

/// How many messages are replayed if the client does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// Which messages of the history are replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Those after this id; without it, and if nobody knows it, the newest.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl History {
    /// Reads the values of `loadHistory`, `lastMessageId` and `limit` in the query string,
    /// escapes undone; `None` if no history is wanted. `max` is how many are kept.
    ///
    /// Nothing here refuses a connection: an id that can't be one is like an unknown one, and
    /// a limit that is not a number is like none.
    pub fn parse(
        load: Option<&str>,
        last_message_id: Option<&str>,
        limit: Option<&str>,
        max: usize,
    ) -> Option<Self> {
        if !matches!(load, Some("true" | "1")) {
            return None;
        }
        Some(Self {
            after: last_message_id
                .filter(|id| check_message_id(id).is_ok())
                .map(str::to_owned),
            limit: limit.and_then(number).unwrap_or(LIMIT_DEFAULT).min(max),
        })
    }
}

/// A number, or the largest one for more digits than fit.
fn number(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::History;

    #[test]
    fn the_query_says_what_is_replayed() {
        let cases = [
            ((None, None, None), None),
            ((Some("false"), Some("m1"), Some("5")), None),
            ((Some(""), None, None), None),
            ((Some("true"), None, None), Some((None, 100))),
            ((Some("1"), None, Some("5")), Some((None, 5))),
            ((Some("true"), Some("m1"), Some("5")), Some((Some("m1"), 5))),
            ((Some("true"), None, Some("0")), Some((None, 0))),
            ((Some("true"), None, Some("501")), Some((None, 500))),
            (
                (Some("true"), None, Some("99999999999999999999999")),
                Some((None, 500)),
            ),
            ((Some("true"), None, Some("-1")), Some((None, 100))),
            ((Some("true"), None, Some("+1")), Some((None, 100))),
            ((Some("true"), None, Some("")), Some((None, 100))),
            ((Some("true"), Some(""), None), Some((None, 100))),
            ((Some("true"), Some("a\nb"), None), Some((None, 100))),
        ];
        for ((load, last, limit), expected) in cases {
            let expected = expected.map(|(after, limit): (Option<&str>, usize)| History {
                after: after.map(str::to_owned),
                limit,
            });
            let read = History::parse(load, last, limit, 500);
            assert_eq!(read, expected, "{load:?} {last:?} {limit:?}");
        }
        let few = History::parse(Some("true"), None, None, 50);
        assert_eq!(few.map(|history| history.limit), Some(50));
    }
}
