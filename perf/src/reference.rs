//! The reference broadcaster: the same service, built the usual way.
//!
//! axum with its WebSocket, a task per connection, a tokio broadcast channel
//! per topic, defaults throughout. It checks tokens, pings, and encodes each
//! publication once; it keeps no history, no presence, no limits. It speaks as
//! much of the Centrifuge client protocol (JSON, v2) as the loads here use.
//! Its one economy: a connection holds one subscription, since that is all the
//! loads need and a set of receivers would only make it slower.
//!
//! The usual way sends each publication by itself. With `--coalesce` a
//! connection takes all that its channel holds and flushes once: what a careful
//! author would come to, for comparison.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::pending;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use clap::Args;
use futures_util::SinkExt as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::report::say;
use crate::token::{Claims, SECRET};

/// How the reference broadcaster runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds between two pings.
    #[arg(long, default_value_t = 25)]
    ping_interval: u64,
    /// Writes all publications at hand at once, instead of each by itself.
    #[arg(long)]
    coalesce: bool,
}

/// Serves on a free port, which it prints, until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("runtime was not made")?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let hub = Arc::new(Hub {
        topics: RwLock::default(),
        key: DecodingKey::from_secret(SECRET.as_bytes()),
        validation,
        ping_interval: Duration::from_secs(options.ping_interval.max(1)),
        coalesce: options.coalesce,
    });
    runtime.block_on(async {
        let router = axum::Router::new()
            .route("/connection/websocket", get(upgrade))
            .with_state(hub);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("port was not bound")?;
        let address = listener.local_addr().context("port is not known")?;
        say(&format!(
            r#"{{"message":"listening","listener":"main","address":"{address}"}}"#
        ));
        axum::serve(listener, router).await.context("server failed")
    })
}

/// What all connections share.
struct Hub {
    topics: RwLock<HashMap<String, broadcast::Sender<Utf8Bytes>>>,
    key: DecodingKey,
    validation: Validation,
    ping_interval: Duration,
    coalesce: bool,
}

/// A command, as far as it is understood.
#[derive(Debug, Deserialize)]
struct Command<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow)]
    connect: Option<Connect<'a>>,
    subscribe: Option<Subscribe>,
    #[serde(borrow)]
    publish: Option<Publish<'a>>,
}

#[derive(Debug, Deserialize)]
struct Connect<'a> {
    token: &'a str,
}

#[derive(Debug, Deserialize)]
struct Subscribe {
    channel: String,
}

#[derive(Debug, Deserialize)]
struct Publish<'a> {
    channel: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

async fn upgrade(State(hub): State<Arc<Hub>>, request: WebSocketUpgrade) -> Response {
    request.on_upgrade(|socket| session(socket, hub))
}

async fn session(mut socket: WebSocket, hub: Arc<Hub>) {
    let mut connected = false;
    let mut subscription: Option<broadcast::Receiver<Utf8Bytes>> = None;
    let mut ping = tokio::time::interval(hub.ping_interval);
    ping.reset();
    loop {
        let outgoing = tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    match answer(&hub, &text, &mut connected, &mut subscription) {
                        Some(replies) if replies.is_empty() => continue,
                        Some(replies) => Message::text(replies),
                        None => return,
                    }
                }
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                // The library has queued the answer; reading on sends it.
                Some(Ok(Message::Close(_))) => continue,
                Some(Err(_)) | None => return,
            },
            publication = next(&mut subscription) => match publication {
                Ok(publication) => Message::Text(publication),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            _ = ping.tick(), if connected => Message::text("{}"),
        };
        let sent = match &mut subscription {
            Some(receiver) if hub.coalesce => send_all(&mut socket, outgoing, receiver).await,
            _ => socket.send(outgoing).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Sends a message and all publications that are at hand by then, in one write.
async fn send_all(
    socket: &mut WebSocket,
    first: Message,
    receiver: &mut broadcast::Receiver<Utf8Bytes>,
) -> Result<(), axum::Error> {
    socket.feed(first).await?;
    while let Ok(publication) = receiver.try_recv() {
        socket.feed(Message::Text(publication)).await?;
    }
    socket.flush().await
}

async fn next(
    subscription: &mut Option<broadcast::Receiver<Utf8Bytes>>,
) -> Result<Utf8Bytes, RecvError> {
    match subscription {
        Some(receiver) => receiver.recv().await,
        None => pending().await,
    }
}

/// Carries out the commands of a frame; `None` closes the connection.
fn answer(
    hub: &Hub,
    text: &str,
    connected: &mut bool,
    subscription: &mut Option<broadcast::Receiver<Utf8Bytes>>,
) -> Option<String> {
    let mut replies = String::new();
    for line in text.lines().filter(|&line| line != "{}") {
        let command: Command<'_> = serde_json::from_str(line).ok()?;
        let id = command.id;
        if !replies.is_empty() {
            replies.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = match command {
            Command {
                connect: Some(connect),
                ..
            } => {
                jsonwebtoken::decode::<Claims>(connect.token, &hub.key, &hub.validation).ok()?;
                *connected = true;
                let ping = hub.ping_interval.as_secs();
                write!(
                    replies,
                    r#"{{"id":{id},"connect":{{"client":"{id}","version":"reference","ping":{ping},"pong":true}}}}"#
                )
            }
            _ if !*connected => return None,
            Command {
                subscribe: Some(_), ..
            } if subscription.is_some() => {
                write!(
                    replies,
                    r#"{{"id":{id},"error":{{"code":106,"message":"limit exceeded"}}}}"#
                )
            }
            Command {
                subscribe: Some(subscribe),
                ..
            } => {
                *subscription = Some(hub.topic(subscribe.channel)?.subscribe());
                write!(replies, r#"{{"id":{id},"subscribe":{{}}}}"#)
            }
            Command {
                publish: Some(publish),
                ..
            } => {
                hub.publish(&publish)?;
                write!(replies, r#"{{"id":{id},"publish":{{}}}}"#)
            }
            _ => return None,
        };
    }
    Some(replies)
}

impl Hub {
    /// The broadcast channel of a topic, made if there is none.
    fn topic(&self, name: String) -> Option<broadcast::Sender<Utf8Bytes>> {
        let mut topics = self.topics.write().ok()?;
        Some(
            topics
                .entry(name)
                .or_insert_with(|| broadcast::channel(TOPIC_CAPACITY).0)
                .clone(),
        )
    }

    fn publish(&self, publish: &Publish<'_>) -> Option<()> {
        let channel = serde_json::to_string(publish.channel).ok()?;
        let push = format!(
            r#"{{"push":{{"channel":{channel},"pub":{{"data":{}}}}}}}"#,
            publish.data
        );
        if let Some(topic) = self.topics.read().ok()?.get(publish.channel) {
            // Fails only without subscribers.
            let _ = topic.send(push.into());
        }
        Some(())
    }
}

/// Publications a topic keeps for its slowest subscriber: enough that none lags
/// behind in these loads.
const TOPIC_CAPACITY: usize = 1024;
