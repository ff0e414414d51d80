//! for tests: the built gateway started and stopped, clients, certificates, real servers.
