//! tokens to identities: JWT, key sets, revocation.
