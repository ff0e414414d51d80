#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bus::nats_headers(data));
