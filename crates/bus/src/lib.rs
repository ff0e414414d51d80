//! publish and subscribe by subject, streams with positions, presence: in this process.
