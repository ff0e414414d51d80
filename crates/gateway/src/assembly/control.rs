//! What the admin face asks, carried out on fleet, bus and relay.

pub(super) mod console;
pub(super) mod proxies;
pub(super) mod relay;

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use admin::control::{
    Connection, ConnectionDetail, ConnectionFilter, History, HistoryLimit, HistoryQuery, Node,
    Page, PresenceStats, Publication, PublishOptions, RefreshOptions, Reloaded,
    Revocation as ListedRevocation, RevocationExpiry, RevocationRequest, RevokedSubject, Selector,
    SubscribeOptions,
};
use admin::{ApiError, Control, Operator, OperatorError};
use arc_swap::ArcSwap;
use auth::revocation::{RevocationError, Revoked};
use auth::{Revocation, Revocations};
use bus::{Bus, BusError, Now, Publish};
use bytes::Bytes;
use edge::fleet::{Fleet, Glimpse};
use edge::live::Current;
use lifecycle::{CancellationToken, Clock, Tasks};
use protocol::channel::Channel;
use protocol::code::{Disconnect, ErrorCode};
use protocol::codec::Encoding;
use protocol::dialect::Dialect;
use protocol::message::{ClientInfo, StreamPosition};
use protocol::session::{ClientId, ServerSubscribe};
use protocol::settings::ResolvedOptions;
use router::Framing;
use router::relay::Relay;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::chain;
use super::cluster::{Cluster, Deed, Order, OrderError, Subscribe};
use crate::config::Config;
use crate::reload::{Outcome, ReloadHandle};

/// How long a revocation is kept where nobody says: longer than tokens should live.
const REVOCATION_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The gateway as the admin face sees it.
pub(super) struct Gateway {
    pub(super) fleet: Arc<Fleet>,
    pub(super) bus: Bus,
    /// The other gateways.
    pub(super) cluster: Cluster,
    /// `None` if it is off.
    pub(super) relay: Option<Arc<Relay>>,
    pub(super) current: Current,
    pub(super) revocations: Arc<Revocations>,
    /// `None` if it is off.
    pub(super) proxy: Option<proxies::Desk>,
    pub(super) console: console::Desk,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) reload: ReloadHandle,
    pub(super) drain: CancellationToken,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) node: String,
}

impl Gateway {
    fn now(&self) -> Now {
        Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        }
    }

    /// The options of a channel that is named well enough to exist.
    fn options(&self, channel: &str) -> Result<Arc<ResolvedOptions>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::BadRequest);
        }
        let live = self.current.load();
        match live.session.namespaces.look_up(channel) {
            Ok(resolved) => Ok(Arc::clone(resolved)),
            Err(ErrorCode::UnknownChannel) => Err(ApiError::UnknownChannel),
            Err(_) => Err(ApiError::BadRequest),
        }
    }
}

impl Control for Gateway {
    async fn publish(
        &self,
        channel: &str,
        data: Bytes,
        options: PublishOptions,
    ) -> Result<Option<StreamPosition>, ApiError> {
        let resolved = self.options(channel)?;
        if data.is_empty() {
            return Err(ApiError::BadRequest);
        }
        let history = match options.skip_history {
            true => None,
            false => router::policy(&resolved.options),
        };
        let keeps_history = history.is_some();
        let publish = Publish {
            history,
            tags: (!options.tags.is_empty()).then(|| Box::new(options.tags)),
            idempotency_key: options.idempotency_key,
            version: options.version,
            version_epoch: options.version_epoch,
            // A copy of its own, so that history does not keep the request alive.
            ..Publish::new(Channel::new(channel), Bytes::copy_from_slice(&data))
        };
        let published = self.bus.publish(self.now(), publish).await;
        let published = published.map_err(api_error)?;
        Ok(published.position.filter(|_| keeps_history).map(Into::into))
    }

    async fn subscribe(
        &self,
        selector: Selector,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<(), ApiError> {
        self.options(channel)?;
        let subscribe = ServerSubscribe {
            channel: channel.to_owned(),
            info: options.info,
            data: options.data,
            overrides: options.overrides,
            recover_since: options.recover_since,
            expires_at: options.expire_at.unwrap_or(0),
        };
        let deed = Deed::Subscribe(Box::new(Subscribe::of(&subscribe)));
        self.order(selector, Vec::new(), deed)
    }

    async fn unsubscribe(&self, selector: Selector, channel: &str) -> Result<(), ApiError> {
        if channel.is_empty() {
            return Err(ApiError::BadRequest);
        }
        let channel = channel.to_owned();
        self.order(selector, Vec::new(), Deed::Unsubscribe { channel })
    }

    async fn disconnect(
        &self,
        selector: Selector,
        whitelist: Vec<String>,
        disconnect: Disconnect,
    ) -> Result<(), ApiError> {
        // An id that is none names no connection, and that is no error.
        let is_id = |client: &String| ClientId::from_str(client).is_ok();
        let except = whitelist.into_iter().filter(is_id).collect();
        let deed = Deed::Disconnect {
            code: disconnect.code,
            reason: disconnect.reason.into_owned(),
        };
        self.order(selector, except, deed)
    }

    async fn refresh(&self, selector: Selector, options: RefreshOptions) -> Result<(), ApiError> {
        let deed = Deed::Refresh {
            expired: options.expired,
            expires_at: Some(options.expire_at.unwrap_or(0)),
            info: options.info.map(|info| STANDARD.encode(info)),
        };
        self.order(selector, Vec::new(), deed)
    }

    async fn presence(&self, channel: &str) -> Result<BTreeMap<String, ClientInfo>, ApiError> {
        self.with_presence(channel)?;
        let present = self.bus.presence(&Channel::new(channel)).await;
        let present = present.map_err(api_error)?;
        Ok(present
            .into_iter()
            .map(|info| (info.client.clone(), info.as_ref().clone()))
            .collect())
    }

    async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, ApiError> {
        self.with_presence(channel)?;
        let stats = self.bus.presence_stats(&Channel::new(channel)).await;
        let stats = stats.map_err(api_error)?;
        Ok(PresenceStats {
            clients: stats.clients as u64,
            users: stats.users as u64,
        })
    }

    async fn history(&self, channel: &str, query: HistoryQuery) -> Result<History, ApiError> {
        let resolved = self.options(channel)?;
        let policy = router::policy(&resolved.options).ok_or(ApiError::NotAvailable)?;
        if query.reverse && query.since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ApiError::BadRequest);
        }
        let asked = bus::HistoryQuery {
            since: query.since.as_ref().map(|since| since.offset),
            limit: match query.limit {
                HistoryLimit::PositionOnly => bus::HistoryLimit::PositionOnly,
                HistoryLimit::AtMost(most) => bus::HistoryLimit::AtMost(most as usize),
                HistoryLimit::All => bus::HistoryLimit::All,
            },
            reverse: query.reverse,
        };
        let found = self
            .bus
            .history(self.now(), &Channel::new(channel), &policy, asked)
            .await
            .map_err(api_error)?;
        let top = StreamPosition::from(found.top);
        if let Some(since) = &query.since {
            let same_stream = since.epoch.is_empty() || since.epoch == top.epoch;
            let is_held = query.reverse || found.holds_all_after(since.offset);
            if !same_stream || !is_held {
                return Err(ApiError::UnrecoverablePosition);
            }
        }
        let publications = found
            .publications
            .iter()
            .filter_map(|message| message.publication())
            .map(|publication| {
                let told = router::publication(publication);
                Publication {
                    data: told.data,
                    info: told.info,
                    offset: told.offset,
                    tags: told.tags,
                }
            })
            .collect();
        Ok(History { publications, top })
    }

    async fn history_remove(&self, channel: &str) -> Result<(), ApiError> {
        let resolved = self.options(channel)?;
        if !resolved.options.has_history() {
            return Err(ApiError::NotAvailable);
        }
        let removed = self.bus.remove_history(&Channel::new(channel)).await;
        removed.map_err(api_error)
    }

    async fn channels(&self, pattern: &str) -> Result<BTreeMap<String, u64>, ApiError> {
        let matches: Box<dyn Fn(&str) -> bool + Send> = match pattern {
            "" => Box::new(|_| true),
            pattern => {
                let glob = globset::GlobBuilder::new(pattern)
                    .literal_separator(false)
                    .build()
                    .map_err(|_| ApiError::BadRequest)?
                    .compile_matcher();
                Box::new(move |channel| glob.is_match(channel))
            }
        };
        let channels = self.fleet.channels().await;
        Ok(channels
            .into_iter()
            .filter(|(channel, _)| matches(channel))
            .map(|(channel, count)| (channel, count as u64))
            .collect())
    }

    async fn info(&self) -> Result<Vec<Node>, ApiError> {
        let channels = self.fleet.channels().await;
        Ok(vec![Node {
            uid: self.node.clone(),
            name: "tidegate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clients: self.fleet.connection_count() as u64,
            users: self.fleet.users() as u64,
            channels: channels.len() as u64,
            subscriptions: channels.values().map(|count| *count as u64).sum(),
            uptime: self.clock.elapsed(),
        }])
    }
}

impl Gateway {
    fn with_presence(&self, channel: &str) -> Result<(), ApiError> {
        let resolved = self.options(channel)?;
        if resolved.options.presence {
            Ok(())
        } else {
            Err(ApiError::NotAvailable)
        }
    }

    /// Does something to the connections of a user, at whatever gateway they are.
    fn order(&self, selector: Selector, except: Vec<String>, deed: Deed) -> Result<(), ApiError> {
        let order = Order {
            user: selector.user,
            client: selector.client,
            session: selector.session,
            except,
            deed,
        };
        match self.cluster.give(&order) {
            Ok(()) => Ok(()),
            // An id that is none names no connection, and that is no error.
            Err(OrderError::Id(_)) => Ok(()),
            Err(error @ OrderError::Bus(_)) => {
                tracing::warn!(%error, "other gateways were not told");
                Err(ApiError::Internal)
            }
            Err(error) => {
                tracing::warn!(%error, "order was not carried out");
                Err(ApiError::BadRequest)
            }
        }
    }
}

impl Operator for Gateway {
    type Relay = relay::Desk;
    type Proxies = proxies::Desk;
    type Console = console::Desk;

    fn console(&self) -> console::Desk {
        self.console.clone()
    }

    fn proxies(&self) -> Option<proxies::Desk> {
        self.proxy.clone()
    }

    fn relay(&self) -> Option<relay::Desk> {
        let relay = self.relay.clone()?;
        let tasks = self.tasks.clone();
        Some(relay::Desk { relay, tasks })
    }

    async fn connections(
        &self,
        filter: ConnectionFilter,
        page: Page,
    ) -> Result<Vec<Connection>, OperatorError> {
        let mut found: Vec<Glimpse> = self.fleet.connections().await;
        let search = filter.search.as_deref().unwrap_or_default().to_lowercase();
        let is_found = |glimpse: &Glimpse| {
            let has = |text: &str| text.to_lowercase().contains(&search);
            search.is_empty()
                || has(&glimpse.user)
                || has(&glimpse.client.to_string())
                || has(&glimpse.address.to_string())
        };
        found.retain(|glimpse| {
            filter
                .user
                .as_ref()
                .is_none_or(|user| *user == glimpse.user)
                && filter
                    .address
                    .is_none_or(|address| address == glimpse.address)
                && filter
                    .channel
                    .as_ref()
                    .is_none_or(|name| glimpse.channels.contains(name))
                && is_found(glimpse)
        });
        let mut listed: Vec<Connection> = found.iter().map(connection).collect();
        listed.sort_unstable_by(|one, other| one.client.cmp(&other.client));
        if let Some(after) = &page.after {
            listed.retain(|connection| connection.client > *after);
        }
        listed.truncate(page.limit);
        Ok(listed)
    }

    async fn connection(&self, client: &str) -> Result<Option<ConnectionDetail>, OperatorError> {
        let Ok(client) = ClientId::from_str(client) else {
            return Ok(None);
        };
        let found = self.fleet.connections().await;
        Ok(found
            .into_iter()
            .find(|glimpse| glimpse.client == client)
            .map(|glimpse| ConnectionDetail {
                connection: connection(&glimpse),
                expires_at: (glimpse.expires_at != 0).then_some(glimpse.expires_at),
                channels: glimpse.channels,
            }))
    }

    async fn close(&self, client: &str, disconnect: Disconnect) -> Result<bool, OperatorError> {
        match ClientId::from_str(client) {
            Ok(client) => Ok(self.fleet.disconnect_client(client, disconnect).await),
            Err(_) => Ok(false),
        }
    }

    async fn revocations(&self) -> Result<Vec<ListedRevocation>, OperatorError> {
        Ok(self.revocations.list().into_iter().map(listed).collect())
    }

    async fn revoke(&self, request: RevocationRequest) -> Result<ListedRevocation, OperatorError> {
        let now_s = self.clock.unix_ms() / 1_000;
        let expires_at = match request.expiry {
            RevocationExpiry::Default => now_s + REVOCATION_TTL.as_secs(),
            RevocationExpiry::In(ttl) => now_s.saturating_add(ttl.as_secs()),
            RevocationExpiry::At(at) if at <= now_s => {
                return Err(OperatorError::Refused(
                    "expires_at lies in the past".to_owned(),
                ));
            }
            RevocationExpiry::At(at) => at,
        };
        let revoked = match request.subject {
            // `iat` has whole seconds, so whatever is of this second may be older.
            RevokedSubject::User(user) => Revoked::User {
                user,
                issued_before: now_s + 1,
            },
            RevokedSubject::TokenId(token_id) => Revoked::Token { token_id },
        };
        let revocation = Revocation {
            revoked,
            expires_at,
            reason: request.reason,
        };
        let (revocations, entry) = (Arc::clone(&self.revocations), revocation.clone());
        self.on_disk(move || revocations.add(entry, now_s)).await?;
        let told = self.cluster.revocations.keep(&revocation).await;
        told.map_err(|error| here_only(&error))?;
        Ok(listed(revocation))
    }

    async fn reinstate(&self, subject: RevokedSubject) -> Result<bool, OperatorError> {
        let revoked = match subject {
            // Whatever the moment: a user has one revocation at most.
            RevokedSubject::User(user) => Revoked::User {
                user,
                issued_before: 0,
            },
            RevokedSubject::TokenId(token_id) => Revoked::Token { token_id },
        };
        // Unknown here it may still be known elsewhere.
        let longest = self.clock.unix_ms() / 1_000 + REVOCATION_TTL.as_secs();
        let expires_at = self.revocations.expiry(&revoked).unwrap_or(longest);
        let (revocations, gone) = (Arc::clone(&self.revocations), revoked.clone());
        let was_there = self.on_disk(move || revocations.remove(&gone)).await?;
        let shared = &self.cluster.revocations;
        let told = shared.forget(&revoked, expires_at).await;
        told.map_err(|error| here_only(&error))?;
        Ok(was_there)
    }

    async fn reload(&self) -> Result<Reloaded, OperatorError> {
        match self.reload.reload().await {
            Some(Outcome::Unchanged) => Ok(Reloaded::default()),
            Some(Outcome::Applied { changed, kept }) => Ok(Reloaded {
                changed,
                restart_needed: kept.into_iter().map(str::to_owned).collect(),
            }),
            Some(Outcome::Refused(reason)) => Err(OperatorError::Refused(reason)),
            None => Err(OperatorError::Failed("the gateway is stopping".to_owned())),
        }
    }

    async fn drain(&self) -> Result<(), OperatorError> {
        self.drain.cancel();
        Ok(())
    }

    async fn config(&self) -> Result<serde_json::Value, OperatorError> {
        serde_json::to_value(self.config.load_full().as_ref())
            .map_err(|error| OperatorError::Failed(error.to_string()))
    }
}

impl Gateway {
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RevocationError> + Send + 'static,
    ) -> Result<T, OperatorError> {
        match self.tasks.blocking(work).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(error @ RevocationError::Full)) => {
                Err(OperatorError::LimitReached(error.to_string()))
            }
            Some(Err(error @ RevocationError::Name)) => {
                Err(OperatorError::Refused(error.to_string()))
            }
            Some(Err(error)) => Err(OperatorError::Failed(chain(&error))),
            None => Err(OperatorError::Failed(
                "the change could not be made".to_owned(),
            )),
        }
    }
}

fn connection(glimpse: &Glimpse) -> Connection {
    Connection {
        client: glimpse.client.to_string(),
        user: glimpse.user.clone(),
        address: glimpse.address,
        transport: match glimpse.flavor.framing {
            Framing::WebSocket { .. } => "websocket",
            Framing::Stream => "http_stream",
            Framing::Events => "sse",
        },
        encoding: match glimpse.flavor.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        },
        dialect: match glimpse.dialect {
            Dialect::Centrifuge => "centrifuge",
            Dialect::Stratix => "stratix",
            Dialect::Live { .. } => "live",
        },
        connected_at: glimpse.since_unix_ms / 1_000,
        channels: glimpse.channels.iter().collect::<HashSet<_>>().len(),
        queue_bytes: glimpse.queue_bytes,
    }
}

fn listed(revocation: Revocation) -> ListedRevocation {
    let (subject, issued_before) = match revocation.revoked {
        Revoked::User {
            user,
            issued_before,
        } => (RevokedSubject::User(user), Some(issued_before)),
        Revoked::Token { token_id } => (RevokedSubject::TokenId(token_id), None),
    };
    ListedRevocation {
        subject,
        issued_before,
        expires_at: revocation.expires_at,
        reason: revocation.reason,
    }
}

/// It is done, but other gateways have not been told: whoever asked should ask again.
fn here_only(error: &BusError) -> OperatorError {
    OperatorError::Failed(format!("it holds at this gateway only: {error}"))
}

fn api_error(error: BusError) -> ApiError {
    tracing::warn!(%error, "server API call was refused by the bus");
    ApiError::Internal
}
