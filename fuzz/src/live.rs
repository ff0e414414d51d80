//! Messages of live-data clients.

use std::collections::BTreeSet;

use ::protocol::codec::{Encoding, commands};
use ::protocol::live::{Desk, Inbound, Verb, envelope, enveloped};

/// Messages of one connection, one in a line. What they mean is commands that the session
/// reads, with ids that go up; after them exactly what was asked for is wanted, and asking
/// again for what is there says nothing. Any text is read back out of its envelope.
pub fn inbound(data: &[u8]) {
    let mut desk = Desk::default();
    let mut wanted = BTreeSet::new();
    let mut last_id = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let read = Inbound::parse(false, line, SUBJECTS_MAX);
        assert_eq!(read, Inbound::parse(false, line, SUBJECTS_MAX));
        let Ok(inbound) = read else {
            let shown = read.map_err(|error| error.to_string());
            assert!(shown.is_err_and(|text| text.len() < 200));
            continue;
        };
        assert!(inbound.subjects.len() <= SUBJECTS_MAX);
        note(&mut wanted, &inbound);
        let mut lines = Vec::new();
        desk.commands(inbound.clone(), &mut lines);
        // An empty frame would be no command, but a mistake.
        let lines = Some(lines).filter(|lines| !lines.is_empty());
        for command in lines
            .iter()
            .flat_map(|lines| commands(Encoding::Json, lines))
        {
            let command = command.expect("what we write the session reads");
            assert!(command.id > last_id);
            last_id = command.id;
            assert!(command.subscribe.is_some() != command.unsubscribe.is_some());
        }
        assert_eq!(desk.wanted(), wanted.len());
        if inbound.verb != Verb::Unsubscribe {
            let mut again = Vec::new();
            desk.commands(inbound, &mut again);
            assert!(again.is_empty());
        }
    }
    if let Ok(subject) = std::str::from_utf8(data) {
        let mut frame = Vec::new();
        envelope(subject, &mut frame);
        frame.extend_from_slice(data);
        if subject.len() <= usize::from(u16::MAX) {
            assert_eq!(enveloped(&frame), Some((subject, data)));
        }
    }
    if let Some((subject, payload)) = enveloped(data) {
        assert_eq!(subject.len() + payload.len() + 2, data.len());
    }
}

fn note(wanted: &mut BTreeSet<String>, inbound: &Inbound) {
    let named = inbound.subjects.iter().filter(|name| !name.is_empty());
    match inbound.verb {
        Verb::Subscribe => wanted.extend(named.cloned()),
        Verb::Replace => *wanted = named.cloned().collect(),
        Verb::Unsubscribe => named.for_each(|name| {
            wanted.remove(name);
        }),
    }
}

const SUBJECTS_MAX: usize = 50;
