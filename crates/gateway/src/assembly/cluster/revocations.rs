//! Revocations that all gateways of a cluster have.
//!
//! Each is kept on the bus under its user or token until it expires. One that was taken
//! back leaves word of that for as long, so that a gateway that was away takes it back too
//! and does not bring it along again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use auth::revocation::{RevocationError, Revoked};
use auth::{Revocation, Revocations};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::{Bus, BusError, Keep, Kept};
use lifecycle::{Clock, Tasks};
use tracing::warn;

use super::PAUSE;

/// The revocations of this gateway, and those of the others.
#[derive(Clone)]
pub(in crate::assembly) struct SharedRevocations {
    pub(in crate::assembly) bus: Bus,
    pub(in crate::assembly) own: Arc<Revocations>,
    pub(in crate::assembly) clock: Clock,
    pub(in crate::assembly) tasks: Tasks,
}

impl SharedRevocations {
    /// Lets all gateways know of a revocation.
    pub(in crate::assembly) async fn keep(&self, revocation: &Revocation) -> Result<(), BusError> {
        // Plain data: this does not fail.
        let value = serde_json::to_vec(revocation).unwrap_or_default();
        let keep = Keep {
            key: key_of(&revocation.revoked),
            value: Some(value.into()),
            ttl: Some(self.left(revocation.expires_at)),
            after: None,
        };
        self.bus.keep(keep).await.map(drop)
    }

    /// Lets all gateways know that something is no longer revoked, which would have been
    /// until `expires_at` (Unix seconds).
    pub(in crate::assembly) async fn forget(
        &self,
        revoked: &Revoked,
        expires_at: u64,
    ) -> Result<(), BusError> {
        let keep = Keep {
            key: key_of(revoked),
            value: None,
            ttl: Some(self.left(expires_at)),
            after: None,
        };
        self.bus.keep(keep).await.map(drop)
    }

    /// Takes over what is revoked at other gateways, and tells them of what is revoked here
    /// and not there. Never ends.
    pub(super) async fn follow(&self) {
        self.tell_own().await;
        loop {
            match self.bus.watch_kept(BELOW).await {
                Err(error) => warn!(%error, "revocations of other gateways are not heard"),
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Ok(Some(kept)) => {
                            let mut changes = vec![kept];
                            // What comes together is saved together.
                            while let Some(kept) = watch.try_next()
                                && changes.len() < AT_ONCE
                            {
                                changes.push(kept);
                            }
                            self.take_over(changes).await;
                        }
                        Ok(None) => break,
                        Err(error) => {
                            warn!(%error, "revocations of other gateways are not heard");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn tell_own(&self) {
        let kept = loop {
            match self.bus.kept(BELOW).await {
                Ok(kept) => break kept,
                Err(error) => warn!(%error, "revocations of other gateways are not heard"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        // Those that were taken back are known as well.
        let known: HashSet<String> = kept.into_iter().map(|kept| kept.key).collect();
        for revocation in self.own.list() {
            if !known.contains(&key_of(&revocation.revoked))
                && let Err(error) = self.keep(&revocation).await
            {
                warn!(%error, "a revocation is not known to other gateways");
            }
        }
    }

    /// Makes the changes here, in their order.
    async fn take_over(&self, changes: Vec<Kept>) {
        let mut new = Vec::new();
        for kept in changes {
            match kept.value {
                Some(value) => match serde_json::from_slice::<Revocation>(&value) {
                    Ok(revocation) if self.own.covers(&revocation) => {}
                    Ok(revocation) => new.push(revocation),
                    Err(error) => warn!(key = kept.key, %error, "revocation is not readable"),
                },
                None => {
                    self.add(std::mem::take(&mut new)).await;
                    let revoked = revoked_of(&kept.key);
                    if let Some(revoked) = revoked.filter(|it| self.own.expiry(it).is_some()) {
                        self.on_disk(move |own, _| own.remove(&revoked).map(drop))
                            .await;
                    }
                }
            }
        }
        self.add(new).await;
    }

    async fn add(&self, new: Vec<Revocation>) {
        if !new.is_empty() {
            self.on_disk(move |own, now_s| own.add_all(new, now_s))
                .await;
        }
    }

    async fn on_disk(
        &self,
        work: impl FnOnce(&Revocations, u64) -> Result<(), RevocationError> + Send + 'static,
    ) {
        let (own, now_s) = (Arc::clone(&self.own), self.now_s());
        let done = self.tasks.blocking(move || work(&own, now_s)).await;
        if let Some(Err(error)) = done {
            warn!(%error, "revocations of another gateway were not taken over");
        }
    }

    fn now_s(&self) -> u64 {
        self.clock.unix_ms() / 1_000
    }

    fn left(&self, expires_at: u64) -> Duration {
        let left = expires_at.saturating_sub(self.now_s());
        Duration::from_secs(left.max(1)).min(TTL_MAX)
    }
}

/// Where a revocation is kept on the bus.
fn key_of(revoked: &Revoked) -> String {
    let (kind, name) = match revoked {
        Revoked::User { user, .. } => (USER, user),
        Revoked::Token { token_id } => (TOKEN, token_id),
    };
    format!("{BELOW}.{kind}.{}", URL_SAFE_NO_PAD.encode(name))
}

/// What is revoked there; for a user, whatever the moment.
fn revoked_of(key: &str) -> Option<Revoked> {
    let (kind, name) = key
        .strip_prefix(BELOW)?
        .strip_prefix('.')?
        .split_once('.')?;
    let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
    match kind {
        USER => Some(Revoked::User {
            user: name,
            issued_before: 0,
        }),
        TOKEN => Some(Revoked::Token { token_id: name }),
        _ => None,
    }
}

/// Below which key revocations are kept.
const BELOW: &str = "revocations";
const USER: &str = "user";
const TOKEN: &str = "token";

/// Changes that are saved together.
const AT_ONCE: usize = 1_000;

/// What lasts longer is told anew by whoever starts; servers count in nanoseconds.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests;
