//! The public prefix of a route.

use std::borrow::Cow;

/// Least and most characters, with `/-`.
const LENGTH: std::ops::RangeInclusive<usize> = 2..=500;

/// Checks a path and gives it the form in which it is kept and compared: with `/-` in front
/// and no slash at the end. Texts of the errors: `contracts`, http-proxy 5.1.
pub(super) fn normalised(written: &str) -> Result<String, String> {
    let written = written.trim();
    let refuse = |problem: &str| Err(problem.to_owned());
    if written.is_empty() {
        return refuse("path cannot be empty");
    }
    if !written.starts_with('/') {
        return refuse("path must start with /");
    }
    let is_within = |folder: &str| {
        let rest = written.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_within("/api") {
        return refuse("path cannot start with /api/ (reserved for data API)");
    }
    if is_within("/_") {
        return refuse("path cannot start with /_/ (reserved for admin UI)");
    }
    let below = if is_within("/-") {
        written.get("/-".len()..).unwrap_or_default()
    } else {
        written
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        return refuse("path cannot be root /");
    }
    for segment in below.split('/').skip(1) {
        check_segment(segment)?;
    }
    let path = format!("/-{below}");
    if !LENGTH.contains(&path.len()) {
        let (least, most) = (LENGTH.start(), LENGTH.end());
        return Err(format!("path must have {least} to {most} characters"));
    }
    Ok(path)
}

fn check_segment(segment: &str) -> Result<(), String> {
    if segment.is_empty() {
        return Err("path has an empty segment (//)".to_owned());
    }
    if segment == "." || segment == ".." {
        return Err("path has a segment . or ..".to_owned());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
    match segment.bytes().find(|byte| !is_plain(*byte)) {
        None => Ok(()),
        Some(b'%') => Err("path has %; write the character itself".to_owned()),
        Some(_) => {
            Err("path may have letters, digits and -._~!$&'()*+,=:@ between slashes".to_owned())
        }
    }
}

/// A segment of a request as it is compared with those of routes: what need not be encoded is
/// decoded, so that `%61dmin` is no way around the rule of `admin`.
pub(in super::super) fn comparable(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let code = after
            .get(..2)
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let decoded = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (code, decoded) {
            // Visible ASCII but the percent sign itself, which decodes once only.
            (Some(_), Some(byte @ (0x21..=0x24 | 0x26..=0x7e))) => text.push(char::from(byte)),
            (Some(code), _) => {
                text.push('%');
                text.push_str(&code.to_ascii_uppercase());
            }
            (None, _) => text.push('%'),
        }
        rest = after.get(code.map_or(0, str::len)..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}
