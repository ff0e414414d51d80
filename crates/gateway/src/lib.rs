//! configuration and assembly: the only crate that knows all the others.
