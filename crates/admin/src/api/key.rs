//! API keys, compared in constant time.

use axum::http::{HeaderMap, Uri, header};

/// The keys that open the server API. None at all opens nothing.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Several keys serve a rotation. Empty texts are left out: an unset key is no key.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let filled = keys.into_iter().filter(|key| !key.is_empty());
        Self(filled.map(str::to_owned).collect())
    }

    /// Whether the text is one of the keys. The time taken depends on their number and on
    /// the length of the text, not on how much of it is right.
    pub fn admit(&self, presented: &str) -> bool {
        let is_right = |key: &String| auth::same_secret(presented, key);
        self.0
            .iter()
            .fold(false, |found, key| found | is_right(key))
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ApiKeys({} redacted)", self.0.len())
    }
}

/// The key a request presents: `X-API-Key`, else `Authorization: apikey …`, else
/// `?api_key=`. The first that is there counts, right or wrong.
pub(crate) fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(value) = headers.get("x-api-key") {
        return value.to_str().ok().map(str::to_owned);
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("apikey")
            .then(|| key.trim().to_owned());
    }
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .ok()?
        .0;
    query
        .into_iter()
        .find(|(name, _)| name == "api_key")
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::{ApiKeys, presented};
    use axum::http::{HeaderMap, Uri};

    #[test]
    fn without_a_key_nothing_is_admitted() {
        for keys in [ApiKeys::default(), ApiKeys::new([""])] {
            assert!(!keys.admit(""));
            assert!(!keys.admit("anything"));
        }
    }

    #[test]
    fn either_key_of_a_rotation_is_admitted() {
        let keys = ApiKeys::new(["old", "new"]);
        assert!(keys.admit("old") && keys.admit("new"));
        assert!(!keys.admit("ol") && !keys.admit("oldnew") && !keys.admit(""));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2 redacted)");
    }

    #[test]
    fn the_first_place_that_holds_a_key_counts() {
        let uri = Uri::from_static("/api/info?x=1&api_key=a%2Bb");
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers, &uri).as_deref(), Some("a+b"));
        headers.insert("authorization", "apikey two".parse().unwrap());
        assert_eq!(presented(&headers, &uri).as_deref(), Some("two"));
        headers.insert("authorization", "Bearer two".parse().unwrap());
        assert_eq!(presented(&headers, &uri), None);
        headers.insert("x-api-key", "one".parse().unwrap());
        assert_eq!(presented(&headers, &uri).as_deref(), Some("one"));
    }
}
