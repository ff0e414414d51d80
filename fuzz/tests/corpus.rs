//! Replays the corpus and seeded mutations of it through every target, on stable Rust.
//!
//! A failure prints the target, the seed file and the mutation's number; `FUZZ_ROUNDS` changes
//! how many mutations each target gets.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use fuzz::TARGETS;

#[test]
fn corpus_is_accepted_by_every_target() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "corpus/{name} has no files");
        for (file, data) in &files {
            guarded(&format!("{name}: {file}"), data, *target);
        }
    }
}

#[test]
fn mutations_of_the_corpus_keep_every_promise() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        for round in 0..rounds() {
            let mut random = Random::new(round);
            let (file, data) = &files[random.below(files.len())];
            let mut data = data.clone();
            for _ in 0..=random.below(4) {
                let (_, other) = &files[random.below(files.len())];
                mutate(&mut data, other, &mut random);
            }
            data.truncate(8192);
            guarded(&format!("{name}: {file}, round {round}"), &data, *target);
        }
    }
}

fn rounds() -> u64 {
    option_env!("FUZZ_ROUNDS")
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(3000)
}

/// The files of one target, by name, so that rounds can be repeated.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[track_caller]
fn guarded(what: &str, data: &[u8], target: fn(&[u8])) {
    if panic::catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        panic!("{what} failed on {}", data.escape_ascii());
    }
}

/// One step away from `data`: a bit, a byte, a telling byte, a cut, a repetition, a splice.
fn mutate(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if data.is_empty() {
        data.extend_from_slice(other);
        return;
    }
    let at = random.below(data.len());
    let end = at + random.below((data.len() - at).min(16) + 1);
    match random.below(8) {
        0 | 1 => data[at] ^= 1 << random.below(8),
        2 => data[at] = random.next() as u8,
        3 => data[at] = TELLING[random.below(TELLING.len())],
        4 => drop(data.drain(at..end)),
        5 => data.truncate(at),
        6 => {
            let copy = data[at..end].to_vec();
            data.splice(at..at, copy);
        }
        _ => {
            let from = random.below(other.len() + 1);
            data.splice(at..end, other[from..].iter().copied());
        }
    }
}

/// Bytes at which parsers change their mind.
const TELLING: [u8; 16] = [
    0x00, 0x01, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff, b'"', b'\\', b'\n', b',', b';', b'=',
    b' ',
];

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn new(round: u64) -> Self {
        Self((round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
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
