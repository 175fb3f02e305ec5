#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::Arc;
use std::time::Duration;

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x01, 0x40];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb];

fn h264(ticks: u64, arrival: Instant, nals: &[&[u8]]) -> Frame {
    let data: Vec<u8> = nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect();
    Frame { codec: FrameCodec::H264, ticks, rate: 90_000, arrival, report: None, data: Arc::from(data) }
}

fn vp8(ticks: u64, arrival: Instant, width: u8) -> Frame {
    let data = Arc::from([0x10, 2, 0, 0x9d, 1, 0x2a, width, 0, 90, 0]);
    Frame { codec: FrameCodec::Vp8, ticks, rate: 90_000, arrival, report: None, data }
}

fn opus(ticks: u64, arrival: Instant, data: &[u8]) -> Frame {
    Frame { codec: FrameCodec::Opus, ticks, rate: 48_000, arrival, report: None, data: Arc::from(data) }
}

fn events(taken: Taken) -> Vec<MediaEvent> {
    taken.events.into_iter().flatten().collect()
}

fn size(event: &MediaEvent) -> Option<(u32, u32)> {
    match event {
        MediaEvent::VideoConfig(config) => Some((config.width, config.height)),
        _ => None,
    }
}

#[test]
fn the_picture_begins_at_a_keyframe_and_its_configuration_comes_first() {
    let now = Instant::now();
    let mut tracks = Tracks::new(now);
    let taken = tracks.take(&h264(0, now, &[&[0x41, 1]])).unwrap();
    assert!(taken.lost && taken.events == [None, None], "nothing can be decoded yet");
    let taken = tracks.take(&h264(3000, now, &[&[0x65, 1]])).unwrap();
    assert!(taken.lost && taken.events == [None, None], "a keyframe without parameter sets");
    let taken = tracks.take(&h264(6000, now, &[SPS, PPS, &[0x65, 2]])).unwrap();
    assert!(taken.keyframe && !taken.lost);
    let first = events(taken);
    let [MediaEvent::VideoConfig(config), MediaEvent::Video(packet)] = &first[..] else { panic!("{first:?}") };
    assert_eq!((config.codec, config.record[0]), (VideoCodec::H264, 1));
    assert!(packet.keyframe);
    assert_eq!(packet.data.as_ref(), [0, 0, 0, 2, 0x65, 2]);
    let next = events(tracks.take(&h264(9000, now, &[&[0x41, 3]])).unwrap());
    let [MediaEvent::Video(next)] = &next[..] else { panic!("{next:?}") };
    assert!(!next.keyframe);
    assert_eq!((next.pts - packet.pts).nanos() / 1000, 33_333);
    let again = events(tracks.take(&h264(12_000, now, &[SPS, PPS, &[0x65, 2]])).unwrap());
    assert_eq!(again.len(), 1, "the configuration is told once");
    let wider = [0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x02, 0x80];
    let changed = events(tracks.take(&h264(15_000, now, &[&wider, PPS, &[0x65, 2]])).unwrap());
    let [MediaEvent::VideoConfig(after), MediaEvent::Video(_)] = &changed[..] else { panic!("{changed:?}") };
    assert_ne!(after.record, config.record);
}

#[test]
fn vp8_and_opus_are_configured_by_their_first_frames() {
    let now = Instant::now();
    let mut tracks = Tracks::new(now);
    let first = events(tracks.take(&vp8(0, now, 160)).unwrap());
    assert_eq!((first.len(), size(&first[0])), (2, Some((160, 90))));
    let wider = events(tracks.take(&vp8(3000, now, 200)).unwrap());
    assert_eq!((wider.len(), size(&wider[0])), (2, Some((200, 90))), "a new size is a new configuration");
    assert!(events(tracks.take(&opus(0, now, &[])).unwrap()).is_empty(), "silence");
    let sound = events(tracks.take(&opus(960, now, &[0xfc, 1])).unwrap());
    let [MediaEvent::AudioConfig(config), MediaEvent::Audio(packet)] = &sound[..] else { panic!("{sound:?}") };
    assert_eq!((config.codec, config.sample_rate, config.channels), (AudioCodec::Opus, 48_000, 2));
    assert_eq!(config.record.as_ref(), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
    assert_eq!((packet.data.as_ref(), packet.keyframe), (&[0xfc, 1][..], true));
    let next = events(tracks.take(&opus(1920, now, &[0xfc, 2])).unwrap());
    let [MediaEvent::Audio(next)] = &next[..] else { panic!("{next:?}") };
    assert_eq!((next.pts - packet.pts).nanos(), 20_000_000);
}

#[test]
fn a_report_is_understood_across_the_wrap_of_its_clock() {
    let now = Instant::now();
    let mut tracks = Tracks::new(now);
    let wrap = 1u64 << 32;
    let mut at = |ticks: u64, millis: u64, report| {
        let mut frame = opus(ticks, now + Duration::from_millis(millis), &[1]);
        frame.report = Some(report);
        let placed = events(tracks.take(&frame).unwrap());
        let Some(MediaEvent::Audio(packet)) = placed.last() else { panic!("{placed:?}") };
        packet.pts.nanos()
    };
    // The report's own count has not wrapped yet, or began anew after it.
    let before = at(wrap - 960, 0, (wrap - 960, 5_000_000_000));
    let after = at(wrap, 20, (wrap - 960, 5_000_000_000));
    let later = at(wrap + 48_000, 1020, (48_000, 6_020_000_000));
    assert_eq!((after - before, later - before), (20_000_000, 1_020_000_000));
}

#[test]
fn configurations_that_change_all_the_time_end_it() {
    let now = Instant::now();
    let mut tracks = Tracks::new(now);
    let changed = |tracks: &mut Tracks, count: u8, from: u64| {
        (0..count).all(|n| tracks.take(&vp8(u64::from(n) * 3000, now + Duration::from_secs(from), 100 + n)).is_ok())
    };
    assert!(changed(&mut tracks, 20, 0) && changed(&mut tracks, 19, 11), "now and then it may change");
    assert!(!changed(&mut tracks, 30, 12));
}
