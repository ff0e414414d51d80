//! RFC 6455 and RFC 7692 as a state machine over bytes, both roles, no I/O.
