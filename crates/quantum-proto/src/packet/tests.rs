//! Packets: what is refused, what is kept, and the wrap of sequence numbers.
