//! Requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::channel::Channel;
use protocol::subject::Pattern;
use tracing::warn;

use super::names::Names;
use super::outgoing::{Outgoing, Queue};
use super::{NatsBus, wire};
use crate::apps::{Asked, Reply};
use crate::{Answer, BusError};

impl NatsBus {
    pub(crate) fn serve(
        self: &Arc<Self>,
        pattern: &Pattern,
    ) -> Answer<Result<NatsRequests, BusError>> {
        let (bus, pattern) = (Arc::clone(self), pattern.to_string());
        Answer::Later(Box::pin(async move {
            Ok(NatsRequests {
                questions: bus.listen(&pattern, Some("tidegate")).await?,
                queue: bus.queue.clone(),
                names: Arc::clone(&bus.names),
            })
        }))
    }

    pub(crate) fn request(
        self: &Arc<Self>,
        subject: &Channel,
        data: Bytes,
        within: Duration,
    ) -> Answer<Result<Bytes, BusError>> {
        let bus = Arc::clone(self);
        let subject = self.names.live(subject);
        Answer::Later(Box::pin(async move {
            let started = bus.clock.elapsed();
            let request = Request::new().payload(data).timeout(None);
            let lost = bus.connection.lost();
            let asking = async {
                tokio::select! {
                    reply = bus.connection.client().send_request(subject, request) => reply,
                    () = lost => Err(RequestErrorKind::Other.into()),
                }
            };
            let outcome = tokio::time::timeout(within, asking).await;
            bus.figures
                .took(bus.clock.elapsed().saturating_sub(started));
            let reply = match outcome {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                    return Err(BusError::NoResponder);
                }
                Ok(Err(_)) | Err(_) => return Err(BusError::Unavailable),
            };
            match wire::text(reply.headers.as_ref(), SERVICE_ERROR) {
                Some(_why) => Err(BusError::Refused),
                None => Ok(reply.payload),
            }
        }))
    }
}

/// Questions from NATS.
#[derive(Debug)]
pub(crate) struct NatsRequests {
    questions: async_nats::Subscriber,
    queue: Queue,
    names: Arc<Names>,
}

impl NatsRequests {
    pub(crate) async fn next(&mut self) -> Option<Asked> {
        loop {
            let question = self.questions.next().await?;
            // Without a reply nobody waits for an answer.
            let (Some(reply), Some(subject)) =
                (question.reply, self.names.channel(&question.subject))
            else {
                continue;
            };
            let queue = self.queue.clone();
            let answer = move |answer: Result<Bytes, String>| {
                let (headers, payload) = match answer {
                    Ok(payload) => (None, payload),
                    Err(why) => {
                        let mut headers = HeaderMap::new();
                        headers.insert(SERVICE_ERROR, why.replace(['\r', '\n'], " "));
                        (Some(headers), Bytes::new())
                    }
                };
                let outgoing = Outgoing {
                    subject: reply.to_string(),
                    headers,
                    payload,
                };
                if let Err(error) = queue.send(outgoing) {
                    warn!(%error, "answer could not be sent");
                }
            };
            return Some(Asked {
                subject,
                data: question.payload,
                reply: Reply::There(Some(Box::new(answer))),
            });
        }
    }
}

/// Says that there is no answer, and why, as other services of NATS do.
const SERVICE_ERROR: &str = "Nats-Service-Error";
