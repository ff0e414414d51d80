//! Lists and tokens of HTTP headers (RFC 9110, 5.6).

/// The elements of comma-separated `values`, without surrounding space; empty ones are left out.
///
/// Not for values that may contain quoted strings.
pub fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether `byte` may stand in a token.
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `bytes` are a token.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Removes spaces and tabs at both ends.
#[must_use]
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_span_headers_and_skip_empty_elements() {
        let values = [&b" a ,,b"[..], b"", b"c\t"];
        assert!(list(values.into_iter()).eq([&b"a"[..], b"b", b"c"]));
    }
}
