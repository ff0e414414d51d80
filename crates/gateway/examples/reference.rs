//! Prints a generated reference: `config` (the page), `schema` (JSON Schema of the
//! configuration file) or `metrics` (the page).
//!
//! `cargo run -p gateway --example reference -- config > docs/reference/config.md`

use std::io::{Error, Write};

use gateway::config::reference;
use gateway::metrics;

fn main() -> Result<(), Error> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let text = match what.as_str() {
        "config" => reference::markdown(),
        "schema" => reference::schema(),
        "metrics" => metrics::markdown().map_err(Error::other)?,
        other => {
            let problem = format!("{other:?} is no reference; expected config, schema or metrics");
            return Err(Error::other(problem));
        }
    };
    std::io::stdout().write_all(text.as_bytes())
}
