//! fec.
