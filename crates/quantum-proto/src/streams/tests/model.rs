//! The receiving half against a naive one, over random operations.

use super::super::receiving::{Held, Receiving, Taken};
use super::*;

/// Remembers each byte by itself.
#[derive(Default)]
struct Naive {
    bytes: Vec<Option<u8>>,
    marks: Vec<usize>,
    end: Option<usize>,
    read: usize,
    marked: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Heard {
    bytes: Vec<u8>,
    marks: Vec<usize>,
    ended: bool,
}

impl Naive {
    fn on_data(&mut self, offset: usize, data: &[u8], fin: bool, mark: bool) {
        let end = offset + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, None);
        }
        for (index, byte) in data.iter().enumerate() {
            self.bytes[offset + index] = Some(*byte);
        }
        if mark && end >= self.read && end > self.marked && !self.marks.contains(&end) {
            self.marks.push(end);
            self.marks.sort_unstable();
        }
        if fin {
            self.end = Some(end);
        }
    }

    /// Reads all that is there.
    fn read(&mut self) -> Heard {
        let from = self.read;
        while self.read < self.bytes.len() && self.bytes[self.read].is_some() {
            self.read += 1;
        }
        let bytes = self.bytes[from..self.read].iter().flatten().copied();
        let heard = self.marks.iter().filter(|mark| **mark <= self.read);
        let marks: Vec<usize> = heard.copied().collect();
        self.marked = marks.last().copied().unwrap_or(self.marked);
        self.marks.retain(|mark| *mark > self.read);
        Heard {
            bytes: bytes.collect(),
            marks,
            ended: self.end == Some(self.read),
        }
    }

    fn held(&self) -> u64 {
        let known = self.bytes[self.read..].iter().flatten().count();
        known as u64
    }
}

fn read_everything(receiving: &mut Receiving, held: &mut Held, at: &mut usize) -> Heard {
    let mut heard = Heard {
        bytes: Vec::new(),
        marks: Vec::new(),
        ended: false,
    };
    loop {
        let readable = receiving.is_readable();
        match receiving.read(held) {
            Taken::Chunk(chunk) => {
                assert!(readable);
                *at += chunk.data.len();
                heard.bytes.extend_from_slice(&chunk.data);
                match chunk.end {
                    End::More => assert!(!chunk.data.is_empty()),
                    End::Message => heard.marks.push(*at),
                    End::Stream => heard.ended = true,
                }
            }
            Taken::Nothing => {
                assert!(!readable);
                return heard;
            }
            Taken::Over => return heard,
            Taken::Reset(_) => panic!("nobody reset it"),
        }
    }
}

fn run(seed: u64) {
    let mut chance = Random::new(seed);
    let size = 1 + chance.below(60_000) as usize;
    let content = bytes(7, 0, size);
    let every = 1 + chance.below(500) as usize;
    let longest = 1 + chance.below(1 + size as u64 / 4);
    let mut held = Held::default();
    let mut receiving = Receiving::new(size as u32);
    let mut naive = Naive::default();
    let mut at = 0;
    for step in 0..400 {
        let mut offset = chance.below(size as u64 + 1) as usize;
        if chance.below(3) == 0 {
            // Where something is missing.
            offset = naive
                .bytes
                .iter()
                .position(Option::is_none)
                .unwrap_or(naive.bytes.len());
        }
        let mut end = size.min(offset + chance.below(longest + 1) as usize);
        if chance.below(2) == 0 {
            end = (end / every * every).max(offset);
        }
        // The end of the content comes late, or the test is over at once.
        let fin = end == size && step > 200;
        let mark = end.is_multiple_of(every);
        let data = content.slice(offset..end);
        naive.on_data(offset, &data, fin, mark);
        receiving
            .on_data(offset as u64, data, (fin, mark), &mut held)
            .expect("allowed");
        assert_eq!(held.bytes, naive.held(), "seed {seed} step {step}");
        if chance.below(4) == 0 {
            let heard = read_everything(&mut receiving, &mut held, &mut at);
            assert_eq!(heard, naive.read(), "seed {seed} step {step}");
            if heard.ended {
                return;
            }
        }
    }
    let rest = content.slice(naive.read..);
    let mark = size.is_multiple_of(every);
    naive.on_data(naive.read, &rest, true, mark);
    receiving
        .on_data(naive.read as u64, rest, (true, mark), &mut held)
        .expect("allowed");
    assert!(receiving.is_whole());
    let heard = read_everything(&mut receiving, &mut held, &mut at);
    assert_eq!(heard, naive.read(), "seed {seed}");
    assert!(heard.ended && receiving.is_over());
    assert_eq!((held.bytes, held.islands, held.marks), (0, 0, 0));
}

#[test]
fn reading_is_what_a_naive_reassembler_says() {
    for seed in 0..400 {
        run(seed);
    }
}

#[test]
fn giving_up_releases_what_was_held() {
    let mut chance = Random::new(9);
    let mut held = Held::default();
    for _ in 0..100 {
        let mut receiving = Receiving::new(10_000);
        for _ in 0..chance.below(50) {
            let offset = chance.below(9_000);
            let data = bytes(1, offset, chance.below(1_000) as usize);
            let _ = receiving.on_data(offset, data, (false, true), &mut held);
        }
        receiving.stop(&mut held);
        assert_eq!((held.bytes, held.islands, held.marks), (0, 0, 0));
    }
}
