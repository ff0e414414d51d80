//! Load, measured.

fn main() {}
