//! Subscriptions beside those of channels: to words, state and requests.

use std::sync::Arc;

use async_nats::Subscriber;
use async_nats::client::{Request, RequestErrorKind};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::timeout;

use super::store::PATIENCE;
use super::{NatsBus, interest};
use crate::BusError;

type Denials = Receiver<Arc<str>>;

impl NatsBus {
    /// Listens to a subject, as one of a group or alone. Answered once the servers know of
    /// it, or have refused it.
    pub(super) async fn listen(
        &self,
        subject: &str,
        group: Option<&str>,
    ) -> Result<Subscriber, BusError> {
        let denials = self.connection.denials();
        let client = self.connection.client();
        let subscribing = async {
            match group {
                None => client.subscribe(subject.to_owned()).await,
                Some(group) => {
                    let group = group.to_owned();
                    client.queue_subscribe(subject.to_owned(), group).await
                }
            }
        };
        // The client's queue is full while the connection is away for long.
        let Ok(Ok(subscriber)) = timeout(PATIENCE, subscribing).await else {
            return Err(BusError::Unavailable);
        };
        self.sync(subject, denials).await?;
        Ok(subscriber)
    }

    /// Waits until the server has done what was asked before, and whether it allowed it.
    /// `denials` since before that.
    async fn sync(&self, subject: &str, denials: Denials) -> Result<(), BusError> {
        let request = Request::new().timeout(None);
        let client = self.connection.client();
        let asked = client.send_request(self.names.sync(), request);
        match timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {}
            Ok(Err(_)) | Err(_) => return Err(BusError::Unavailable),
        }
        // What the server refused was said before its answer, but takes another way here.
        match timeout(interest::DENIAL_GRACE, is_denied(subject, denials)).await {
            Ok(()) => Err(BusError::Denied),
            Err(_none) => Ok(()),
        }
    }
}

/// Ends when a refusal of the subject is heard.
async fn is_denied(subject: &str, mut denials: Denials) {
    let named = format!("\"{subject}\"");
    loop {
        match denials.recv().await {
            Ok(text) if text.contains(&named) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
