//! The configuration file.

use gateway::config::{Config, Place};
use gateway::flags::State;
use gateway::route_json;

/// Any text is accepted or refused with places inside it, and what is accepted can be printed
/// and read again with the same meaning.
pub fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text) {
        Ok(config) => {
            let printed = config.to_yaml();
            // Secrets are not printed; any other of sufficient length stands in for them, and
            // what it consists of makes it a key of the store as well.
            let readable = printed.replace("[redacted]", &"0123456789abcdef".repeat(4));
            match Config::parse(&readable) {
                Ok(again) => assert_eq!(again.to_yaml(), printed),
                Err(errors) => panic!("{printed}\nis not accepted again: {errors}"),
            }
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty(), "a refusal says why");
            let lines = text.split(['\n', '\r']).count() as u64;
            for error in &errors.errors {
                assert!(!error.problem.is_empty(), "a refusal says why");
                if let Place::File { line, column } = error.place {
                    assert!((1..=lines + 1).contains(&line) && column >= 1, "{error:?}");
                }
            }
        }
    }
}

/// Any bytes are read or refused with a reason. What the settings are taken from is an object
/// to the reader of routes as well, every route is told once and in order, and a reader that
/// has seen enough is left alone.
pub fn route_json(data: &[u8]) {
    let mut told = Vec::new();
    let routes = route_json::routes(data, |index, route| {
        told.push(index);
        match route {
            // A rule is made or refused with the key that is wrong.
            Ok(route) => assert!(format!("{route:?}").starts_with("Route")),
            Err((key, problem)) => assert!(!key.is_empty() && !problem.is_empty()),
        }
        told.len() < 8
    });
    assert!(told.len() <= 8, "more routes than asked for");
    assert!(told.iter().copied().eq(0..told.len()), "{told:?}");
    for refusal in [routes.map(drop).err(), route_json::settings(data).err()]
        .into_iter()
        .flatten()
    {
        assert!(!refusal.to_string().is_empty(), "a refusal says why");
    }
}

/// Flags as a file or the bus keeps them. What is read is written back alike, and can be
/// told to clients.
pub fn kept_flags(data: &[u8]) {
    let Ok(state) = State::parse(data) else {
        return;
    };
    assert_eq!(State::parse(&state.written()), Ok(state.clone()));
    let on = state
        .flags
        .iter()
        .filter(|(name, flag)| flag.is_on(name, "anybody"));
    assert!(on.count() <= state.flags.len());
    assert!(!state.to_message().is_empty() || state.version == 0);
}
