#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crest_sinks::fuzzing::address(data));
