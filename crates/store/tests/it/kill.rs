//! A process that writes is killed at random moments; what it leaves is whole.
