//! Administrator tokens at the door.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::router::TokenCheck;

/// The name of the token a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor(pub(crate) String);

/// What the guard decides.
#[derive(Debug)]
pub(crate) enum Admission {
    Admitted(Actor),
    Refused(Refused),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The token is missing or wrong.
    Unauthorized,
    /// So long the address is not heard.
    TooMany(Duration),
}

/// Checks tokens, and stops checking for an address that keeps bringing wrong ones: after
/// a minute's worth of them it gets 429 until time has given it a try back, even with a
/// right token. Neighbours (an IPv6 /64) share their tries.
pub(crate) struct TokenGuard {
    check: TokenCheck,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

/// How many tries an address has used up, as of a moment of the clock.
#[derive(Clone, Copy)]
struct Failures {
    used: f64,
    at: Duration,
}

impl TokenGuard {
    pub(crate) fn new(check: TokenCheck) -> Self {
        Self {
            check,
            failures: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        now: Duration,
        tries_per_minute: u32,
    ) -> Admission {
        let budget = Budget::new(tries_per_minute);
        let address = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), neighbourhood);
        if let Some(wait) = self.wait(address, now, budget) {
            return Admission::Refused(Refused::TooMany(wait));
        }
        let Some(token) = bearer(headers) else {
            return Admission::Refused(Refused::Unauthorized);
        };
        match (self.check)(token) {
            Some(name) => Admission::Admitted(Actor(name)),
            None => {
                self.failed(address, now, budget);
                Admission::Refused(Refused::Unauthorized)
            }
        }
    }

    /// How long until the address has a try again; `None` if it has one now.
    fn wait(&self, address: IpAddr, now: Duration, budget: Budget) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let used = failures.get(&address)?.used_at(now, budget);
        let missing = used - (budget.tries - 1.0);
        (missing > 0.0).then(|| budget.refill.mul_f64(missing))
    }

    fn failed(&self, address: IpAddr, now: Duration, budget: Budget) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            failures.retain(|_, entry| entry.used_at(now, budget) > 0.0);
            if failures.len() >= ADDRESSES_MAX {
                // More attackers than we care to tell apart; each of those remembered has
                // used a try already, so forgetting them gives little away.
                failures.clear();
            }
        }
        let entry = failures
            .entry(address)
            .or_insert(Failures { used: 0.0, at: now });
        *entry = Failures {
            used: entry.used_at(now, budget) + 1.0,
            at: now,
        };
    }
}

/// What an address may do, from the settings.
#[derive(Clone, Copy)]
struct Budget {
    /// Wrong tokens in a row.
    tries: f64,
    /// How long until one more is forgiven.
    refill: Duration,
}

impl Budget {
    fn new(tries_per_minute: u32) -> Self {
        let tries = tries_per_minute.max(1);
        Self {
            tries: f64::from(tries),
            refill: Duration::from_secs(60) / tries,
        }
    }
}

impl Failures {
    fn used_at(&self, now: Duration, budget: Budget) -> f64 {
        let refilled = now.saturating_sub(self.at).div_duration_f64(budget.refill);
        (self.used - refilled).max(0.0)
    }
}

/// The token of a request; clients of PocketBase send it without the scheme.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    match value.split_once(' ') {
        Some((scheme, token)) => scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()),
        None => (!value.is_empty()).then_some(value),
    }
}

/// An IPv6 host has a whole /64 to come from.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::TooMany(_) => "too_many_tries",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Unauthorized => {
                "a valid administrator token is needed: Authorization: Bearer tga_…"
            }
            Self::TooMany(_) => "too many wrong tokens came from this address",
        }
    }

    /// Adds what a client needs to do better.
    pub(crate) fn advise(self, response: &mut Response) {
        let (name, value) = match self {
            Self::Unauthorized => (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Self::TooMany(wait) => (header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1)),
        };
        response.headers_mut().insert(name, value);
    }
}

/// Addresses remembered at once.
const ADDRESSES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::{Admission, Refused, TokenGuard};
    use axum::http::HeaderMap;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    const TRIES: u32 = 10;

    fn status(guard: &TokenGuard, token: &str, address: &str, now: Duration) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let address: IpAddr = address.parse().unwrap();
        match guard.admit(&headers, Some(address), now, TRIES) {
            Admission::Admitted(_) => 200,
            Admission::Refused(refused) => refused.status().as_u16(),
        }
    }

    #[test]
    fn an_address_that_keeps_guessing_is_not_heard_for_a_while() {
        let guard = TokenGuard::new(Arc::new(|token| {
            (token == "tga_right").then(|| "ops".to_owned())
        }));
        let start = Duration::from_secs(1);
        assert_eq!(status(&guard, "tga_right", "10.0.0.1", start), 200);
        for _ in 0..TRIES {
            assert_eq!(status(&guard, "tga_wrong", "10.0.0.1", start), 401);
        }
        assert_eq!(status(&guard, "tga_wrong", "10.0.0.1", start), 429);
        assert_eq!(status(&guard, "tga_right", "10.0.0.1", start), 429);
        assert_eq!(status(&guard, "tga_right", "10.0.0.2", start), 200);
        let later = start + Duration::from_secs(7);
        assert_eq!(status(&guard, "tga_right", "10.0.0.1", later), 200);
        assert_eq!(status(&guard, "tga_wrong", "10.0.0.1", later), 401);
        assert_eq!(status(&guard, "tga_wrong", "10.0.0.1", later), 429);
    }

    #[test]
    fn a_host_cannot_change_its_ipv6_address_to_guess_on() {
        let guard = TokenGuard::new(Arc::new(|_| None));
        let start = Duration::from_secs(1);
        for host in 0..TRIES {
            assert_eq!(
                status(&guard, "x", &format!("2001:db8::{host}"), start),
                401
            );
        }
        assert_eq!(status(&guard, "x", "2001:db8::ffff", start), 429);
        assert_eq!(status(&guard, "x", "2001:db8:0:1::1", start), 401);
    }

    #[test]
    fn a_request_without_a_token_is_refused_but_is_no_guess() {
        let guard = TokenGuard::new(Arc::new(|_| Some("anybody".to_owned())));
        let now = Duration::ZERO;
        for _ in 0..100 {
            let Admission::Refused(refused) = guard.admit(&HeaderMap::new(), None, now, TRIES)
            else {
                panic!("admitted without a token");
            };
            assert_eq!(refused, Refused::Unauthorized);
        }
    }
}
