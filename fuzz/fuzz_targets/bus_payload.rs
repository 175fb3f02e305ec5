#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crest_core::fuzzing::payload(data));
