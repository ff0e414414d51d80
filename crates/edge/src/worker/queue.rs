//! What waits to be written to one connection.
//!
//! Two lanes. The *control lane* carries replies, pings, pushes about subscriptions
//! and the close frame; no slow-client policy touches it, but a client that makes it
//! grow over the limit is closed. The *data lane* carries publications, each shared
//! with all other subscribers, under the policy of its channel. Between frames the
//! control lane goes first: a reply may overtake publications, never the other way.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::channel::Channel;
use protocol::settings::SlowClientPolicy;
use router::Frame;

/// The queue of a connection that has something to write.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: Vec<u8>,
    control_written: usize,
    data: VecDeque<Waiting>,
    data_bytes: usize,
    /// Bytes of the first data frame that are written.
    front_written: usize,
    /// A publication waits that is neither to be dropped nor conflated.
    holds_strict: bool,
}

/// A publication that waits.
#[derive(Debug)]
struct Waiting {
    /// That of the frame, where a search finds it without touching the frame.
    subject_hash: u32,
    frame: Arc<Frame>,
}

/// Emptied queues kept for the next connections, boxed as they lie in those.
#[derive(Debug, Default)]
pub(crate) struct SpareQueues {
    #[expect(clippy::vec_box, reason = "the boxes change hands")]
    queues: Vec<Box<SendQueue>>,
}

impl SpareQueues {
    /// The queue that is there, or a spare one put there.
    pub(crate) fn fill<'a>(&mut self, place: &'a mut Option<Box<SendQueue>>) -> &'a mut SendQueue {
        place.get_or_insert_with(|| self.queues.pop().unwrap_or_default())
    }

    /// Takes a queue that has been emptied and trimmed.
    pub(crate) fn keep(&mut self, queue: Box<SendQueue>) {
        if self.queues.len() < SPARE_MAX {
            self.queues.push(queue);
        }
    }
}

/// More spare queues than this are given back to the allocator.
const SPARE_MAX: usize = 256;

/// What became of a publication that was to be queued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits.
    Waiting,
    /// It waits in the place of an older one of its channel.
    Conflated { dropped: usize },
    /// It waits, and older ones of these channels do not any more.
    Dropped {
        channels: Vec<Channel>,
        dropped: usize,
    },
    /// The client is too slow: close it.
    Slow,
}

impl SendQueue {
    /// The control lane, for writing into; the caller checks [`SendQueue::control_bytes`].
    pub(crate) fn control_mut(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Whether a client that takes nothing for a while has to be closed. One whose
    /// publications are dropped or conflated is waited for: until its next pong.
    pub(crate) fn is_strict(&self) -> bool {
        self.holds_strict || self.data.is_empty()
    }

    /// Publications waiting.
    pub(crate) fn publications(&self) -> usize {
        self.data.len()
    }

    /// Bytes waiting in the control lane.
    pub(crate) fn control_bytes(&self) -> usize {
        self.control.len() - self.control_written
    }

    /// Bytes waiting in both lanes.
    pub(crate) fn bytes(&self) -> usize {
        self.control_bytes() + self.data_bytes - self.front_written
    }

    /// Queues a publication.
    pub(crate) fn push_data(
        &mut self,
        frame: &Arc<Frame>,
        policy: SlowClientPolicy,
        limit: usize,
    ) -> Queued {
        let size = frame.bytes.len();
        self.holds_strict |= policy == SlowClientPolicy::Disconnect;
        if self.bytes() + size <= limit {
            self.append(frame);
            return Queued::Waiting;
        }
        match policy {
            SlowClientPolicy::Disconnect => Queued::Slow,
            SlowClientPolicy::DropOldest => self.make_room(frame, limit),
            SlowClientPolicy::Conflate => {
                let dropped = self.remove_subject(frame);
                if self.bytes() + size <= limit || self.data.len() <= 1 {
                    self.append(frame);
                    return Queued::Conflated { dropped };
                }
                // The latest of very many channels does not fit either.
                match self.make_room(frame, limit) {
                    Queued::Dropped {
                        channels,
                        dropped: more,
                    } => Queued::Dropped {
                        channels,
                        dropped: dropped + more,
                    },
                    other => other,
                }
            }
        }
    }

    /// Takes what waits of one channel away, a frame that is half written excepted.
    /// Returns how many frames that were.
    pub(crate) fn remove_channel(&mut self, channel: &Channel) -> usize {
        self.remove(|frame| frame.channel == *channel)
    }

    /// Queues a publication whatever waits: beyond `count` publications or `most` bytes
    /// the oldest of its own subject goes first, then the oldest of all. Returns how many
    /// went.
    pub(crate) fn push_latest(&mut self, frame: &Arc<Frame>, count: usize, most: usize) -> usize {
        let first = self.first_whole();
        let mut dropped = 0;
        while self.data.len() >= count || self.bytes() + frame.bytes.len() > most {
            let own = self.find_subject(frame, first);
            if self.take_out(own.unwrap_or(first)).is_none() {
                break;
            }
            dropped += 1;
        }
        self.append(frame);
        dropped
    }

    /// Takes away what waits of a frame's subject, which it is about to replace; a frame that
    /// is half written excepted. Returns how many went.
    pub(crate) fn remove_subject(&mut self, frame: &Frame) -> usize {
        let Some(own) = self.find_subject(frame, self.first_whole()) else {
            return 0;
        };
        self.take_out(own);
        // There are more only when the queue has just become too long.
        match self.find_subject(frame, own) {
            None => 1,
            Some(_) => 1 + self.remove(|waiting| waiting.subject == frame.subject),
        }
    }

    /// Where the next publication of a frame's subject waits, from `first` on.
    fn find_subject(&self, frame: &Frame, first: usize) -> Option<usize> {
        let mut waiting = self.data.iter().skip(first);
        let own = waiting.position(|waiting| {
            waiting.subject_hash == frame.subject_hash && waiting.frame.subject == frame.subject
        });
        own.map(|own| first + own)
    }

    /// The first that is not half written.
    fn first_whole(&self) -> usize {
        usize::from(self.front_written > 0)
    }

    fn take_out(&mut self, index: usize) -> Option<Arc<Frame>> {
        let frame = self.data.remove(index)?.frame;
        self.data_bytes -= frame.bytes.len();
        Some(frame)
    }

    fn remove(&mut self, is_meant: impl Fn(&Frame) -> bool) -> usize {
        let keep_front = self.front_written > 0;
        let before = self.data.len();
        let mut index = 0;
        let mut removed_bytes = 0;
        self.data.retain(|waiting| {
            let keep = (index == 0 && keep_front) || !is_meant(&waiting.frame);
            index += 1;
            if !keep {
                removed_bytes += waiting.frame.bytes.len();
            }
            keep
        });
        self.data_bytes -= removed_bytes;
        before - self.data.len()
    }

    /// Drops the oldest publications until at most `count` wait, a frame that is half
    /// written excepted. Returns how many that were.
    pub(crate) fn drop_to(&mut self, count: usize) -> usize {
        let first = self.first_whole();
        let mut dropped = 0;
        while self.data.len() > count && self.take_out(first).is_some() {
            dropped += 1;
        }
        dropped
    }

    /// Drops the data lane, a frame that is half written excepted.
    pub(crate) fn clear_data(&mut self) {
        self.data.truncate(self.first_whole());
        let sizes = self.data.iter().map(|waiting| waiting.frame.bytes.len());
        self.data_bytes = sizes.sum();
    }

    /// Appends what comes next to `out`, until that holds `most` bytes or more.
    /// [`SendQueue::written`] says afterwards how much of it went out.
    pub(crate) fn gather(&self, out: &mut Vec<u8>, most: usize) {
        let mut data = self.data.iter();
        if self.front_written > 0
            && let Some(front) = data.next()
        {
            out.extend_from_slice(&front.frame.bytes[self.front_written..]);
        }
        out.extend_from_slice(&self.control[self.control_written..]);
        for waiting in data {
            if out.len() >= most {
                break;
            }
            out.extend_from_slice(&waiting.frame.bytes);
        }
    }

    /// Forgets the first `count` bytes of what [`SendQueue::gather`] gave.
    pub(crate) fn written(&mut self, mut count: usize) {
        if self.front_written > 0 {
            count -= self.advance_front(count);
        }
        let control = count.min(self.control_bytes());
        self.control_written += control;
        count -= control;
        if self.control_written == self.control.len() {
            self.control.clear();
            self.control_written = 0;
        }
        while count > 0 && !self.data.is_empty() {
            count -= self.advance_front(count);
        }
    }

    /// Makes an emptied queue fit to be kept for another connection.
    pub(crate) fn trim(&mut self) {
        self.holds_strict = false;
        self.control.shrink_to(1_024);
        self.data.shrink_to(64);
    }

    fn append(&mut self, frame: &Arc<Frame>) {
        self.data_bytes += frame.bytes.len();
        self.data.push_back(Waiting {
            subject_hash: frame.subject_hash,
            frame: Arc::clone(frame),
        });
    }

    fn advance_front(&mut self, count: usize) -> usize {
        let Some(front) = self.data.front() else {
            return 0;
        };
        let size = front.frame.bytes.len();
        let step = count.min(size - self.front_written);
        self.front_written += step;
        if self.front_written == size {
            self.data.pop_front();
            self.data_bytes -= size;
            self.front_written = 0;
        }
        step
    }

    fn make_room(&mut self, frame: &Arc<Frame>, limit: usize) -> Queued {
        let first = self.first_whole();
        let mut channels: Vec<Channel> = Vec::new();
        let mut dropped = 0;
        while self.bytes() + frame.bytes.len() > limit {
            let Some(oldest) = self.take_out(first) else {
                break;
            };
            dropped += 1;
            if !channels.contains(&oldest.channel) {
                channels.push(oldest.channel.clone());
            }
        }
        if self.bytes() + frame.bytes.len() > limit {
            // It does not fit even into the empty lane: the newest is the one lost.
            dropped += 1;
            if !channels.contains(&frame.channel) {
                channels.push(frame.channel.clone());
            }
            return Queued::Dropped { channels, dropped };
        }
        self.append(frame);
        Queued::Dropped { channels, dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: &str, size: usize, fill: u8) -> Arc<Frame> {
        let channel = Channel::new(channel);
        Arc::new(Frame::of(&channel, &channel, vec![fill; size]))
    }

    fn content(queue: &SendQueue) -> Vec<u8> {
        let mut out = Vec::new();
        queue.gather(&mut out, usize::MAX);
        out
    }

    #[test]
    fn control_goes_first_but_never_into_a_frame() {
        let mut queue = SendQueue::default();
        queue.push_data(&frame("a", 4, 1), SlowClientPolicy::Disconnect, 100);
        queue.push_data(&frame("a", 4, 2), SlowClientPolicy::Disconnect, 100);
        queue.written(0);
        queue.control_mut().push(9);
        assert_eq!(content(&queue), [9, 1, 1, 1, 1, 2, 2, 2, 2]);
        queue.written(3);
        queue.control_mut().push(8);
        assert_eq!(content(&queue), [1, 1, 8, 2, 2, 2, 2]);
        queue.written(2);
        queue.written(5);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn the_oldest_go_beyond_a_number_but_not_one_that_is_half_written() {
        let mut queue = SendQueue::default();
        for fill in 1..=5 {
            queue.push_data(&frame("a", 2, fill), SlowClientPolicy::DropOldest, 100);
        }
        queue.written(1);
        assert_eq!(queue.drop_to(3), 2);
        assert_eq!(content(&queue), [1, 4, 4, 5, 5]);
        assert_eq!(queue.drop_to(3), 0);
        queue.written(5);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_slow_client_is_reported_at_the_limit_and_not_before() {
        let mut queue = SendQueue::default();
        for _ in 0..10 {
            let queued = queue.push_data(&frame("a", 10, 1), SlowClientPolicy::Disconnect, 100);
            assert_eq!(queued, Queued::Waiting);
        }
        let queued = queue.push_data(&frame("a", 1, 1), SlowClientPolicy::Disconnect, 100);
        assert_eq!(queued, Queued::Slow);
    }

    #[test]
    fn the_oldest_makes_room_and_its_channel_is_named() {
        let mut queue = SendQueue::default();
        queue.push_data(&frame("a", 60, 1), SlowClientPolicy::DropOldest, 100);
        queue.push_data(&frame("b", 30, 2), SlowClientPolicy::DropOldest, 100);
        let queued = queue.push_data(&frame("c", 40, 3), SlowClientPolicy::DropOldest, 100);
        assert_eq!(
            queued,
            Queued::Dropped {
                channels: vec![Channel::new("a")],
                dropped: 1
            }
        );
        assert_eq!(queue.bytes(), 70);
    }

    #[test]
    fn conflation_keeps_the_latest_of_each_channel() {
        let mut queue = SendQueue::default();
        for round in 0..50 {
            for channel in ["a", "b"] {
                let frame = frame(channel, 30, round);
                queue.push_data(&frame, SlowClientPolicy::Conflate, 100);
                assert!(queue.bytes() <= 100);
            }
        }
        let kept = content(&queue);
        assert_eq!(kept[kept.len() - 1], 49);
        assert_eq!(kept[kept.len() - 31], 49);
    }

    #[test]
    fn conflation_looks_at_the_subject_and_not_at_the_pattern_nor_at_a_hash() {
        let pattern = Channel::new("xy.>");
        let frame = |subject: &str, fill| {
            let subject = Channel::new(subject);
            let frame = Frame::of(&pattern, &subject, vec![fill; 10]);
            Arc::new(Frame {
                subject_hash: 7,
                ..frame
            })
        };
        let mut queue = SendQueue::default();
        let mut push =
            |subject, fill| queue.push_data(&frame(subject, fill), SlowClientPolicy::Conflate, 40);
        for (subject, fill) in [("xy.a", 1), ("xy.b", 2), ("xy.a", 3), ("xy.c", 4)] {
            assert_eq!(push(subject, fill), Queued::Waiting);
        }
        assert_eq!(push("xy.a", 5), Queued::Conflated { dropped: 2 });
        assert_eq!(push("xy.b", 6), Queued::Waiting);
        assert_eq!(push("xy.b", 7), Queued::Conflated { dropped: 2 });
        let mut kept = content(&queue);
        kept.dedup();
        assert_eq!(kept, [4, 5, 7]);
        assert_eq!(queue.bytes(), 30);
        assert_eq!(queue.remove_channel(&pattern), 3);
    }

    #[test]
    fn the_oldest_of_the_subject_goes_first_and_then_the_oldest_of_all() {
        let mut queue = SendQueue::default();
        let mut push = |channel, fill| queue.push_latest(&frame(channel, 1, fill), 3, 100);
        assert_eq!([push("a", 1), push("b", 2), push("a", 3)], [0, 0, 0]);
        // Of its own subject, not of the oldest.
        assert_eq!(push("b", 4), 1);
        // Of none of its own: of all.
        assert_eq!(push("c", 5), 1);
        assert_eq!(content(&queue), [3, 4, 5]);
        // As many as its bytes need, and always the newest.
        assert_eq!(queue.push_latest(&frame("d", 99, 6), 3, 100), 2);
        assert_eq!(queue.push_latest(&frame("d", 500, 7), 3, 100), 2);
        assert_eq!(queue.bytes(), 500);
        queue.written(1);
        assert_eq!(queue.push_latest(&frame("d", 1, 8), 1, 100), 0);
        assert_eq!(queue.bytes(), 500);
    }

    #[test]
    fn what_waits_of_a_subject_makes_way_for_newer() {
        let mut queue = SendQueue::default();
        for (channel, fill) in [("a", 1), ("b", 2)] {
            queue.push_data(&frame(channel, 2, fill), SlowClientPolicy::Conflate, 100);
        }
        queue.written(1);
        let newer = frame("a", 2, 3);
        assert_eq!(queue.remove_subject(&newer), 0, "half written");
        queue.push_data(&newer, SlowClientPolicy::Conflate, 100);
        let newest = frame("a", 2, 4);
        assert_eq!(queue.remove_subject(&newest), 1);
        queue.push_data(&newest, SlowClientPolicy::Conflate, 100);
        assert_eq!(content(&queue), [1, 2, 2, 4, 4]);
    }

    #[test]
    fn a_frame_half_written_is_finished_whatever_happens() {
        let mut queue = SendQueue::default();
        queue.push_data(&frame("a", 10, 1), SlowClientPolicy::Conflate, 100);
        queue.push_data(&frame("a", 10, 2), SlowClientPolicy::Conflate, 100);
        queue.written(4);
        assert_eq!(queue.remove_channel(&Channel::new("a")), 1);
        assert_eq!(content(&queue), [1; 6]);
        queue.clear_data();
        assert_eq!(content(&queue), [1; 6]);
        queue.written(6);
        assert!(content(&queue).is_empty() && queue.bytes() == 0);
    }
}
