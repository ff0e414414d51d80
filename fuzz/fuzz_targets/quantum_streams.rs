#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::quantum_streams::operations(data));
