//! Prints a generated reference: `config` (the page) or `schema` (JSON Schema of the
//! configuration file).
//!
//! `cargo run -p gateway --example reference -- config > docs/reference/config.md`

use std::io::{Error, Write};

use gateway::config::reference;

fn main() -> Result<(), Error> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let text = match what.as_str() {
        "config" => reference::markdown(),
        "schema" => reference::schema(),
        other => {
            let problem = format!("{other:?} is no reference; expected config or schema");
            return Err(Error::other(problem));
        }
    };
    std::io::stdout().write_all(text.as_bytes())
}
