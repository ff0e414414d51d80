//! Which sessions of this worker get a message, and whether they are in step.
//!
//! Subscribers are kept by channel with the last offset they were given, so that
//! spreading a message touches one compact table and no session. A subscriber that
//! asked for positions gets each offset once and in order; anything else is
//! reported as a gap and never papered over.

use std::sync::Arc;

use bus::{Epoch, Kind, Message, Position};
use hashbrown::HashMap;
use protocol::channel::Channel;
use protocol::settings::{SlowClientPolicy, is_within_wildcard};
use protocol::subject::Pattern;
use websocket::Deflater;

use crate::frame::{Flavor, Frame, WrapError};

/// One subscriber in a channel's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) flavor: Flavor,
    pub(crate) slow_client: SlowClientPolicy,
    pub(crate) join_leave: bool,
    /// The last position given, if the subscription is positioned.
    pub(crate) position: Option<Position>,
}

/// Who gets what the bus delivers.
pub trait Receiver {
    /// A frame for one subscriber.
    fn frame(&mut self, slot: u32, frame: &Arc<Frame>, policy: SlowClientPolicy, positioned: bool);
    /// A positioned subscriber can't be kept in step.
    fn gap(&mut self, slot: u32, channel: &Channel);
    /// The message does not fit the subscriber's encoding.
    fn misfit(&mut self, slot: u32, error: WrapError);
}

/// What spreading a message came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Frames handed out.
    pub frames: usize,
}

type Table = HashMap<u32, Entry>;

/// The subscribers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    channels: HashMap<Channel, Table>,
    patterns: HashMap<Channel, (Pattern, Table)>,
    scratch: Vec<u8>,
}

impl Fanout {
    /// Adds a subscriber; `true` if it is the channel's first here.
    pub(crate) fn enter(&mut self, channel: &Channel, slot: u32, entry: Entry) -> bool {
        let table = self.channels.entry(channel.clone()).or_default();
        let is_first = table.is_empty();
        table.insert(slot, entry);
        is_first
    }

    /// Adds a subscriber of a pattern; `true` if it is the pattern's first here.
    pub(crate) fn enter_pattern(
        &mut self,
        channel: &Channel,
        pattern: &Pattern,
        slot: u32,
        entry: Entry,
    ) -> bool {
        let (_, table) = self
            .patterns
            .entry(channel.clone())
            .or_insert_with(|| (pattern.clone(), Table::default()));
        let is_first = table.is_empty();
        table.insert(slot, entry);
        is_first
    }

    /// The channel as the table holds it, so that all sessions share one text.
    pub(crate) fn shared_name(&self, channel: &Channel) -> Option<Channel> {
        self.channels
            .get_key_value(channel.as_str())
            .map(|(name, _)| name.clone())
    }

    /// Removes a subscriber; `true` if it was the channel's last here.
    pub(crate) fn leave(&mut self, channel: &Channel, slot: u32) -> bool {
        let Some(table) = self.channels.get_mut(channel.as_str()) else {
            return false;
        };
        table.remove(&slot);
        if table.is_empty() {
            self.channels.remove(channel.as_str());
            return true;
        }
        // A mass leave gives its memory back.
        if table.capacity() > 4 * table.len() + 16 {
            table.shrink_to(2 * table.len());
        }
        false
    }

    /// Removes a subscriber of a pattern; the pattern if it was its last here.
    pub(crate) fn leave_pattern(&mut self, channel: &Channel, slot: u32) -> Option<Pattern> {
        let (_, table) = self.patterns.get_mut(channel.as_str())?;
        table.remove(&slot);
        if !table.is_empty() {
            return None;
        }
        self.patterns
            .remove(channel.as_str())
            .map(|(pattern, _)| pattern)
    }

    /// How many subscribers each channel has here.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.channels
            .iter()
            .map(|(channel, table)| (channel, table.len()))
    }

    /// Spreads a message.
    pub(crate) fn deliver(
        &mut self,
        message: &Message,
        deflate: &mut (Deflater, usize),
        receiver: &mut impl Receiver,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        let spread = Spread {
            message,
            scratch: &mut self.scratch,
            deflate,
            frames: Vec::new(),
        };
        let Spread {
            scratch, deflate, ..
        } = match self.channels.get_mut(message.channel.as_str()) {
            Some(table) => {
                let channel = message.channel.clone();
                spread.over(&channel, table, receiver, &mut delivered)
            }
            None => spread,
        };
        if self.patterns.is_empty() || !matches!(message.kind, Kind::Publication(_)) {
            return delivered;
        }
        for (name, (pattern, table)) in &mut self.patterns {
            if pattern.covers_text(&message.channel) && is_within_wildcard(name, &message.channel) {
                let spread = Spread {
                    message,
                    scratch: &mut *scratch,
                    deflate: &mut *deflate,
                    frames: Vec::new(),
                };
                spread.over(name, table, receiver, &mut delivered);
            }
        }
        delivered
    }
}

/// One message on its way to one table of subscribers.
struct Spread<'a> {
    message: &'a Message,
    scratch: &'a mut Vec<u8>,
    deflate: &'a mut (Deflater, usize),
    /// The frames made so far; there are few flavors.
    frames: Vec<(Flavor, Result<Arc<Frame>, WrapError>)>,
}

impl Spread<'_> {
    fn over(
        mut self,
        channel: &Channel,
        table: &mut Table,
        receiver: &mut impl Receiver,
        delivered: &mut Delivered,
    ) -> Self {
        let (position, is_publication) = match &self.message.kind {
            Kind::Publication(publication) => (publication.position, true),
            Kind::Join(_) | Kind::Leave(_) => (None, false),
        };
        for (&slot, entry) in table.iter_mut() {
            if !is_publication && !entry.join_leave {
                continue;
            }
            if let (Some(known), Some(new)) = (&mut entry.position, position) {
                match step(*known, new) {
                    Step::Next => *known = new,
                    Step::Seen => continue,
                    Step::Gap => {
                        receiver.gap(slot, channel);
                        continue;
                    }
                }
            }
            match self.frame(entry.flavor, channel) {
                Ok(frame) => {
                    delivered.frames += 1;
                    let positioned = entry.position.is_some();
                    receiver.frame(slot, &frame, entry.slow_client, positioned);
                }
                Err(error) => receiver.misfit(slot, error),
            }
        }
        self
    }

    fn frame(&mut self, flavor: Flavor, channel: &Channel) -> Result<Arc<Frame>, WrapError> {
        if let Some((_, made)) = self.frames.iter().find(|(made, _)| *made == flavor) {
            return made.clone();
        }
        let deflate = Some((&mut self.deflate.0, self.deflate.1));
        let made = Frame::new(flavor, channel, self.message, deflate, self.scratch).map(Arc::new);
        self.frames.push((flavor, made.clone()));
        made
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Next,
    Seen,
    Gap,
}

/// Where a new position stands to the last one given.
fn step(known: Position, new: Position) -> Step {
    let same_stream: bool = Epoch::eq(&known.epoch, &new.epoch);
    match new.offset {
        offset if same_stream && offset <= known.offset => Step::Seen,
        offset if same_stream && offset == known.offset + 1 => Step::Next,
        _ => Step::Gap,
    }
}
