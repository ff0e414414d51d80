//! The relay with a real log on disk and agents on real sockets.

mod answers;
mod bad_days;
mod delivery;
mod scene;
