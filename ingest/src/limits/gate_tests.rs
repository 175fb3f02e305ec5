//! What passes the gate, by a clock of the tests' own.

use super::*;
use crate::limits::Ledger;
use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{Packet, VideoCodec, VideoConfig};
use crest_core::units::Span;
use std::time::Duration;

/// Parameter sets of 320 x 192 and of 8192 x 8192, baseline.
const SMALL: [u8; 8] = [0x67, 0x42, 0x00, 0x1e, 0xda, 0x05, 0x06, 0x64];
const LARGE: [u8; 11] = [0x67, 0x42, 0x00, 0x1e, 0xda, 0x00, 0x20, 0x00, 0x04, 0x01, 0x90];

fn gate(limits: LimitsConfig) -> Gate {
    Gate::new(Ledger::new(limits).admit(None).unwrap())
}

fn config(width: u32, height: u32) -> MediaEvent {
    // Told beside the record, as for codecs whose records do not say it.
    MediaEvent::VideoConfig(VideoConfig { codec: VideoCodec::Vp9, record: Bytes::new(), width, height })
}

fn packet(bytes: usize) -> Packet {
    Packet { pts: MediaTime::ZERO, dts: MediaTime::ZERO, keyframe: true, data: Bytes::from(vec![0; bytes]) }
}

fn limit(result: Result<(), Excess>) -> Option<&'static str> {
    result.err().map(|excess| excess.limit)
}

/// Pushes `rate` packets a second for `seconds`; what stopped it, and after how many milliseconds.
fn push(gate: &mut Gate, from: Instant, seconds: u64, rate: u64, event: &MediaEvent) -> Option<(&'static str, u64)> {
    (0..seconds * rate).find_map(|n| {
        let millis = n * 1000 / rate;
        limit(gate.pass(event, from + Duration::from_millis(millis))).map(|limit| (limit, millis))
    })
}

#[test]
fn a_feed_within_its_rate_goes_on_and_a_flood_is_cut_off_after_a_burst() {
    let limits = LimitsConfig { feed_bits_per_second: 8000, burst: Span::secs(10), ..LimitsConfig::default() };
    let start = Instant::now();
    let audio = MediaEvent::Audio(packet(10));
    let mut gate = gate(limits.clone());
    assert_eq!(push(&mut gate, start, 600, 99, &audio), None, "7920 bits a second, for ten minutes");
    // A stall of eight seconds, and all that it held back at once.
    let after = start + Duration::from_secs(608);
    for _ in 0..8 * 99 {
        assert_eq!(limit(gate.pass(&audio, after)), None);
    }
    assert_eq!(push(&mut gate, after, 60, 99, &audio), None);
    let mut flooded = self::gate(limits);
    let (limit, millis) = push(&mut flooded, start, 60, 300, &audio).unwrap();
    assert_eq!(limit, "feed_bits_per_second");
    assert!((4000..6000).contains(&millis), "three times the rate uses a burst of ten seconds up in five: {millis}");
}

#[test]
fn frames_are_counted_by_their_coded_pixels() {
    let limits = LimitsConfig { feed_pixels_per_second: 1000 * 1000 * 60, ..LimitsConfig::default() };
    let start = Instant::now();
    let video = MediaEvent::Video(packet(1));
    for (rate, stopped) in [(59, None), (200, Some("feed_pixels_per_second"))] {
        let mut gate = gate(limits.clone());
        gate.pass(&config(1000, 1000), start).unwrap();
        assert_eq!(push(&mut gate, start, 30, rate, &video).map(|(limit, _)| limit), stopped);
    }
}

#[test]
fn a_picture_may_not_grow_beyond_the_limit_in_the_middle_of_a_feed() {
    let mut gate = gate(LimitsConfig { max_width: 400, max_height: 400, ..LimitsConfig::default() });
    let now = Instant::now();
    let record = [&[1, 66, 0, 30, 0xff, 0xe1, 0, SMALL.len() as u8][..], &SMALL, &[0]].concat();
    let h264 = VideoConfig { codec: VideoCodec::H264, record: Bytes::from(record), width: 0, height: 0 };
    assert_eq!(limit(gate.pass(&MediaEvent::VideoConfig(h264), now)), None);
    assert_eq!(gate.picture, 320 * 192);
    // In the picture itself.
    let with = |sps: &[u8]| [&[0, 0, 0, sps.len() as u8][..], sps, &[0, 0, 0, 2, 0x65, 0x88]].concat();
    let unit = |sps: &[u8]| MediaEvent::Video(Packet { data: Bytes::from(with(sps)), ..packet(0) });
    assert_eq!(limit(gate.pass(&unit(&SMALL), now)), None);
    let refused = gate.pass(&unit(&LARGE), now).unwrap_err();
    assert!(refused.limit == "picture_size" && refused.reason.contains("limits.max_width"), "{refused:?}");
    // And by a configuration.
    assert_eq!(limit(gate.pass(&config(400, 401), now)), Some("picture_size"));
    assert_eq!(limit(gate.pass(&config(400, 400), now)), None);
}

#[test]
fn what_is_claimed_follows_what_arrives_and_a_full_machine_stops_the_newcomer() {
    let limits = LimitsConfig { bits_per_second: 30_000, burst: Span::secs(4), ..LimitsConfig::default() };
    let ledger = Ledger::new(limits);
    let start = Instant::now();
    let audio = MediaEvent::Audio(packet(20));
    let mut first = Gate::new(ledger.admit(None).unwrap());
    let mut second = Gate::new(ledger.admit(None).unwrap());
    assert_eq!(push(&mut first, start, 20, 100, &audio), None);
    assert!(
        (19_000..21_000).contains(&first.permit.rate().bits),
        "16000 and a quarter more: {:?}",
        first.permit.rate()
    );
    let (limit, millis) = push(&mut second, start, 60, 100, &audio).unwrap();
    assert_eq!(limit, "bits_per_second");
    assert!((4000..9000).contains(&millis), "as long as any burst is forgiven: {millis}");
    drop(second);
    // A quieter feed gives back what it does not use.
    let later = start + Duration::from_secs(20);
    assert_eq!(push(&mut first, later, 120, 50, &audio), None);
    assert!((9000..11_000).contains(&first.permit.rate().bits), "{:?}", first.permit.rate());
}

#[test]
fn a_large_picture_claims_its_pixels_at_once() {
    let ledger = Ledger::new(LimitsConfig { pixels_per_second: 50_000_000, ..LimitsConfig::default() });
    let now = Instant::now();
    let mut first = Gate::new(ledger.admit(None).unwrap());
    let mut second = Gate::new(ledger.admit(None).unwrap());
    assert_eq!(limit(first.pass(&config(1000, 1000), now)), None);
    assert_eq!(limit(second.pass(&config(1000, 1000), now)), Some("pixels_per_second"));
    drop(first);
    assert_eq!(limit(second.pass(&config(1000, 1000), now)), None);
}
