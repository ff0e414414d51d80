//! JSON Web Key Sets (RFC 7517) from a URL or a file, kept and renewed.
//!
//! A set is fetched when a token first needs it, again when it is older than its
//! maximum age, and again when a token names a key it does not have, but not
//! more often than the interval allows: whoever sends tokens with invented
//! key ids costs one request per interval, not one per token.
//! One fetch runs at a time; all who need it wait for the same one, and it goes
//! on when the caller who started it goes away.
//! When a renewal fails, the old keys serve on for a bounded time, and it is counted.
//!
//! A key is usable if it has a `kid`, its `use` is `sig` or absent, its
//! `key_ops` is absent or contains `verify`, and its `kty` is RSA, EC or OKP
//! (Ed25519). An `alg` pins it; else its type does. Shared secrets (`oct`) are ignored.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use protocol::claims::TokenError;
use tracing::{info, warn};

use crate::key::Key;

mod fetch;
mod parse;

/// Every key set in use, by where it comes from. It outlives the verifiers that use
/// it, so that a reload which keeps a URL keeps its keys.
#[derive(Default)]
pub struct KeySets {
    open: Mutex<HashMap<Source, Weak<KeySet>>>,
    counters: Arc<Counters>,
}

/// How key sets fared since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeySetFigures {
    /// Successful reads.
    pub renewed: u64,
    /// Failed reads.
    pub failed: u64,
    /// Tokens checked with keys past their maximum age because a read failed.
    pub served_stale: u64,
}

#[derive(Default)]
struct Counters {
    renewed: AtomicU64,
    failed: AtomicU64,
    served_stale: AtomicU64,
}

/// Where a key set comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Url(reqwest::Url),
    File(PathBuf),
}

/// One key set.
pub(crate) struct KeySet {
    source: Source,
    itself: Weak<KeySet>,
    kept: ArcSwapOption<Kept>,
    flight: Mutex<Flight>,
    counters: Arc<Counters>,
}

/// The keys as last read.
struct Kept {
    keys: HashMap<String, Arc<[Key]>>,
    /// Unix seconds.
    read_at: u64,
    stamp: Option<fetch::Stamp>,
}

#[derive(Default)]
struct Flight {
    running: Option<Shared<BoxFuture<'static, ()>>>,
    /// When the last attempt began, in Unix seconds.
    attempted_at: Option<u64>,
    /// Why it failed, if it did.
    failure: Option<String>,
}

/// How long keys are good for, in seconds.
struct Terms {
    /// Then they are read again.
    age_max: u64,
    /// Attempts are at least that far apart …
    interval: u64,
    /// … except while there are no keys at all.
    interval_without_keys: u64,
    /// No key is used that was read longer ago.
    stale_max: u64,
}

impl KeySets {
    /// Key sets with nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How they fared, all taken together.
    pub fn figures(&self) -> KeySetFigures {
        KeySetFigures {
            renewed: self.counters.renewed.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            served_stale: self.counters.served_stale.load(Ordering::Relaxed),
        }
    }

    /// The set of that source: the one already in use, or a new one.
    pub(crate) fn open(&self, source: Source) -> Arc<KeySet> {
        let mut open = lock(&self.open);
        open.retain(|_, set| set.strong_count() > 0);
        if let Some(set) = open.get(&source).and_then(Weak::upgrade) {
            return set;
        }
        let set = Arc::new_cyclic(|itself| KeySet {
            source: source.clone(),
            itself: itself.clone(),
            kept: ArcSwapOption::empty(),
            flight: Mutex::default(),
            counters: Arc::clone(&self.counters),
        });
        open.insert(source, Arc::downgrade(&set));
        set
    }
}

impl Source {
    pub(crate) fn url(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
        match url.scheme() {
            "https" | "http" => Ok(Self::Url(url)),
            scheme => Err(format!("scheme {scheme:?} is not accepted; use https")),
        }
    }

    pub(crate) fn file(path: &str) -> Self {
        Self::File(PathBuf::from(path))
    }

    fn terms(&self) -> &'static Terms {
        match self {
            Self::Url(_) => &Terms {
                age_max: 5 * 60,
                interval: 10,
                interval_without_keys: 1,
                stale_max: 60 * 60,
            },
            // A look at a file's time costs little, so that a new key works within a second.
            Self::File(_) => &Terms {
                age_max: 1,
                interval: 1,
                interval_without_keys: 1,
                stale_max: 60 * 60,
            },
        }
    }
}

impl KeySet {
    /// The keys of that id.
    pub(crate) async fn find(&self, id: &str, now_unix: u64) -> Result<Arc<[Key]>, TokenError> {
        let terms = self.source.terms();
        let found = self.look_up(id);
        if let Some((keys, age)) = found
            && age(now_unix) < terms.age_max
        {
            return Ok(keys);
        }
        if let Some(flight) = self.renew(now_unix) {
            flight.await;
        }
        match self.look_up(id) {
            Some((keys, age)) if age(now_unix) < terms.age_max => Ok(keys),
            Some((keys, age)) if age(now_unix) < terms.stale_max => {
                self.counters.served_stale.fetch_add(1, Ordering::Relaxed);
                Ok(keys)
            }
            Some(_) => Err(self.unavailable()),
            None if lock(&self.flight).failure.is_some() => Err(self.unavailable()),
            None => Err(TokenError::Invalid(
                "the key set has no key of its id".to_owned(),
            )),
        }
    }

    fn look_up(&self, id: &str) -> Option<(Arc<[Key]>, impl Fn(u64) -> u64 + use<>)> {
        let kept = self.kept.load();
        let kept = kept.as_ref()?;
        let read_at = kept.read_at;
        // A clock that was set back must not make keys last longer.
        let age = move |now: u64| now.checked_sub(read_at).unwrap_or(u64::MAX);
        Some((Arc::clone(kept.keys.get(id)?), age))
    }

    /// The read that is under way, or a new one if it is time for one.
    fn renew(&self, now_unix: u64) -> Option<Shared<BoxFuture<'static, ()>>> {
        let mut flight = lock(&self.flight);
        if let Some(running) = &flight.running {
            return Some(running.clone());
        }
        let terms = self.source.terms();
        let interval = match self.kept.load().is_some() {
            true => terms.interval,
            false => terms.interval_without_keys,
        };
        let since = flight.attempted_at.and_then(|at| now_unix.checked_sub(at));
        if since.is_some_and(|seconds| seconds < interval) {
            return None;
        }
        flight.attempted_at = Some(now_unix);
        let itself = Weak::clone(&self.itself);
        let source = self.source.clone();
        let stamp = self.kept.load().as_ref().and_then(|kept| kept.stamp);
        let running = async move {
            let outcome = fetch::read(&source, stamp).await;
            if let Some(set) = itself.upgrade() {
                set.settle(outcome, now_unix);
            }
        };
        let running = running.boxed().shared();
        flight.running = Some(running.clone());
        Some(running)
    }

    fn settle(&self, outcome: Result<fetch::Answer, fetch::FetchError>, now_unix: u64) {
        let outcome = outcome.and_then(|answer| match answer {
            fetch::Answer::Unchanged => Ok(self.kept.load_full().map(|kept| Kept {
                keys: kept.keys.clone(),
                read_at: now_unix,
                stamp: kept.stamp,
            })),
            fetch::Answer::Read { body, stamp } => {
                let keys = parse::key_set(&body)?;
                info!(source = %self.source, keys = keys.len(), "key set read");
                Ok(Some(Kept {
                    keys,
                    read_at: now_unix,
                    stamp,
                }))
            }
        });
        let mut flight = lock(&self.flight);
        flight.running = None;
        match outcome {
            Ok(kept) => {
                self.counters.renewed.fetch_add(1, Ordering::Relaxed);
                flight.failure = None;
                if let Some(kept) = kept {
                    self.kept.store(Some(Arc::new(kept)));
                }
            }
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                warn!(source = %self.source, %error, "key set could not be read");
                flight.failure = Some(error.to_string());
            }
        }
    }

    fn unavailable(&self) -> TokenError {
        let failure = lock(&self.flight).failure.clone();
        TokenError::Unavailable(failure.unwrap_or_else(|| "keys are too old".to_owned()))
    }
}

impl std::fmt::Display for Source {
    /// Without credentials and query, which may hold a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => {
                write!(
                    formatter,
                    "{}://{}",
                    url.scheme(),
                    url.host_str().unwrap_or_default()
                )?;
                if let Some(port) = url.port() {
                    write!(formatter, ":{port}")?;
                }
                formatter.write_str(url.path())
            }
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// A panic elsewhere leaves these maps whole, so poisoning says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long one attempt to fetch a set may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a fetch is tried before it counts as failed.
const FETCH_ATTEMPTS: usize = 2;
/// The largest set that is read, in bytes.
const SET_BYTES_MAX: usize = 256 * 1024;
/// The most keys that are taken from a set.
const SET_KEYS_MAX: usize = 256;
