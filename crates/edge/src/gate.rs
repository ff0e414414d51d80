//! Token checks, off the workers' loops.
//!
//! An RSA check takes as long as hundreds of deliveries, and a key set may have to
//! be fetched: so checks run as tasks on the background runtime, at most
//! [`CHECKS_MAX`] at once. Beyond that they are refused as unavailable, which SDKs
//! answer by coming back later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth::{Revocations, Verifier};
use lifecycle::{Clock, Tasks};
use protocol::claims::{ConnectionClaims, SubscriptionClaims, TokenError};
use protocol::session::Response;

use crate::live::Current;
use crate::metrics::Metrics;

/// Most checks under way at once.
const CHECKS_MAX: usize = 8_192;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Subscription,
}

/// A place among the checks under way; given back when dropped, by a panic too.
struct Place {
    gate: Arc<Gate>,
    /// How many there were already.
    before: usize,
}

impl Place {
    fn take(gate: &Arc<Gate>) -> Self {
        let before = gate.under_way.fetch_add(1, Ordering::Relaxed);
        Self {
            gate: Arc::clone(gate),
            before,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks tokens.
pub(crate) struct Gate {
    tasks: Tasks,
    current: Current,
    revocations: Arc<Revocations>,
    clock: Clock,
    under_way: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Gate {
    pub(crate) fn new(
        tasks: Tasks,
        current: Current,
        revocations: Arc<Revocations>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            tasks,
            current,
            revocations,
            clock,
            under_way: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Where what takes a while runs.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Checks a token and hands the answer on. To be called within the runtime.
    pub(crate) fn check(
        self: &Arc<Self>,
        kind: Kind,
        token: String,
        answer: impl FnOnce(Response) + Send + 'static,
    ) {
        let place = Place::take(self);
        if place.before >= CHECKS_MAX {
            let busy = TokenError::Unavailable("too many checks are under way".to_owned());
            return answer(match kind {
                Kind::Connection => Response::Authenticated(Err(busy)),
                Kind::Subscription => Response::SubscriptionAuthorized(Err(busy)),
            });
        }
        let gate = Arc::clone(self);
        self.tasks.spawn("token check", async move {
            let response = match kind {
                Kind::Connection => Response::Authenticated(gate.connection(&token).await),
                Kind::Subscription => {
                    Response::SubscriptionAuthorized(gate.subscription(&token).await)
                }
            };
            drop(place);
            answer(response);
        });
    }

    /// What the clock says, in ms.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.mono_ms()
    }

    /// Checks a connection token.
    pub(crate) async fn connection(&self, token: &str) -> Result<ConnectionClaims, TokenError> {
        let verifier = Arc::clone(&self.current.load().verifier);
        self.connection_by(&verifier, token).await
    }

    /// Checks a connection token by keys of its own.
    pub(crate) async fn connection_by(
        &self,
        verifier: &Verifier,
        token: &str,
    ) -> Result<ConnectionClaims, TokenError> {
        let claims = verifier
            .connection(token, self.clock.unix_ms() / 1_000)
            .await;
        self.judge(claims, |claims| {
            self.revocations
                .check(&claims.user, claims.token_id.as_deref(), claims.issued_at)
        })
    }

    async fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        let verifier = Arc::clone(&self.current.load().verifier);
        let claims = verifier
            .subscription(token, self.clock.unix_ms() / 1_000)
            .await;
        self.judge(claims, |claims| {
            self.revocations
                .check(&claims.user, claims.token_id.as_deref(), claims.issued_at)
        })
    }

    fn judge<T>(
        &self,
        claims: Result<T, TokenError>,
        is_revoked: impl FnOnce(&T) -> bool,
    ) -> Result<T, TokenError> {
        let judged = claims.and_then(|claims| {
            if is_revoked(&claims) {
                Err(TokenError::Revoked)
            } else {
                Ok(claims)
            }
        });
        if let Err(error) = &judged {
            self.metrics.token_refused(match error {
                TokenError::Expired => "expired",
                TokenError::Invalid(_) => "invalid",
                TokenError::Revoked => "revoked",
                TokenError::Unavailable(_) => "unavailable",
            });
            tracing::debug!(%error, "token was refused");
        }
        judged
    }
}
