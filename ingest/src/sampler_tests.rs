//! Samples are cut at bucket boundaries, and nothing is lost or doubled on the way.
#![allow(clippy::unwrap_used)]

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn sampler() -> Sampler {
    Sampler::new(OrganizationId::from_raw("org_a"), Session::new(1))
}

fn packet(dts: i64, pts: i64, keyframe: bool) -> Packet {
    Packet {
        dts: MediaTime::from_millis(dts),
        pts: MediaTime::from_millis(pts),
        keyframe,
        data: Bytes::from_static(&[0; 9]),
    }
}

fn picture() -> Picture {
    Picture { width: 1, height: 1, rgb: Bytes::from_static(&[1, 2, 3]) }
}

fn pcm(start_ms: i64, samples: usize) -> Pcm {
    Pcm { start: MediaTime::from_millis(start_ms), samples: vec![0.5; samples] }
}

#[test]
fn a_batch_holds_one_bucket_and_claims_what_is_certain() {
    let mut sampler = sampler();
    assert_eq!(sampler.video(&packet(0, 80, true), Some(picture())), None);
    assert_eq!(sampler.video(&packet(460, 560, false), None), None);
    let batch = sampler.video(&packet(510, 520, false), None).unwrap();
    assert_eq!(batch.frames.len(), 2);
    assert_eq!(batch.complete_to, MediaTime::from_millis(510), "a frame presented at 520 follows");
    assert_eq!((batch.frames[0].encoded_bytes, batch.frames[0].keyframe), (9, true));
    assert_eq!(batch.frames[0].picture, Some(picture()));

    // A gap of several buckets leaves no empty batches behind.
    let batch = sampler.video(&packet(2100, 2100, false), None).unwrap();
    assert_eq!(batch.complete_to, MediaTime::from_millis(2100));
    let (last, sound) = sampler.finish();
    assert_eq!((last.unwrap().frames.len(), sound), (1, None));
    assert_eq!(sampler.finish(), (None, None));
}

#[test]
fn few_pictures_of_each_bucket_are_wanted() {
    let mut sampler = sampler();
    let mut wanted = 0;
    for frame in 0..50 {
        let packet = packet(frame * 20, frame * 20, true);
        let wants = sampler.wants_picture(&packet);
        wanted += usize::from(wants);
        sampler.video(&packet, wants.then(picture));
    }
    assert_eq!(wanted, 2 * PICTURES);
    assert!(!sampler.wants_picture(&packet(5000, 5000, false)), "inter frames are never decoded");
}

#[test]
fn sound_is_cut_at_bucket_boundaries() {
    let mut sampler = sampler();
    assert_eq!(sampler.audio(pcm(100, 3200)), vec![]);
    // 400 ms that begin at 300 ms cross the boundary at 500 ms.
    let windows = sampler.audio(pcm(300, 6400));
    assert_eq!(windows.len(), 1);
    assert_eq!((windows[0].start, windows[0].samples.len()), (MediaTime::from_millis(100), 6400));
    assert_eq!(windows[0].complete_to, MediaTime::from_millis(500));
    let windows = sampler.audio(pcm(700, 16_000));
    assert_eq!(windows.iter().map(|w| w.start.nanos() / 1_000_000).collect::<Vec<_>>(), [500, 1000]);
    let (_, rest) = sampler.finish();
    let rest = rest.unwrap();
    assert_eq!((rest.start, rest.samples.len()), (MediaTime::from_millis(1500), 3200));
    assert_eq!(rest.complete_to, MediaTime::from_millis(1700));
}

#[test]
fn rounded_timestamps_join_and_gaps_do_not() {
    let mut sampler = sampler();
    sampler.audio(pcm(0, 341));
    sampler.audio(pcm(21, 341));
    sampler.audio(pcm(43, 341));
    let windows = sampler.audio(pcm(200, 160));
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].samples.len(), 3 * 341);
    assert_eq!(windows[0].complete_to, MediaTime::from_millis(200), "the next sound is known");
    // Sound that was heard already is not heard twice.
    sampler.audio(pcm(110, 1600));
    let (_, rest) = sampler.finish();
    assert_eq!(rest.unwrap().samples.len(), 160);
}

proptest! {
    #[test]
    fn no_sample_is_lost_doubled_or_across_a_boundary(start in 0i64..5000, pieces in prop::collection::vec(1usize..9000, 1..40)) {
        let mut sampler = sampler();
        let (mut fed, mut heard) = (0usize, 0usize);
        let mut next = None;
        let mut windows = Vec::new();
        for piece in pieces {
            let at = MediaTime::from_nanos(start * 1_000_000 + i64::try_from(fed).unwrap() * SAMPLE);
            let samples = (fed..fed + piece).map(|n| n as f32).collect();
            windows.extend(sampler.audio(Pcm { start: at, samples }));
            fed += piece;
        }
        windows.extend(sampler.finish().1);
        for window in windows {
            prop_assert!(next.is_none_or(|next| next == window.start));
            for sample in &window.samples {
                prop_assert_eq!(*sample, heard as f32);
                heard += 1;
            }
            let end = window.start.nanos() + i64::try_from(window.samples.len()).unwrap() * SAMPLE;
            prop_assert!(end <= window.start.bucket().end().nanos());
            prop_assert!(window.complete_to.nanos() >= end);
            next = Some(MediaTime::from_nanos(end));
        }
        prop_assert_eq!(heard, fed);
    }
}
