//! listen, admit, terminate TLS, and hold the connections.
