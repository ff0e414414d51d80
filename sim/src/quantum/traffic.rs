//! What the applications at both ends do, and whether they get what was sent.
//!
//! Each stream follows a plan that both ends know. What is written at a place of a stream follows
//! from the place, so whoever reads can tell every byte, and every end of a message, from a wrong
//! one. Applications act on events only: one that is missing stops them for good.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use quantum_proto::Time;
use quantum_proto::connection::Connection;
use quantum_proto::streams::{
    Chunk, End, OpenError, Priority, ReadError, Role, StreamEvent, StreamId, WriteError,
};

use super::failure::{Failure, Held, check};
use crate::chance::mixed;

/// One direction of a stream.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) key: u64,
    /// Where messages end, in bytes since the beginning, the last one included.
    pub(super) ends: Vec<u64>,
    /// Ends of messages are marked; else it is an ordered row of bytes.
    pub(super) is_marked: bool,
}

/// When the side that accepts answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    AtOnce,
    PerMessage,
    AfterEnd,
}

/// One side loses interest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abort {
    pub(super) by: Role,
    pub(super) reset: Option<u32>,
    pub(super) stop: Option<u32>,
    /// After so many bytes were written or read by it.
    pub(super) after: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) opener: Role,
    pub(super) priority: Priority,
    /// From the opener, and back.
    pub(super) flows: [Flow; 2],
    pub(super) answer: Answer,
    pub(super) abort: Option<Abort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Whole,
    /// Given up by whoever writes, or by whoever reads.
    Reset(u32),
    Stopped(u32),
}

/// One end of one direction.
#[derive(Debug, Default)]
struct Half {
    at: u64,
    message: usize,
    /// A writer waits for room; a reader has something to read.
    flag: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
struct Stream {
    plan: Plan,
    id: Option<StreamId>,
    accepted: bool,
    /// Writer and reader of each flow.
    halves: [[Half; 2]; 2],
    aborted: bool,
}

/// All streams of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    streams: Vec<Stream>,
    ids: HashMap<StreamId, usize>,
    to_open: [VecDeque<usize>; 2],
    /// A side waits for room to open.
    waits: [bool; 2],
    pub(super) paused: [bool; 2],
    connected: [bool; 2],
    pub(super) bytes_read: u64,
}

const CHUNK: u64 = 64 << 10;

impl Traffic {
    pub(super) fn new(plans: Vec<Plan>) -> Self {
        let stream = |plan| Stream {
            plan,
            id: None,
            accepted: false,
            halves: Default::default(),
            aborted: false,
        };
        Self {
            streams: plans.into_iter().map(stream).collect(),
            ids: HashMap::new(),
            to_open: Default::default(),
            waits: [false; 2],
            paused: [false; 2],
            connected: [false; 2],
            bytes_read: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The time of that plan has come.
    pub(super) fn begin(&mut self, index: usize) -> Role {
        let opener = self.streams[index].plan.opener;
        self.to_open[opener as usize].push_back(index);
        opener
    }

    /// Everything that was planned has come to an end at both sides.
    pub(super) fn is_done(&self) -> bool {
        let mut halves = self
            .streams
            .iter()
            .flat_map(|it| it.halves.iter().flatten());
        halves.all(|half| half.outcome.is_some())
    }

    /// Says what has not come to an end.
    pub(super) fn unfinished(&self) -> String {
        let mut text = String::new();
        for stream in &self.streams {
            if text.len() > 500 {
                return text + "\n    …";
            }
            let halves = stream.halves.iter().flatten();
            if halves.clone().any(|half| half.outcome.is_none()) {
                let places: Vec<String> = halves
                    .map(|half| format!("{}{}", half.at, half.outcome.map_or("…", |_| "")))
                    .collect();
                let ends = stream.plan.flows.each_ref().map(|it| it.ends.last());
                text += &format!(
                    "\n    stream {:?} of {:?} ({:?}, {:?}): wrote, read, wrote back, read back {places:?} of {ends:?}",
                    stream.id.map(StreamId::get),
                    stream.plan.opener,
                    stream.plan.answer,
                    stream.plan.abort
                );
            }
        }
        text
    }

    /// Something happened to a stream at one side.
    pub(super) fn on_event(&mut self, role: Role, event: StreamEvent) -> Held {
        check(
            "events-follow-connected",
            self.connected[role as usize],
            || format!("{role:?} got {event:?} before it was connected"),
        )?;
        let (id, reads) = match event {
            StreamEvent::Room => {
                self.waits[role as usize] = false;
                return Ok(());
            }
            StreamEvent::Opened(_) => return Ok(()),
            StreamEvent::Readable(id) | StreamEvent::Reset(id, _) => (id, true),
            StreamEvent::Writable(id) | StreamEvent::Stopped(id, _) => (id, false),
        };
        let Some(index) = self.ids.get(&id) else {
            return check("events-name-streams", false, || {
                format!("{role:?} got {event:?}")
            });
        };
        let stream = &mut self.streams[*index];
        let writes_first = (stream.plan.opener == role) != reads;
        let flow = usize::from(!writes_first);
        stream.halves[flow][usize::from(reads)].flag = reads;
        Ok(())
    }

    pub(super) fn on_connected(&mut self, role: Role) -> Held {
        let before = std::mem::replace(&mut self.connected[role as usize], true);
        check("connected-once", !before, || {
            format!("{role:?} was connected twice")
        })
    }

    /// Lets one side do all that it can; tells whether it did anything.
    pub(super) fn pump(
        &mut self,
        role: Role,
        now: Time,
        connection: &mut Connection,
    ) -> Held<bool> {
        let mut did = false;
        while let Some(id) = connection.streams_mut().accept() {
            let Some(index) = self.ids.get(&id) else {
                check("streams-were-opened", false, || {
                    format!("{role:?} accepted {id}")
                })?;
                continue;
            };
            let stream = &mut self.streams[*index];
            check("streams-are-accepted-once", !stream.accepted, || {
                format!("{id}")
            })?;
            stream.accepted = true;
            stream.halves[0][1].flag = true;
            did = true;
        }
        did |= self.open(role, connection)?;
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            let Some(id) = stream.id else { continue };
            if stream.plan.opener != role && !stream.accepted {
                continue;
            }
            let own = usize::from(stream.plan.opener != role);
            did |= stream.abort(role, id, connection);
            if !self.paused[role as usize] {
                let read = stream.read(1 - own, now, id, connection)?;
                self.bytes_read += read;
                did |= read > 0;
            }
            did |= stream.write(own, id, connection)?;
        }
        Ok(did)
    }

    fn open(&mut self, role: Role, connection: &mut Connection) -> Held<bool> {
        let mut did = false;
        if self.waits[role as usize] || !self.connected[role as usize] {
            return Ok(false);
        }
        while let Some(index) = self.to_open[role as usize].front().copied() {
            match connection
                .streams_mut()
                .open(self.streams[index].plan.priority)
            {
                Ok(id) => {
                    self.streams[index].id = Some(id);
                    self.ids.insert(id, index);
                    self.to_open[role as usize].pop_front();
                    did = true;
                }
                Err(OpenError::Blocked) => {
                    self.waits[role as usize] = true;
                    break;
                }
                Err(error) => {
                    check("streams-can-be-opened", false, || error.to_string())?;
                }
            }
        }
        Ok(did)
    }
}

impl Stream {
    fn abort(&mut self, role: Role, id: StreamId, connection: &mut Connection) -> bool {
        let own = usize::from(self.plan.opener != role);
        let Some(abort) = self.plan.abort.filter(|it| it.by == role && !self.aborted) else {
            return false;
        };
        let moved = self.halves[own][0].at + self.halves[1 - own][1].at;
        if moved < abort.after {
            return false;
        }
        self.aborted = true;
        if let Some(code) = abort.reset {
            connection.streams_mut().reset(id, code);
            self.halves[own][0]
                .outcome
                .get_or_insert(Outcome::Reset(code));
        }
        if let Some(code) = abort.stop {
            connection.streams_mut().stop(id, code);
            self.halves[1 - own][1]
                .outcome
                .get_or_insert(Outcome::Stopped(code));
        }
        true
    }

    fn write(&mut self, flow: usize, id: StreamId, connection: &mut Connection) -> Held<bool> {
        let mut did = false;
        loop {
            let answers = flow == 1;
            let heard = (
                self.halves[0][1].message,
                self.halves[0][1].outcome.is_some(),
            );
            let plan = &self.plan.flows[flow];
            let half = &mut self.halves[flow][0];
            if half.outcome.is_some() || half.flag {
                return Ok(did);
            }
            if answers {
                match self.plan.answer {
                    Answer::AtOnce => {}
                    Answer::AfterEnd if !heard.1 => return Ok(did),
                    Answer::PerMessage if !heard.1 && heard.0 <= half.message => return Ok(did),
                    Answer::AfterEnd | Answer::PerMessage => {}
                }
            }
            let Some(end) = plan.ends.get(half.message).copied() else {
                // Nothing at all, or the end apart from the last message.
                return self.write_some(flow, id, 0, End::Stream, connection);
            };
            let length = (end - half.at).min(CHUNK);
            let is_last = half.message + 1 == plan.ends.len();
            let bare_end = plan.key.is_multiple_of(3);
            let behind = match (half.at + length == end, plan.is_marked) {
                (true, _) if is_last && !bare_end => End::Stream,
                (true, true) => End::Message,
                _ => End::More,
            };
            if !self.write_some(flow, id, length, behind, connection)? {
                return Ok(did);
            }
            did = true;
        }
    }

    /// Writes the next bytes; tells whether any were taken.
    fn write_some(
        &mut self,
        flow: usize,
        id: StreamId,
        length: u64,
        end: End,
        connection: &mut Connection,
    ) -> Held<bool> {
        let plan = &self.plan.flows[flow];
        let half = &mut self.halves[flow][0];
        let data = content(plan.key, half.at, length);
        match connection.streams_mut().write(id, data, end) {
            Ok(taken) => {
                let whole = taken as u64 == length;
                half.at += taken as u64;
                half.flag = !whole;
                if plan.ends.get(half.message) == Some(&half.at) {
                    half.message += usize::from(whole);
                }
                if whole && end == End::Stream {
                    half.outcome = Some(Outcome::Whole);
                }
                Ok(whole || taken > 0)
            }
            Err(WriteError::Stopped(code)) => {
                let stop = self.plan.abort.and_then(|it| it.stop);
                check("stop-was-asked-for", stop == Some(code), || {
                    format!("stream {id} was stopped with code {code}")
                })?;
                half.outcome = Some(Outcome::Stopped(code));
                Ok(true)
            }
            Err(WriteError::Closed) => Err(Failure {
                oracle: "writing-works-until-the-end",
                text: format!("stream {id} at {}", half.at),
            }),
        }
    }

    /// Reads all there is; returns how many bytes, an end counting as one.
    fn read(
        &mut self,
        flow: usize,
        now: Time,
        id: StreamId,
        connection: &mut Connection,
    ) -> Held<u64> {
        let mut read = 0;
        loop {
            let half = &mut self.halves[flow][1];
            if half.outcome.is_some() || !half.flag {
                return Ok(read);
            }
            match connection.streams_mut().read(now, id) {
                Ok(Some(chunk)) => {
                    read += (chunk.data.len() as u64).max(1);
                    self.take(flow, id, &chunk)?;
                }
                Ok(None) => half.flag = false,
                Err(ReadError::Reset(code)) => {
                    let reset = self.plan.abort.and_then(|it| it.reset);
                    let stop = self.plan.abort.and_then(|it| it.stop);
                    check(
                        "reset-was-meant",
                        reset == Some(code) || stop == Some(code),
                        || format!("stream {id} was reset with code {code}"),
                    )?;
                    half.outcome = Some(Outcome::Reset(code));
                    read += 1;
                }
                Err(ReadError::Closed) => {
                    return Err(Failure {
                        oracle: "reading-works-until-the-end",
                        text: format!("stream {id} at {}", half.at),
                    });
                }
            }
            // A reader that has had enough reads no further.
            if let Some(abort) = self.plan.abort
                && !self.aborted
                && (abort.by == self.plan.opener) == (flow == 1)
                && self.halves[flow][1].at >= abort.after
            {
                return Ok(read);
            }
        }
    }

    fn take(&mut self, flow: usize, id: StreamId, chunk: &Chunk) -> Held {
        let plan = &self.plan.flows[flow];
        let half = &mut self.halves[flow][1];
        let expected = content(plan.key, half.at, chunk.data.len() as u64);
        check("exactly-once-and-in-order", chunk.data == expected, || {
            format!("stream {id} brought other bytes at {}", half.at)
        })?;
        half.at += chunk.data.len() as u64;
        let total = plan.ends.last().copied().unwrap_or(0);
        let next = plan.ends.get(half.message).copied();
        let is_last = half.message + 1 >= plan.ends.len();
        match chunk.end {
            End::Message => {
                check(
                    "ends-of-messages-are-kept",
                    plan.is_marked && next == Some(half.at),
                    || {
                        format!(
                            "stream {id} ended a message at {}, due at {next:?}",
                            half.at
                        )
                    },
                )?;
                half.message += 1;
            }
            End::Stream => {
                check("streams-end-where-they-should", half.at == total, || {
                    format!("stream {id} ended at {} instead of {total}", half.at)
                })?;
                check(
                    "ends-of-messages-are-kept",
                    !plan.is_marked || is_last,
                    || format!("stream {id} ended before message {}", half.message),
                )?;
                half.message = plan.ends.len();
                half.outcome = Some(Outcome::Whole);
            }
            End::More => {
                let passed = plan.is_marked && next.is_some_and(|next| half.at > next);
                check("ends-of-messages-are-kept", !passed, || {
                    format!("stream {id} passed the end of a message at {next:?}")
                })?;
            }
        }
        Ok(())
    }
}

/// The bytes of a flow at a place.
fn content(key: u64, at: u64, length: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(length as usize + 16);
    let skip = at % 8;
    let mut word = at / 8;
    while (out.len() as u64) < length + skip {
        out.put_u64(mixed(key ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        word += 1;
    }
    let mut out = out.freeze().slice(skip as usize..);
    out.truncate(length as usize);
    out
}
