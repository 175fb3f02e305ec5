//! What must hold on a session's timeline, whatever a publisher sends.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn packet(dts_ms: i64, pts_ms: i64) -> Packet {
    Packet {
        dts: MediaTime::from_millis(dts_ms),
        pts: MediaTime::from_millis(pts_ms),
        keyframe: false,
        data: Bytes::new(),
    }
}

fn place(timeline: &mut Timeline, track: Track, dts_ms: i64) -> i64 {
    timeline.place(track, packet(dts_ms, dts_ms)).dts.nanos() / 1_000_000
}

#[test]
fn the_first_packet_is_at_zero_and_both_tracks_share_its_offset() {
    let mut timeline = Timeline::default();
    assert_eq!(place(&mut timeline, Track::Video, 5000), 0);
    assert_eq!(place(&mut timeline, Track::Audio, 5010), 10);
    assert_eq!(place(&mut timeline, Track::Video, 5033), 33);
}

#[test]
fn a_stall_stays_a_gap_and_a_jump_is_closed_up_for_both_tracks() {
    let mut timeline = Timeline::default();
    place(&mut timeline, Track::Video, 0);
    place(&mut timeline, Track::Audio, 0);
    assert_eq!(place(&mut timeline, Track::Video, 10_000), 10_000);
    assert_eq!(place(&mut timeline, Track::Audio, 10_000), 10_000);
    assert_eq!(place(&mut timeline, Track::Video, 10_040), 10_040);

    // An hour ahead: the picture goes on one frame later, and the sound stays with it.
    assert_eq!(place(&mut timeline, Track::Video, 3_610_040), 10_080);
    assert_eq!(place(&mut timeline, Track::Audio, 3_610_050), 10_090);
    // Back to where the clock was.
    assert_eq!(place(&mut timeline, Track::Video, 20_000), 10_130);
    assert_eq!(place(&mut timeline, Track::Audio, 20_015), 10_145);
    assert_eq!(timeline.rebased(), 2);
}

#[test]
fn what_was_left_out_stays_a_gap_whatever_the_timestamps_behind_it_are() {
    // They go on, jump ahead by about as much, and begin anew.
    for (raw, placed) in [(1040, 91_000), (90_500, 90_500), (7, 91_000)] {
        let mut timeline = Timeline::default();
        place(&mut timeline, Track::Video, 0);
        place(&mut timeline, Track::Audio, 10);
        place(&mut timeline, Track::Video, 1000);
        timeline.leave_out(MediaTime::from_millis(90_000));
        assert_eq!(place(&mut timeline, Track::Video, raw), placed, "{raw}");
        assert_eq!(place(&mut timeline, Track::Audio, raw + 5), placed + 5, "{raw}");
        assert_eq!(place(&mut timeline, Track::Video, raw + 33), placed + 33, "{raw}");
    }
}

#[test]
fn packets_of_the_other_track_from_before_the_jump_keep_their_place() {
    let mut timeline = Timeline::default();
    place(&mut timeline, Track::Video, 0);
    place(&mut timeline, Track::Audio, 0);
    place(&mut timeline, Track::Video, 40);
    assert_eq!(place(&mut timeline, Track::Video, 900_000), 80);
    assert_eq!(place(&mut timeline, Track::Audio, 21), 21);
    assert_eq!(place(&mut timeline, Track::Audio, 43), 43);
    assert_eq!(place(&mut timeline, Track::Audio, 900_005), 85);
    assert_eq!(place(&mut timeline, Track::Video, 900_040), 120);
    assert_eq!(timeline.rebased(), 1);
}

#[test]
fn sound_that_lags_behind_the_picture_is_no_jump() {
    let mut timeline = Timeline::default();
    for frame in 0..200 {
        assert_eq!(place(&mut timeline, Track::Video, 3000 + frame * 40), 3000 + frame * 40 - 3000);
        if frame > 75 {
            assert_eq!(place(&mut timeline, Track::Audio, frame * 40), (frame * 40 - 3000).max(0));
        }
    }
    assert_eq!(timeline.rebased(), 0);
}

#[test]
fn repeated_and_slightly_earlier_timestamps_still_rise() {
    let mut timeline = Timeline::default();
    assert_eq!(place(&mut timeline, Track::Video, 100), 0);
    assert_eq!(place(&mut timeline, Track::Video, 140), 40);
    assert_eq!(place(&mut timeline, Track::Video, 140), 41);
    assert_eq!(place(&mut timeline, Track::Video, 120), 42);
    assert_eq!(place(&mut timeline, Track::Video, 180), 80);
}

#[test]
fn presentation_is_never_before_decoding() {
    let mut timeline = Timeline::default();
    let placed = timeline.place(Track::Video, packet(100, 20));
    assert_eq!(placed.pts, placed.dts);
    let placed = timeline.place(Track::Video, packet(140, 220));
    assert_eq!((placed.dts, placed.pts), (MediaTime::from_millis(40), MediaTime::from_millis(120)));
}

#[test]
fn timestamps_wrap_after_49_days() {
    let mut unwrap = Unwrap::default();
    let mut timeline = Timeline::default();
    let times: Vec<i64> = [u32::MAX - 39, u32::MAX, 40, 20, 80]
        .into_iter()
        .map(|millis| {
            let dts = unwrap.extend(millis);
            timeline.place(Track::Video, packet(dts.nanos() / 1_000_000, dts.nanos() / 1_000_000)).dts.nanos()
                / 1_000_000
        })
        .collect();
    assert_eq!(times, [0, 39, 80, 81, 120]);
}

#[test]
fn a_feed_that_comes_back_continues_or_does_not() {
    let mut timeline = Timeline::default();
    let within = Duration::from_secs(60);
    assert!(!timeline.continues(Track::Video, MediaTime::ZERO, within), "nothing to continue");
    place(&mut timeline, Track::Video, 1000);
    place(&mut timeline, Track::Video, 9000);
    assert!(timeline.continues(Track::Video, MediaTime::from_millis(9000), within));
    assert!(timeline.continues(Track::Video, MediaTime::from_millis(69_000), within));
    assert!(!timeline.continues(Track::Video, MediaTime::from_millis(69_001), within));
    assert!(!timeline.continues(Track::Video, MediaTime::from_millis(8999), within));
    // The sound may have been less far than the picture, by what is usual between them.
    assert!(timeline.continues(Track::Audio, MediaTime::from_millis(8100), within));
    assert!(!timeline.continues(Track::Audio, MediaTime::from_millis(7900), within));
    // The time it was away stays in the timeline.
    timeline.resume(MediaTime::from_millis(49_000));
    assert_eq!(place(&mut timeline, Track::Video, 49_000), 48_000);
    assert_eq!(place(&mut timeline, Track::Audio, 49_010), 48_010);
}

proptest! {
    #[test]
    fn whatever_comes_decoding_times_rise_and_presentation_follows(
        packets in prop::collection::vec((any::<bool>(), any::<u32>(), -0x80_0000i64..0x80_0000), 1..200),
    ) {
        let (mut unwrap, mut timeline) = (Unwrap::default(), Timeline::default());
        let mut last = [None::<MediaTime>; 2];
        for (index, (video, millis, composition)) in packets.into_iter().enumerate() {
            let dts = unwrap.extend(millis);
            let pts = dts + MediaTime::from_millis(composition);
            let track = if video { Track::Video } else { Track::Audio };
            let placed = timeline.place(track, Packet { dts, pts, keyframe: false, data: Bytes::new() });
            if index == 0 {
                prop_assert_eq!(placed.dts, MediaTime::ZERO);
            }
            prop_assert!(placed.dts >= MediaTime::ZERO && placed.pts >= placed.dts);
            let last = &mut last[usize::from(video)];
            prop_assert!(last.is_none_or(|last| placed.dts > last));
            *last = Some(placed.dts);
            prop_assert!(timeline.end() > placed.pts);
        }
    }

    #[test]
    fn a_clean_feed_is_only_shifted(start in any::<u32>(), steps in prop::collection::vec((any::<bool>(), 1u32..400), 1..300)) {
        let (mut unwrap, mut timeline) = (Unwrap::default(), Timeline::default());
        let mut elapsed = 0u32;
        for (video, step) in steps {
            let dts = unwrap.extend(start.wrapping_add(elapsed));
            let track = if video { Track::Video } else { Track::Audio };
            let placed = timeline.place(track, Packet { dts, pts: dts, keyframe: false, data: Bytes::new() });
            prop_assert_eq!(placed.dts, MediaTime::from_millis(i64::from(elapsed)));
            elapsed += step;
        }
        prop_assert_eq!(timeline.rebased(), 0);
    }
}
