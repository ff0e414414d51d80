//! When to admit a call, to wait, to try again, to give up.
#![warn(missing_docs)]
