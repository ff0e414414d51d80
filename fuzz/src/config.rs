//! The configuration file.

use gateway::config::{Config, Place};

/// Any text is accepted or refused with places inside it, and what is accepted can be printed
/// and read again with the same meaning.
pub fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text) {
        Ok(config) => {
            let printed = config.to_yaml();
            // Secrets are not printed; any other of sufficient length stands in for them.
            let readable = printed.replace("[redacted]", "0123456789abcdef");
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
