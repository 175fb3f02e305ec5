#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crest_ingest::fuzzing::youtube_elements(data));
