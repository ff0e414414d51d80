//! Random transfers side by side; a failure prints the seed that repeats it.

use super::*;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The frames of a payload between its start and its end, in any order, some of them twice.
fn pieces(random: &mut Random, id: &str, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut cuts = vec![0, payload.len()];
    for _ in 0..random.below(6) {
        cuts.push(random.below(payload.len() + 1));
    }
    cuts.sort_unstable();
    let mut frames: Vec<_> = cuts
        .windows(2)
        .enumerate()
        .map(|(index, cut)| data(id, index as u32, &payload[cut[0]..cut[1]]))
        .collect();
    for at in 0..frames.len() {
        let other = random.below(frames.len());
        frames.swap(at, other);
        if random.below(4) == 0 {
            frames.push(frames[at].clone());
        }
    }
    frames
}

#[test]
fn interleaved_transfers_come_out_as_they_went_in() {
    for seed in 1..500 {
        let mut random = Random::new(seed);
        let mut chunks = Chunks::default();
        let mut queues = Vec::new();
        for id in ["a", "b", "c"] {
            let size = random.below(400);
            let payload: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
            let mut frames = pieces(&mut random, id, &payload);
            let count = frames.iter().map(|frame| frame[1..5].to_vec()).max();
            let count = u32::from_be_bytes(count.unwrap().try_into().unwrap()) + 1;
            frames.insert(0, start(id, size as u64, count.into()));
            queues.push((id, payload, frames.into_iter()));
        }
        while !queues.is_empty() {
            let at = random.below(queues.len());
            let (id, payload, frames) = &mut queues[at];
            match frames.next() {
                Some(frame) => assert_eq!(feed(&mut chunks, &frame), Ok(None), "seed {seed}"),
                None => {
                    let whole = feed(&mut chunks, &end(id)).unwrap().unwrap();
                    assert_eq!(&whole.data, payload, "seed {seed}");
                    queues.remove(at);
                }
            }
        }
        assert!(chunks.is_empty(), "seed {seed}");
    }
}

#[test]
fn damaged_frames_never_make_another_payload() {
    for seed in 1..2_000 {
        let mut random = Random::new(seed);
        let mut chunks = Chunks::default();
        let payload: Vec<u8> = (0..random.below(200))
            .map(|_| random.next() as u8)
            .collect();
        let mut frames = pieces(&mut random, "m", &payload);
        let count = frames.iter().map(|frame| frame[4]).max().unwrap();
        frames.insert(0, start("m", payload.len() as u64, u64::from(count) + 1));
        frames.push(end("m"));
        // Anything but the bytes of the payload, which checksums are for.
        let hurt = random.below(frames.len());
        let header = match frames[hurt][0] {
            2 => 13,
            _ => frames[hurt].len(),
        };
        let byte = random.below(header);
        frames[hurt][byte] ^= 1 << random.below(8);
        for frame in &frames {
            let Ok(Frame::Chunk(chunk)) = Frame::read(frame) else {
                continue;
            };
            if let Ok(Some(whole)) = chunks.handle(0, chunk, &LIMITS) {
                assert_eq!(whole.data, payload, "seed {seed}");
            }
            assert!(chunks.bytes() <= LIMITS.bytes, "seed {seed}");
        }
    }
}
