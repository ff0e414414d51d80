//! A case: bytes, and what must come of them.

/// Bytes sent on a fresh connection, and what must come of them.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) class: &'static str,
    pub(crate) name: &'static str,
    /// `%P` stands for the case's own prefix, by which the origin's records are told
    /// apart, `%N` for its number.
    bytes: Vec<u8>,
    /// An answer of the gateway before the origin's.
    pub(crate) first: Option<u16>,
    /// Requests that the origin sees: method, path behind the case's prefix, body.
    pub(crate) seen: Vec<&'static str>,
    /// The status that then refuses what follows.
    pub(crate) refusal: Option<u16>,
    /// The connection is closed; otherwise it serves another request.
    pub(crate) closes: bool,
}

/// Nothing of it reaches the origin; the answer has this status, and nothing is read any
/// more.
pub(crate) fn refused(
    class: &'static str,
    name: &'static str,
    status: u16,
    bytes: impl AsRef<[u8]>,
) -> Case {
    partly(class, name, &[], status, bytes)
}

/// The origin sees exactly these requests, and the connection serves on.
pub(crate) fn passed(
    class: &'static str,
    name: &'static str,
    seen: &[&'static str],
    bytes: impl AsRef<[u8]>,
) -> Case {
    Case {
        class,
        name,
        bytes: bytes.as_ref().to_vec(),
        first: None,
        seen: seen.to_vec(),
        refusal: None,
        closes: false,
    }
}

/// The origin sees exactly these requests, and the connection is closed.
pub(crate) fn last(
    class: &'static str,
    name: &'static str,
    seen: &[&'static str],
    bytes: impl AsRef<[u8]>,
) -> Case {
    Case {
        closes: true,
        ..passed(class, name, seen, bytes)
    }
}

/// The origin sees these requests; what follows them is refused.
pub(crate) fn partly(
    class: &'static str,
    name: &'static str,
    seen: &[&'static str],
    status: u16,
    bytes: impl AsRef<[u8]>,
) -> Case {
    Case {
        refusal: Some(status),
        closes: true,
        ..passed(class, name, seen, bytes)
    }
}

/// The answer has this status and is not the origin's; the connection serves on.
pub(crate) fn answered(
    class: &'static str,
    name: &'static str,
    status: u16,
    bytes: impl AsRef<[u8]>,
) -> Case {
    Case {
        refusal: Some(status),
        closes: false,
        ..passed(class, name, &[], bytes)
    }
}

/// The first request is the gateway's own, with this answer; the origin sees the others.
pub(crate) fn behind(
    class: &'static str,
    name: &'static str,
    status: u16,
    seen: &[&'static str],
    bytes: impl AsRef<[u8]>,
) -> Case {
    Case {
        first: Some(status),
        ..passed(class, name, seen, bytes)
    }
}

impl Case {
    /// What is sent, if this is the case with that number.
    pub(crate) fn bytes(&self, number: usize) -> Vec<u8> {
        let prefix = format!("/-/o/c{number}");
        let bytes = replaced(&self.bytes, b"%P", prefix.as_bytes());
        replaced(&bytes, b"%N", number.to_string().as_bytes())
    }
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// `POST` of the case's `/a` with these fields and this body.
pub(crate) fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [
        b"POST %P/a HTTP/1.1\r\nHost: gate.test\r\n",
        fields.as_ref(),
        b"\r\n",
        body.as_ref(),
    ]
    .concat()
}

/// `GET` of the case's `/a` with these fields, complete.
pub(crate) fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [
        b"GET %P/a HTTP/1.1\r\nHost: gate.test\r\n",
        fields.as_ref(),
        b"\r\n",
    ]
    .concat()
}

/// `POST` in chunks.
pub(crate) fn chunks(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A request that nobody plainly makes, where it stands in a body.
pub(crate) const EVIL: &str = "GET %P/evil HTTP/1.1\r\nHost: gate.test\r\n\r\n";
