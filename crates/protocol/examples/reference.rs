//! Prints the reference page of the codes: `docs/reference/codes.md`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(protocol::code::reference_markdown().as_bytes())
}
