//! Random conversations, cut at random places; a failure prints the seed that repeats it.

use super::*;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn key(&mut self) -> [u8; 4] {
        (self.next() as u32).to_ne_bytes()
    }

    fn text(&mut self) -> String {
        let len = self.below(60);
        (0..len)
            .map(|_| ['a', 'é', '€', '😀', '\u{d7ff}', '\0'][self.below(6)])
            .collect::<String>()
            .repeat(self.below(4))
    }
}

/// Appends a random message with random fragmentation, and what it means.
fn speak(random: &mut Random, wire: &mut Vec<u8>, expected: &mut Vec<Heard>) {
    let content = random.text();
    let binary = random.below(2) == 0;
    let mut body = content.clone().into_bytes();
    let mut small = Vec::new();
    let deflated =
        random.below(2) == 0 && Deflater::new(6).compress(15, content.as_bytes(), &mut small);
    if deflated {
        body = small;
    }
    let mut opcode = if binary { OpCode::Binary } else { OpCode::Text };
    let mut first = true;
    loop {
        let take = if random.below(3) == 0 {
            body.len()
        } else {
            random.below(body.len() + 1)
        };
        let rest = body.split_off(take);
        let fin = rest.is_empty() && random.below(4) > 0;
        encode_frame(
            wire,
            opcode,
            fin,
            first && deflated,
            Some(random.key()),
            &body,
        );
        body = rest;
        (opcode, first) = (OpCode::Continuation, false);
        if fin {
            break;
        }
        if random.below(3) == 0 {
            let note = random.text().into_bytes();
            let note = &note[..note.len().min(125)];
            encode_frame(wire, OpCode::Ping, true, false, Some(random.key()), note);
            expected.push(Heard::Ping(note.to_vec()));
        }
    }
    expected.push(if binary {
        Heard::Binary(content.into_bytes())
    } else {
        Heard::Text(content)
    });
}

fn cuts(random: &mut Random, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.below(12))
        .map(|_| random.below(len + 1))
        .collect();
    cuts.sort_unstable();
    cuts
}

#[test]
fn random_conversations_are_heard_as_spoken() {
    for seed in 1..800 {
        let mut random = Random(seed * 0x9e37_79b9);
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            speak(&mut random, &mut wire, &mut expected);
        }
        let cuts = cuts(&mut random, wire.len());
        assert_eq!(
            hear_in_parts(Role::Server, &wire, &cuts),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn damaged_conversations_mean_the_same_however_they_are_cut() {
    for seed in 1..3000 {
        let mut random = Random(seed * 0x51_7cc1);
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        speak(&mut random, &mut wire, &mut expected);
        for _ in 0..=random.below(3) {
            let at = random.below(wire.len());
            wire[at] ^= 1 << random.below(8);
        }
        let cuts = cuts(&mut random, wire.len());
        let mut whole = Ear::new(Role::Server);
        whole.hear(&wire);
        let mut parts = Ear::new(Role::Server);
        let mut start = 0;
        for cut in cuts.iter().copied().chain([wire.len()]) {
            parts.hear(&wire[start..cut]);
            start = cut;
        }
        // Text that is cut by the end of the bytes may be refused earlier than its frame ends;
        // both see it at the same byte, because both check what has arrived.
        assert_eq!(whole.heard, parts.heard, "seed {seed}, cuts {cuts:?}");
    }
}

#[test]
fn both_checkers_of_utf8_agree() {
    for seed in 1..20_000 {
        let mut random = Random(seed * 0x2545_f491);
        let mut bytes = random.text().into_bytes();
        for _ in 0..random.below(3) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
        }
        let plain =
            str::from_utf8(&bytes).map_err(|error| (error.valid_up_to(), error.error_len()));
        let fast = simdutf8::compat::from_utf8(&bytes)
            .map_err(|error| (error.valid_up_to(), error.error_len()));
        assert_eq!(plain, fast, "seed {seed}");
        assert_eq!(
            plain.is_ok(),
            simdutf8::basic::from_utf8(&bytes).is_ok(),
            "seed {seed}"
        );
    }
}
