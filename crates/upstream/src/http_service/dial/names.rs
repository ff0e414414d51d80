//! Addresses of an origin.
//!
//! A name is asked for by one at a time, and the answer serves all who come within the next
//! moment: a burst of new connections is one question. The answer is checked when it comes,
//! so what is remembered may be connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle::Clock;
use tokio::sync::Semaphore;

use super::DialError;
use crate::http_service::Origin;
use crate::http_service::guarded;

/// The addresses of one origin, while they are remembered.
#[derive(Debug)]
pub(in crate::http_service) struct Names {
    last: Mutex<Option<Known>>,
    turn: Semaphore,
}

pub(in crate::http_service) type Found = Result<Arc<[SocketAddr]>, DialError>;

#[derive(Debug)]
struct Known {
    until: Duration,
    found: Found,
}

impl Names {
    pub(in crate::http_service) fn new() -> Self {
        Self {
            last: Mutex::new(None),
            turn: Semaphore::new(1),
        }
    }

    /// The addresses that may be connected to, at least one. The caller sets the limit.
    pub(in crate::http_service) async fn resolve(&self, origin: &Origin, clock: Clock) -> Found {
        if let Ok(ip) = origin.host.parse::<IpAddr>() {
            return allowed(origin, [SocketAddr::new(ip, origin.port)]);
        }
        guarded::check_name(&origin.host).map_err(DialError::Forbidden)?;
        if let Some(found) = self.remembered(clock) {
            return found;
        }
        let Ok(_turn) = self.turn.acquire().await else {
            return Err(DialError::Stopping);
        };
        if let Some(found) = self.remembered(clock) {
            return found;
        }
        let found = match tokio::net::lookup_host((origin.host.as_str(), origin.port)).await {
            Ok(addresses) => allowed(origin, addresses),
            Err(error) => Err(DialError::NameUnknown(Arc::new(error))),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Known {
            until: clock.elapsed() + REMEMBERED,
            found: found.clone(),
        });
        found
    }

    fn remembered(&self, clock: Clock) -> Option<Found> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref()?;
        (clock.elapsed() < known.until).then(|| known.found.clone())
    }
}

/// Those of the addresses that may be connected to.
fn allowed(origin: &Origin, addresses: impl IntoIterator<Item = SocketAddr>) -> Found {
    let mut forbidden = None;
    let mut allowed = Vec::new();
    for address in addresses {
        match guarded::check(address.ip(), origin.allow_private) {
            Ok(()) if allowed.len() < ADDRESSES_MAX => allowed.push(address),
            Ok(()) => {}
            Err(reason) => forbidden = Some(reason),
        }
    }
    match forbidden {
        _ if !allowed.is_empty() => Ok(allowed.into()),
        Some(reason) => Err(DialError::Forbidden(reason)),
        None => {
            let error = io::Error::new(io::ErrorKind::NotFound, "no addresses");
            Err(DialError::NameUnknown(Arc::new(error)))
        }
    }
}

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Long enough for a burst, too short for a change to matter.
const REMEMBERED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
