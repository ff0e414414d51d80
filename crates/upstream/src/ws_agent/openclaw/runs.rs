//! Runs whose end is awaited, the sessions they belong to, and the messages that started them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bounded::Bounded;
use crate::ws_agent::{Delivery, DeliveryBody};

/// Most runs whose end is awaited. The oldest is forgotten first; its end still finds the
/// client by the session.
pub(super) const RUNS_MAX: usize = 16_384;

/// Most sessions whose client is known.
const SESSIONS_MAX: usize = 65_536;

/// Most messages kept for a gateway that loses them, and most bytes of them. The oldest are
/// dropped first: they are the likeliest to be in the transcript.
const KEPT_MAX: usize = 4_096;
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a message takes besides its text.
const MESSAGE_BYTES: usize = 512;

/// A run that one of our messages started, or may have started.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) client: Arc<str>,
    pub(super) message_id: Arc<str>,
    pub(super) session: Arc<str>,
    pub(super) opened_ms: u64,
    /// The gateway has acknowledged the message.
    pub(super) accepted: bool,
    /// The life of the gateway that acknowledged it, or in which it was opened.
    pub(super) boot: Option<Arc<str>>,
    /// The gateway has told of its progress.
    pub(super) begun: bool,
    /// It waits behind others of its session and will end under another id.
    pub(super) queued: bool,
    /// The text so far, if the gateway sends only what is new.
    pub(super) partial: String,
}

#[derive(Debug)]
struct Session {
    client: Arc<str>,
    /// In the order of their messages; some may have been forgotten.
    runs: VecDeque<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Runs {
    open: Bounded<Arc<str>, Run>,
    /// By key in lower case, as the gateway tells it.
    sessions: Bounded<Arc<str>, Session>,
    kept: Bounded<Arc<str>, Arc<Delivery>>,
    kept_bytes: usize,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self {
            open: Bounded::new(RUNS_MAX),
            sessions: Bounded::new(SESSIONS_MAX),
            kept: Bounded::new(KEPT_MAX + 1),
            kept_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many things are remembered.
    pub(super) fn remembered(&self) -> usize {
        let listed = self.sessions.iter().map(|(_, session)| session.runs.len());
        self.open.len() + self.sessions.len() + self.kept.len() + listed.sum::<usize>()
    }

    pub(super) fn get(&self, run: &str) -> Option<&Run> {
        self.open.get(run)
    }

    pub(super) fn get_mut(&mut self, run: &str) -> Option<&mut Run> {
        self.open.get_mut(run)
    }

    /// In the order in which they were opened.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Run)> {
        self.open.iter()
    }

    /// Remembers whose session this is.
    pub(super) fn know(&mut self, session: &str, client: &Arc<str>) {
        let key = session.to_lowercase();
        if self.sessions.get(&*key).is_none() {
            let client = client.clone();
            let runs = VecDeque::new();
            self.sessions.insert(key.into(), Session { client, runs });
        }
    }

    /// Whose session this is, in any case of its letters.
    pub(super) fn client_of(&self, session: &str) -> Option<&Arc<str>> {
        self.session(session).map(|session| &session.client)
    }

    /// Opens a run of a session that is known, and keeps its message.
    pub(super) fn open(&mut self, run: &Arc<str>, details: Run, delivery: Arc<Delivery>) {
        let key = details.session.to_lowercase();
        if let Some(session) = self.sessions.get_mut(&*key) {
            while let Some(first) = session.runs.front()
                && self.open.get(&**first).is_none()
            {
                session.runs.pop_front();
            }
            session.runs.push_back(run.clone());
        }
        self.open.insert(run.clone(), details);
        self.keep(run, delivery);
    }

    fn keep(&mut self, run: &Arc<str>, delivery: Arc<Delivery>) {
        self.drop_kept(run);
        self.kept_bytes += size(&delivery);
        self.kept.insert(run.clone(), delivery);
        while (self.kept_bytes > KEPT_BYTES_MAX || self.kept.len() > KEPT_MAX)
            && let Some((oldest, _)) = self.kept.oldest()
        {
            let oldest = oldest.clone();
            self.drop_kept(&oldest);
        }
    }

    fn drop_kept(&mut self, run: &str) {
        if let Some(delivery) = self.kept.remove(run) {
            self.kept_bytes = self.kept_bytes.saturating_sub(size(&delivery));
        }
    }

    /// The message of a run, if it was not too much to keep.
    pub(super) fn message(&self, run: &str) -> Option<Arc<Delivery>> {
        self.kept.get(run).cloned()
    }

    /// The run has ended.
    pub(super) fn end(&mut self, run: &str) -> Option<Run> {
        self.drop_kept(run);
        let ended = self.open.remove(run)?;
        let key = ended.session.to_lowercase();
        if let Some(session) = self.sessions.get_mut(&*key) {
            let place = session.runs.iter().position(|known| &**known == run);
            place.and_then(|place| session.runs.remove(place));
        }
        Some(ended)
    }

    /// Forgets runs that were opened before this time.
    pub(super) fn retire(&mut self, before_ms: u64) {
        while let Some((run, open)) = self.open.oldest()
            && open.opened_ms <= before_ms
        {
            let run = run.clone();
            self.end(&run);
        }
    }

    /// The first run of the session that will end under an id that we do not know: one that
    /// had to wait, or that another life of the gateway took on.
    pub(super) fn first_renamed(
        &self,
        session: &str,
        boot: Option<&Arc<str>>,
    ) -> Option<&Arc<str>> {
        let renamed = |run: &&Arc<str>| {
            let open = self.open.get(&***run);
            open.is_some_and(|open| open.queued || stale(open, boot))
        };
        self.session(session)?.runs.iter().find(renamed)
    }

    /// Runs of the session that another life of the gateway has acknowledged, in order.
    pub(super) fn stale(&self, session: &str, boot: Option<&Arc<str>>) -> Vec<Arc<str>> {
        let runs = self.session(session).map(|session| session.runs.iter());
        let stale = |run: &&Arc<str>| {
            let open = self.open.get(&***run);
            open.is_some_and(|open| stale(open, boot))
        };
        runs.into_iter().flatten().filter(stale).cloned().collect()
    }

    /// Whether another run of the session than this one is open.
    pub(super) fn is_shared(&self, session: &str, run: &str) -> bool {
        let others = |other: &Arc<str>| &**other != run && self.open.get(&**other).is_some();
        self.session(session)
            .is_some_and(|session| session.runs.iter().any(others))
    }

    fn session(&self, session: &str) -> Option<&Session> {
        self.sessions.get(&*session.to_lowercase())
    }
}

/// Another life of the gateway has acknowledged the message.
pub(super) fn stale(open: &Run, boot: Option<&Arc<str>>) -> bool {
    open.accepted && open.boot.as_ref() != boot
}

fn size(delivery: &Delivery) -> usize {
    let body = match &delivery.body {
        DeliveryBody::Text(text) => text.len(),
        DeliveryBody::Binary(bytes) => bytes.len(),
    };
    body + MESSAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::tests::delivery;
    use super::*;

    fn open(runs: &mut Runs, number: usize, text: &str) -> Arc<str> {
        let run: Arc<str> = format!("ann:{number}").into();
        let details = Run {
            client: "ann".into(),
            message_id: number.to_string().into(),
            session: "agent:main:ann".into(),
            opened_ms: number as u64,
            accepted: true,
            boot: None,
            begun: false,
            queued: false,
            partial: String::new(),
        };
        runs.know("agent:main:ann", &"ann".into());
        let message = delivery("ann", &number.to_string(), text);
        runs.open(&run, details, Arc::new(message));
        run
    }

    #[test]
    fn messages_are_kept_up_to_a_bound_of_bytes() {
        let mut runs = Runs::new();
        let megabyte = "x".repeat(1024 * 1024);
        let names: Vec<Arc<str>> = (0..9).map(|it| open(&mut runs, it, &megabyte)).collect();
        assert!(runs.message(&names[0]).is_none() && runs.message(&names[1]).is_none());
        assert!(runs.message(&names[2]).is_some());
        runs.end(&names[8]);
        assert!(runs.message(&names[8]).is_none());
        let large = open(&mut runs, 10, &"x".repeat(KEPT_BYTES_MAX));
        assert!(runs.message(&large).is_none());
        assert_eq!((runs.kept.len(), runs.kept_bytes), (0, 0));
    }

    #[test]
    fn messages_are_kept_up_to_a_bound_of_numbers() {
        let mut runs = Runs::new();
        for number in 0..RUNS_MAX + 10 {
            open(&mut runs, number, "x");
        }
        assert_eq!((runs.open.len(), runs.kept.len()), (RUNS_MAX, KEPT_MAX));
        let session = runs.session("Agent:main:ANN").unwrap();
        assert!(session.runs.len() <= RUNS_MAX + 1);
        runs.retire(u64::MAX);
        // The session, and a run in its list that was forgotten before.
        assert_eq!(runs.remembered(), 2);
        assert_eq!(runs.kept_bytes, 0);
    }
}
