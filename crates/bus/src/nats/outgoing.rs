//! What waits to be sent, in order.

use std::sync::Arc;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use lifecycle::{CancellationToken, Tasks};
use tokio::sync::mpsc;
use tracing::warn;

use super::figures::{Figures, add};
use crate::BusError;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
}

/// The queue of what is sent; one task empties it, so its order is that of the wire.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    sender: mpsc::Sender<Outgoing>,
    client: Client,
    figures: Arc<Figures>,
}

impl Queue {
    pub(super) fn open(
        client: Client,
        capacity: usize,
        figures: Arc<Figures>,
        tasks: &Tasks,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        let writing = write(client.clone(), receiver, tasks.stopping());
        tasks.spawn("nats-writer", writing);
        Self {
            sender,
            client,
            figures,
        }
    }

    /// Takes a message, or refuses it at once.
    pub(super) fn send(&self, outgoing: Outgoing) -> Result<(), BusError> {
        self.room(outgoing).map(Room::send)
    }

    /// A place in the queue for a message that may yet be held back.
    pub(super) fn room(&self, outgoing: Outgoing) -> Result<Room<'_>, BusError> {
        // What exceeds it is closed upon by the server.
        let headers = outgoing.headers.as_ref().map_or(0, |headers| {
            headers
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
                .map(|(name, value)| {
                    let name: &str = name.as_ref();
                    name.len() + value.as_str().len() + 4
                })
                .sum()
        });
        if outgoing.payload.len() + headers + HEADERS_OWN > self.client.max_payload() {
            return Err(BusError::LimitExceeded {
                limit: "max_payload",
            });
        }
        let place = self.sender.try_reserve().map_err(|_full| {
            add(&self.figures.refused, 1);
            BusError::Busy
        })?;
        Ok(Room {
            place,
            outgoing,
            figures: &self.figures,
        })
    }
}

/// A place in the queue, and what is to stand there.
pub(super) struct Room<'a> {
    place: mpsc::Permit<'a, Outgoing>,
    outgoing: Outgoing,
    figures: &'a Figures,
}

impl Room<'_> {
    /// Sends it.
    pub(super) fn send(self) {
        self.place.send(self.outgoing);
        add(&self.figures.published, 1);
    }
}

async fn write(client: Client, mut queue: mpsc::Receiver<Outgoing>, stopping: CancellationToken) {
    loop {
        let outgoing = tokio::select! {
            biased;
            outgoing = queue.recv() => outgoing,
            () = stopping.cancelled() => break,
        };
        let Some(Outgoing {
            subject,
            headers,
            payload,
        }) = outgoing
        else {
            break;
        };
        let sending = async {
            match headers {
                Some(headers) => client.publish_with_headers(subject, headers, payload).await,
                None => client.publish(subject, payload).await,
            }
        };
        // What the connection has room for goes out, stopping or not.
        tokio::select! {
            biased;
            sent = sending => if let Err(error) = sent {
                warn!(%error, "message could not be sent");
            },
            () = stopping.cancelled() => break,
        }
    }
}

/// First and last line of the headers.
const HEADERS_OWN: usize = 12;
