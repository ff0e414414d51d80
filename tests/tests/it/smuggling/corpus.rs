//! The list of payloads.
#![expect(clippy::too_many_lines, reason = "lists")]

mod chunked;
mod connection;
mod head;
mod length;
mod target;
mod transfer;

use super::case::Case;

/// All cases, in a fixed order.
pub(crate) fn all() -> Vec<Case> {
    [
        transfer::cases(),
        length::cases(),
        chunked::cases(),
        head::cases(),
        target::cases(),
        connection::cases(),
    ]
    .concat()
}
