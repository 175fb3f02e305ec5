#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crest_ingest::fuzzing::rtp_payloads(data));
