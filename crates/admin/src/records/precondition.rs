//! `If-Match`: a change only of the version that was seen.

use axum::http::{HeaderMap, header};

/// The version that a request wants to change; `None` if any will do: without the field,
/// or with `*`. One version is understood, in quotes as the `ETag` of an answer has it, or
/// without.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let value = value.to_str().unwrap_or_default().trim();
    if values.next().is_none() {
        if value == "*" {
            return Ok(None);
        }
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let digits = quoted.unwrap_or(value);
        if digits.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(version) = digits.parse()
        {
            return Ok(Some(version));
        }
    }
    Err("If-Match must be one version in quotes, as ETag has it, or *".to_owned())
}

#[cfg(test)]
mod tests {
    use super::expected;
    use axum::http::{HeaderMap, HeaderValue, header};

    fn of(values: &[&'static str]) -> Result<Option<u64>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        expected(&headers)
    }

    #[test]
    fn one_version_or_a_star_is_understood() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["*"]), Ok(None));
        assert_eq!(of(&["\"7\""]), Ok(Some(7)));
        assert_eq!(of(&["7"]), Ok(Some(7)));
        for wrong in [
            "",
            "+7",
            "\"\"",
            "\"x\"",
            "W/\"7\"",
            "\"7",
            "\"7\", \"8\"",
            "\"+7\"",
            "\"99999999999999999999\"",
        ] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
        assert!(of(&["\"7\"", "\"8\""]).is_err());
    }
}
