//! What a client's id looks like in keys of the gateway.
//!
//! The gateway writes session keys in lower case, so that `Ann` and `ann` would share one
//! conversation. Capital letters of an id are therefore escaped, which departs from the plain
//! `agent:<agentId>:<clientId>` of the contract (R1) for the ids that have some. A colon would
//! let one client's key be another's, or reach a session of the gateway's own. Blanks at the
//! end of a key do not stand either. All other ids stay as they are.

use std::fmt::Write;

/// The client's id as it stands in keys: percent escapes with hexadecimal digits in lower case.
/// Ids that differ are different here, too, whatever their case.
pub(super) fn escaped(client: &str) -> String {
    let mut text = String::with_capacity(client.len());
    for character in client.chars() {
        let changes = !character.to_lowercase().eq([character]);
        let special =
            matches!(character, '%' | ':') || character.is_whitespace() || character.is_control();
        push(&mut text, character, changes || special);
    }
    text
}

/// The key of the client's session with this agent. `main` is the key of the session that the
/// gateway's operator uses, if known: no client shares it, nor the one that is called `main`.
pub(super) fn session_key(agent: &str, client: &str, main: Option<&str>) -> String {
    let name = escaped(client);
    let key = format!("agent:{agent}:{name}");
    let operators =
        name == "main" || main.is_some_and(|main| main.to_lowercase() == key.to_lowercase());
    if !operators {
        return key;
    }
    let mut key = format!("agent:{agent}:");
    for (place, character) in name.chars().enumerate() {
        push(&mut key, character, place == 0);
    }
    key
}

/// What marks the names of a message that had to be sent under another one.
const RENEWED: char = '~';

/// The name under which a message is sent for the `number`-th time, the first being 1. What
/// waited in the queue of a killed gateway is never run, and neither is its key.
pub(super) fn renewed(run: &str, number: u8) -> String {
    if number <= 1 {
        run.to_owned()
    } else {
        format!("{run}{RENEWED}{number}")
    }
}

/// Takes a name of this run off: its number, and what follows it.
pub(super) fn unnamed<'a>(text: &'a str, run: &str) -> Option<(u8, &'a str)> {
    let rest = text.strip_prefix(run)?;
    let Some(marked) = rest.strip_prefix(RENEWED) else {
        return Some((1, rest));
    };
    let end = marked
        .find(|it: char| !it.is_ascii_digit())
        .unwrap_or(marked.len());
    let (number, rest) = marked.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// The run that this may be another name of.
pub(super) fn first_name(name: &str) -> Option<&str> {
    let (run, number) = name.rsplit_once(RENEWED)?;
    number.parse::<u8>().ok().map(|_| run)
}

fn push(text: &mut String, character: char, escape: bool) {
    if !escape {
        text.push(character);
        return;
    }
    let mut buffer = [0; 4];
    for byte in character.encode_utf8(&mut buffer).bytes() {
        // Writing to a string does not fail.
        let _ = write!(text, "%{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ids_stay_as_they_are() {
        for id in ["client-1", "a.b_c~d", "ünï", "用户"] {
            assert_eq!(escaped(id), id);
        }
    }

    #[test]
    fn ids_that_differ_in_case_have_keys_that_differ_in_more() {
        assert_eq!(escaped("Client"), "%43lient");
        assert_eq!(escaped("É"), "%c3%89");
        assert_eq!(escaped("%43lient"), "%2543lient");
        assert_eq!(escaped("a:b c\n"), "a%3ab%20c%0a");
        for id in ["Client", "É", "İ", "Σ", "ǅ", "%43"] {
            assert_eq!(escaped(id).to_lowercase(), escaped(id), "{id}");
        }
    }

    #[test]
    fn names_of_a_run_are_told_from_names_of_others() {
        assert_eq!(renewed("a:m", 1), "a:m");
        assert_eq!(renewed("a:m", 2), "a:m~2");
        assert_eq!(unnamed("a:m~2:user", "a:m"), Some((2, ":user")));
        assert_eq!(unnamed("a:m2", "a:m"), Some((1, "2")));
        assert_eq!(unnamed("a:m~x", "a:m"), None);
        assert_eq!(first_name("a:m~2"), Some("a:m"));
        assert_eq!(first_name("a:m"), None);
    }

    #[test]
    fn session_of_the_operator_is_nobody_elses() {
        assert_eq!(session_key("main", "main", None), "agent:main:%6dain");
        assert_eq!(session_key("main", "%6dain", None), "agent:main:%256dain");
        let main = Some("agent:Main:desk");
        assert_eq!(session_key("Main", "desk", main), "agent:Main:%64esk");
        assert_eq!(session_key("other", "desk", main), "agent:other:desk");
    }
}
