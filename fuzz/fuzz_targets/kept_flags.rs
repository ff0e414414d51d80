#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::config::kept_flags(data));
