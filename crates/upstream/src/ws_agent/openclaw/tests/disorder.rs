//! Arbitrary input: no panic, and memory that stays within its bounds.

use std::fmt::Write;

use crate::ws_agent::fuzzing;

#[test]
fn arbitrary_frames_neither_panic_nor_pile_up() {
    let captured = include_str!("../../../../fixtures/openclaw_frames.jsonl");
    let frames: Vec<String> = captured
        .lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["dir"] == "in").then(|| line["frame"].to_string())
        })
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % end as u64).unwrap()
    };
    let handshake = format!("{}\n{}\n", super::challenge(), super::hello("boot"));
    for _ in 0..400 {
        let mut script = Vec::new();
        if next(4) > 0 {
            script.extend_from_slice(handshake.as_bytes());
        }
        for _ in 0..next(30) {
            let doings = [
                "send", "send", "check", "time", "forget", "closed", "opened",
            ];
            if next(3) == 0 {
                script.extend_from_slice(doings[next(doings.len())].as_bytes());
                script.push(b'\n');
                continue;
            }
            let mut line = frames[next(frames.len())].clone().into_bytes();
            for _ in 0..next(4) {
                let at = next(line.len());
                match next(3) {
                    0 => line[at] = u8::try_from(next(256)).unwrap(),
                    1 => drop(line.drain(at..)),
                    _ => line.insert(at, b"\"{}[],:019\\"[next(11)]),
                }
                if line.is_empty() {
                    line.push(b'{');
                }
            }
            // Ids of ours, so that answers meet questions.
            let mut id = String::new();
            write!(id, "\"id\":\"{}\"", 1 + next(12)).unwrap();
            let line = String::from_utf8_lossy(&line).replacen("\"id\":\"1\"", &id, 1);
            script.extend_from_slice(line.replace('\n', " ").as_bytes());
            script.push(b'\n');
        }
        fuzzing::openclaw_frames(&script);
    }
}
