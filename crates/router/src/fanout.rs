//! Which sessions of this worker get a message, and whether they are in step.
//!
//! Subscribers are kept by channel with the last offset they were given, so that
//! spreading a message touches one compact table and no session. A subscriber that
//! asked for positions gets each offset once and in order; anything else is
//! reported as a gap and never papered over.

mod tree;

use std::sync::Arc;

use bus::{Epoch, Kind, Message, Position};
use hashbrown::HashMap;
use protocol::channel::Channel;
use protocol::settings::{SlowClientPolicy, is_within_wildcard};
use protocol::subject::Pattern;
use websocket::Deflater;

use crate::frame::{Flavor, Frame, WrapError};
use tree::Tree;

/// One subscriber in a channel's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) flavor: Flavor,
    pub(crate) slow_client: SlowClientPolicy,
    pub(crate) join_leave: bool,
    /// The last position given, if the subscription is positioned.
    pub(crate) position: Option<Position>,
    /// The bus has not answered its subscribing: nothing is handed out yet.
    pub(crate) waits: bool,
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
    /// The same patterns, to be found by what they cover.
    tree: Tree,
    /// Those that cover the message being spread.
    covering: Vec<Channel>,
    scratch: Vec<u8>,
    /// Subscribers that would have got the last message, had the bus answered them.
    waiting: Vec<u32>,
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
        if is_first {
            self.tree.insert(channel);
        }
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
            give_back(&mut self.channels);
            return true;
        }
        give_back(table);
        false
    }

    /// Removes a subscriber of a pattern; the pattern if it was its last here.
    pub(crate) fn leave_pattern(&mut self, channel: &Channel, slot: u32) -> Option<Pattern> {
        let (_, table) = self.patterns.get_mut(channel.as_str())?;
        table.remove(&slot);
        if !table.is_empty() {
            give_back(table);
            return None;
        }
        let (pattern, _) = self.patterns.remove(channel.as_str())?;
        self.tree.remove(channel);
        give_back(&mut self.patterns);
        Some(pattern)
    }

    /// What a subscriber is in, channels and patterns. Looks at every table.
    pub(crate) fn places_of(&self, slot: u32) -> (Vec<Channel>, Vec<Channel>) {
        let channels = self.channels.iter();
        let channels = channels.filter(|(_, table)| table.contains_key(&slot));
        let patterns = self.patterns.iter();
        let patterns = patterns.filter(|(_, (_, table))| table.contains_key(&slot));
        (
            channels.map(|(name, _)| name.clone()).collect(),
            patterns.map(|(name, _)| name.clone()).collect(),
        )
    }

    /// Notes whether the bus has yet to answer a subscriber.
    pub(crate) fn set_waiting(
        &mut self,
        channel: &Channel,
        wildcard: bool,
        slot: u32,
        waits: bool,
    ) {
        let table = if wildcard {
            self.patterns
                .get_mut(channel.as_str())
                .map(|(_, table)| table)
        } else {
            self.channels.get_mut(channel.as_str())
        };
        if let Some(entry) = table.and_then(|table| table.get_mut(&slot)) {
            entry.waits = waits;
        }
    }

    /// Notes from where on a subscriber wants each offset.
    pub(crate) fn set_position(&mut self, channel: &Channel, slot: u32, position: Position) {
        let table = self.channels.get_mut(channel.as_str());
        if let Some(entry) = table.and_then(|table| table.get_mut(&slot)) {
            entry.position = Some(position);
        }
    }

    /// Who would have got the last message spread, had the bus answered them.
    pub(crate) fn take_waiting(&mut self) -> std::vec::Drain<'_, u32> {
        self.waiting.drain(..)
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
        let mut frames = Frames {
            message,
            scratch: &mut self.scratch,
            deflate,
            made: Vec::new(),
            waiting: &mut self.waiting,
        };
        let channel = &message.channel;
        if let Some(table) = self.channels.get_mut(channel.as_str()) {
            for (&slot, entry) in table.iter_mut() {
                hand_out(&mut frames, channel, slot, entry, receiver, &mut delivered);
            }
        }
        if matches!(message.kind, Kind::Join(_) | Kind::Leave(_) | Kind::Top(_)) {
            return delivered;
        }
        if self.patterns.is_empty() {
            return delivered;
        }
        self.tree.covering(channel, &mut self.covering);
        for name in self.covering.drain(..) {
            let table = self.patterns.get_mut(name.as_str());
            let Some((_, table)) = table.filter(|_| is_within_wildcard(&name, channel)) else {
                continue;
            };
            // The push names the pattern, so that it is another frame.
            frames.made.clear();
            for (&slot, entry) in table.iter_mut() {
                hand_out(&mut frames, &name, slot, entry, receiver, &mut delivered);
            }
        }
        delivered
    }

    /// Hands a message that was held back to one subscriber, if it is one still: not to one
    /// that has left meanwhile and waits to be subscribed anew.
    pub(crate) fn deliver_to(
        &mut self,
        slot: u32,
        channel: &Channel,
        wildcard: bool,
        message: &Message,
        deflate: &mut (Deflater, usize),
        receiver: &mut impl Receiver,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        let mut frames = Frames {
            message,
            scratch: &mut self.scratch,
            deflate,
            made: Vec::new(),
            waiting: &mut self.waiting,
        };
        let table = if wildcard {
            self.patterns
                .get_mut(channel.as_str())
                .map(|(_, table)| table)
        } else {
            self.channels.get_mut(channel.as_str())
        };
        let entry = table.and_then(|table| table.get_mut(&slot));
        if let Some(entry) = entry.filter(|entry| !entry.waits) {
            hand_out(&mut frames, channel, slot, entry, receiver, &mut delivered);
        }
        delivered
    }
}

/// Hands a message to a subscriber of `channel`, as far as it is meant for it.
fn hand_out(
    frames: &mut Frames<'_>,
    channel: &Channel,
    slot: u32,
    entry: &mut Entry,
    receiver: &mut impl Receiver,
    delivered: &mut Delivered,
) {
    if entry.waits {
        frames.waiting.push(slot);
        return;
    }
    match &frames.message.kind {
        Kind::Publication(publication) => {
            if let (Some(known), Some(new)) = (&mut entry.position, publication.position) {
                match step(*known, new) {
                    Step::Next => *known = new,
                    Step::Seen => return,
                    Step::Gap => return receiver.gap(slot, channel),
                }
            }
        }
        Kind::Join(_) | Kind::Leave(_) if !entry.join_leave => return,
        Kind::Join(_) | Kind::Leave(_) => {}
        Kind::Top(top) => {
            let is_behind =
                |known: &Position| known.epoch != top.epoch || known.offset < top.offset;
            if entry.position.as_ref().is_some_and(is_behind) {
                receiver.gap(slot, channel);
            }
            return;
        }
    }
    match frames.of(entry.flavor, channel) {
        Ok(frame) => {
            delivered.frames += 1;
            let positioned = entry.position.is_some();
            receiver.frame(slot, &frame, entry.slow_client, positioned);
        }
        Err(error) => receiver.misfit(slot, error),
    }
}

/// One message in the flavors made so far; there are few.
struct Frames<'a> {
    message: &'a Message,
    scratch: &'a mut Vec<u8>,
    deflate: &'a mut (Deflater, usize),
    made: Vec<(Flavor, Result<Arc<Frame>, WrapError>)>,
    waiting: &'a mut Vec<u32>,
}

impl Frames<'_> {
    fn of(&mut self, flavor: Flavor, channel: &Channel) -> Result<Arc<Frame>, WrapError> {
        if let Some((_, made)) = self.made.iter().find(|(known, _)| *known == flavor) {
            return made.clone();
        }
        let (deflater, deflate_min) = &mut *self.deflate;
        let deflate = Some((deflater, *deflate_min));
        let made = Frame::new(flavor, channel, self.message, deflate, self.scratch).map(Arc::new);
        self.made.push((flavor, made.clone()));
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
        // Whoever has seen nothing of a stream misses nothing of the one in its place.
        1 if known.offset == 0 => Step::Next,
        offset if same_stream && offset <= known.offset => Step::Seen,
        offset if same_stream && offset == known.offset + 1 => Step::Next,
        _ => Step::Gap,
    }
}

/// Returns the memory that a crowd has left behind.
fn give_back<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 4 * map.len() + CAPACITY_SPARE {
        map.shrink_to(2 * map.len());
    }
}

/// Room that a map may keep beyond four times its need.
const CAPACITY_SPARE: usize = 16;

#[cfg(test)]
mod tests;
