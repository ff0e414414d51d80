//! The pages of the gateway, embedded: the market screen and the operators' console.
//!
//! They are built from `console/` when this crate is, if npm is at hand. Otherwise a plain
//! market page, which needs no build, takes the place of the one, and a page that says what
//! is missing that of the other. Whoever serves them adds [`CONTENT_SECURITY_POLICY`]: all
//! they load is their own, and nothing in them is inline.

/// Which pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// The market screen, at `/market/` of the main listener.
    Market,
    /// The console, at `/console/` of the admin listener.
    Console,
}

/// One embedded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The body of the answer.
    pub bytes: &'static [u8],
    /// The body is compressed and goes out with `Content-Encoding: gzip`.
    pub gzip: bool,
    /// `Content-Type`, with the charset where there is one.
    pub content_type: &'static str,
    /// `ETag`, in quotes; it changes with the bytes.
    pub etag: &'static str,
    /// The name changes with the bytes as well: it may be kept for a year
    /// (`public, max-age=31536000, immutable`). Anything else is to be asked for again
    /// (`no-cache`).
    pub immutable: bool,
}

/// Finds the file of a path, which is what follows `/market/` or `/console/`.
///
/// The empty path is the page itself. The console's own routes are its page too
/// (`channels/some.name`), and only what is written like the name of a file of ours and is
/// none (`assets/x`, `x.js`) is not there.
pub fn find(face: Face, path: &str) -> Option<Asset> {
    let path = path.trim_start_matches('/');
    let exact = file(face, if path.is_empty() { INDEX } else { path });
    let is_route = || {
        let is_name = path.starts_with("assets/") || (!path.contains('/') && path.contains('.'));
        face == Face::Console && !is_name
    };
    exact.or_else(|| is_route().then(|| file(face, INDEX)).flatten())
}

/// Whether the pages are the built ones.
pub fn is_built() -> bool {
    BUILT
}

/// What the pages need and no more: everything from where they come from, WebSockets
/// included, no inline script or style, no frame around them.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
    worker-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; \
    frame-ancestors 'none'";

fn file(face: Face, name: &str) -> Option<Asset> {
    let files = match face {
        Face::Market => MARKET,
        Face::Console => CONSOLE,
    };
    let found = files.iter().find(|file| file.name == name)?;
    Some(Asset {
        bytes: found.bytes,
        gzip: found.gzip,
        content_type: found.content_type,
        etag: found.etag,
        immutable: found.immutable,
    })
}

/// A row of the table that the build script writes.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    gzip: bool,
    content_type: &'static str,
    etag: &'static str,
    immutable: bool,
}

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

const INDEX: &str = "index.html";

#[cfg(test)]
mod tests;
