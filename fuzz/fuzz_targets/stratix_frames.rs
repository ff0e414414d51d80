#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::upstream::stratix_frames(data));
