//! Between a live-data client and a session: messages in, commands out; replies in,
//! refusals out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{Inbound, Verb};
use crate::code::ErrorCode;
use crate::message::Reply;

/// What one client has asked for. Bounded by the session: it answers commands in order,
/// and keeps only so many for later.
#[derive(Debug, Default)]
pub struct Desk {
    /// The id of the last command.
    last_id: u32,
    /// What is subscribed to, or about to be, with the id of the command that asked.
    wanted: BTreeMap<Arc<str>, u32>,
    /// Subscribe commands that were not answered yet, in order.
    asked: VecDeque<(u32, Arc<str>)>,
}

/// What a reply means to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It cannot have a subject, or no longer has it; as text.
    Refused(String),
    /// Publications of a subject.
    Payloads(Arc<str>, Vec<Bytes>),
}

impl Desk {
    /// Writes the commands that a message means, one in a line: nothing, if it asks for
    /// what there is already.
    pub fn commands(&mut self, message: Inbound, out: &mut Vec<u8>) {
        if message.verb == Verb::Replace {
            self.drop_others(&message.subjects, out);
        }
        for subject in message.subjects {
            match message.verb {
                Verb::Subscribe | Verb::Replace => self.subscribe(subject, out),
                Verb::Unsubscribe => self.unsubscribe(&subject, out),
            }
        }
    }

    /// What the client hears of a reply, or a push, of the session.
    pub fn told(&mut self, reply: &Reply) -> Option<Told> {
        if let Some(push) = &reply.push {
            if let Some(ended) = &push.unsubscribe {
                self.wanted.remove(push.channel.as_str());
                let reason = Some(ended.reason.as_str());
                return Some(Told::Refused(super::error(&push.channel, reason)));
            }
            let data = push.publication.as_ref()?.data.clone();
            return Some(Told::Payloads(push.channel.as_str().into(), vec![data]));
        }
        let subject = self.answered(reply.id)?;
        if let Some(result) = &reply.subscribe {
            let publications = result.publications.iter();
            let payloads: Vec<Bytes> = publications.map(|one| one.data.clone()).collect();
            return (!payloads.is_empty()).then_some(Told::Payloads(subject, payloads));
        }
        let error = reply.error.as_ref()?;
        // The server has subscribed the client already, which is what it wants.
        if error.code == ErrorCode::AlreadySubscribed.code() {
            return None;
        }
        if self.wanted.get(&subject) == Some(&reply.id) {
            self.wanted.remove(&subject);
        }
        let is_refusal = FINAL.iter().any(|code| code.code() == error.code);
        let message = (!is_refusal).then_some(error.message.as_str());
        Some(Told::Refused(super::error(&subject, message)))
    }

    /// How many subjects it has, or is about to have.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    fn subscribe(&mut self, subject: String, out: &mut Vec<u8>) {
        // Nothing is subscribed to without a name; the session would take it for a
        // breach of its protocol, which this client does not speak.
        if subject.is_empty() || self.wanted.contains_key(subject.as_str()) {
            return;
        }
        let id = self.next_id();
        let subject: Arc<str> = subject.into();
        write(out, &Line::subscribe(id, &subject));
        self.wanted.insert(Arc::clone(&subject), id);
        self.asked.push_back((id, subject));
    }

    fn unsubscribe(&mut self, subject: &str, out: &mut Vec<u8>) {
        if subject.is_empty() {
            return;
        }
        self.wanted.remove(subject);
        let id = self.next_id();
        write(out, &Line::unsubscribe(id, subject));
    }

    fn drop_others(&mut self, kept: &[String], out: &mut Vec<u8>) {
        let kept: std::collections::BTreeSet<&str> = kept.iter().map(String::as_str).collect();
        let dropped: Vec<Arc<str>> = self
            .wanted
            .keys()
            .filter(|subject| !kept.contains(&***subject))
            .cloned()
            .collect();
        for subject in dropped {
            self.unsubscribe(&subject, out);
        }
    }

    /// The subject that a reply is about, if it answers a subscribe command.
    fn answered(&mut self, id: u32) -> Option<Arc<str>> {
        let (first, _) = self.asked.front()?;
        if *first != id {
            return None;
        }
        let (_, subject) = self.asked.pop_front()?;
        if self.asked.is_empty() {
            self.asked = VecDeque::new();
        }
        Some(subject)
    }

    /// Never 0, which is no id.
    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }
}

/// Errors that say no more than that the subject is refused.
const FINAL: [ErrorCode; 5] = [
    ErrorCode::UnknownChannel,
    ErrorCode::PermissionDenied,
    ErrorCode::BadRequest,
    ErrorCode::NotAvailable,
    ErrorCode::TokenExpired,
];

/// A command of the session's protocol, in JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsubscribe: Option<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    channel: &'a str,
}

impl<'a> Line<'a> {
    fn subscribe(id: u32, channel: &'a str) -> Self {
        Self {
            id,
            subscribe: Some(Named { channel }),
            unsubscribe: None,
        }
    }

    fn unsubscribe(id: u32, channel: &'a str) -> Self {
        Self {
            id,
            subscribe: None,
            unsubscribe: Some(Named { channel }),
        }
    }
}

fn write(out: &mut Vec<u8>, line: &Line<'_>) {
    if !out.is_empty() {
        out.push(b'\n');
    }
    // Text and a number always go into JSON, and a vector always takes it.
    let written = serde_json::to_writer(&mut *out, line);
    debug_assert!(written.is_ok(), "a command could not be written");
}
