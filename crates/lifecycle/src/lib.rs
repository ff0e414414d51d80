//! tasks, threads, clock, signals: who runs, since when, until when.
