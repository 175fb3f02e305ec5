//! Segment files: what is written, when, and what survives damage.

use crest_core::codec::{MediaEvent, VideoConfig};
use crest_core::units::Span;
use crest_media::{SegmenterConfig, cut};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::process::Command;

use crate::support::{Bench, complaints, events, ms, number, probe, seconds, segmenter, store};

fn video_packets(events: &[MediaEvent]) -> usize {
    events.iter().filter(|e| matches!(e, MediaEvent::Video(_))).count()
}

#[test]
fn one_fragment_per_group_of_pictures_and_every_frame_kept() {
    for options in ["-bf 0", "-bf 3"] {
        let bench = Bench::new();
        let events = events(&bench.sample(5, options, "in.mp4"));
        let fragments = store(bench.dir.path(), &events);
        assert_eq!(fragments.len(), 5);
        assert!(fragments.iter().all(|f| f.keyframe && f.header_bytes == fragments[0].header_bytes));
        assert_eq!(fragments[0].offset, fragments[0].header_bytes);
        assert!(fragments.windows(2).all(|pair| pair[0].offset + pair[0].bytes == pair[1].offset));
        assert!((seconds(fragments[4].end) - 5.0).abs() < 0.05, "{:?}", fragments[4]);
        let file = bench.dir.path().join(&fragments[0].object);
        assert_eq!(fragments[4].offset + fragments[4].bytes, fs::metadata(&file).unwrap().len());
        assert_eq!(complaints(&file), "");
        assert_eq!(number(&file, "v", "nb_read_frames") as usize, video_packets(&events));
    }
}

#[test]
fn fragments_appear_as_they_close() {
    let bench = Bench::new();
    let events = events(&bench.sample(4, "", "in.mp4"));
    let mut segmenter = segmenter(bench.dir.path(), SegmenterConfig::default());
    let mut closed = 0;
    for event in &events {
        for fragment in segmenter.push(event).unwrap() {
            closed += 1;
            let length = fs::metadata(bench.dir.path().join(&fragment.object)).unwrap().len();
            assert_eq!(length, fragment.offset + fragment.bytes);
        }
    }
    assert_eq!(closed, 3);
    assert_eq!(segmenter.finish().unwrap().len(), 1);
    assert!(segmenter.finish().unwrap().is_empty());
}

#[test]
fn long_and_large_groups_are_split_and_files_rotate_at_keyframes() {
    let bench = Bench::new();
    let events = events(&bench.sample(8, "-bf 2", "in.mp4"));
    let config = SegmenterConfig {
        fragment: Span(std::time::Duration::from_millis(500)),
        fragment_bytes: 1 << 30,
        segment: Span::secs(3),
    };
    let mut writer = segmenter(&bench.path("short"), config);
    let mut fragments: Vec<_> = events.iter().flat_map(|e| writer.push(e).unwrap()).collect();
    fragments.extend(writer.finish().unwrap());
    assert!(fragments.iter().any(|f| !f.keyframe));
    let objects: BTreeSet<_> = fragments.iter().map(|f| f.object.clone()).collect();
    assert_eq!(objects.len(), 3);
    let mut frames = 0.0;
    for object in &objects {
        assert!(fragments.iter().find(|f| &f.object == object).unwrap().keyframe);
        let file = bench.path("short").join(object);
        assert_eq!(complaints(&file), "");
        frames += number(&file, "v", "nb_read_frames");
    }
    assert_eq!(frames as usize, video_packets(&events));

    let config = SegmenterConfig { fragment_bytes: 20_000, ..Default::default() };
    let mut writer = segmenter(&bench.path("small"), config);
    let mut fragments: Vec<_> = events.iter().flat_map(|e| writer.push(e).unwrap()).collect();
    fragments.extend(writer.finish().unwrap());
    assert!(fragments.iter().all(|f| f.bytes < 30_000), "{:?}", fragments.iter().map(|f| f.bytes).max());
    // A clip across files is whole.
    let clip = bench.path("clip.mp4");
    cut(&bench.path("small"), &fragments, ms(2500), ms(6500), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
}

#[test]
fn a_track_that_comes_late_begins_a_new_file() {
    let bench = Bench::new();
    let events = events(&bench.sample(5, "", "in.mp4"));
    let late = |event: &MediaEvent| match event {
        MediaEvent::Audio(packet) => packet.pts >= ms(2500),
        _ => true,
    };
    let config = events.iter().find(|e| matches!(e, MediaEvent::AudioConfig(_))).cloned().unwrap();
    let mut told = false;
    let mut reordered = Vec::new();
    for event in events.iter().filter(|e| late(e) && !matches!(e, MediaEvent::AudioConfig(_))) {
        if !told && matches!(event, MediaEvent::Audio(_)) {
            told = true;
            reordered.push(config.clone());
        }
        reordered.push(event.clone());
    }
    let fragments = store(bench.dir.path(), &reordered);
    let objects: BTreeSet<_> = fragments.iter().map(|f| f.object.clone()).collect();
    assert_eq!(objects.len(), 2);
    let clip = bench.path("clip.mp4");
    cut(bench.dir.path(), &fragments, ms(3500), ms(4800), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
    assert!(number(&clip, "a", "duration") > 1.0);

    // Sound that is announced within the first second shares the first file.
    let early: Vec<_> = events.iter().filter(|e| !matches!(e, MediaEvent::AudioConfig(_))).cloned().collect();
    let (head, tail) = early.split_at(10);
    let head = head.iter().filter(|e| !matches!(e, MediaEvent::Audio(_)));
    let all: Vec<_> = head.chain([&config]).chain(tail).cloned().collect();
    let objects: BTreeSet<_> = store(&bench.path("early"), &all).into_iter().map(|f| f.object).collect();
    assert_eq!(objects.len(), 1);
}

#[test]
fn what_follows_a_refused_configuration_is_not_stored_under_the_old_one() {
    let bench = Bench::new();
    let events = events(&bench.sample(5, "-bf 0", "in.mp4"));
    let is_picture = |e: &MediaEvent| matches!(e, MediaEvent::Video(_));
    let Some(MediaEvent::VideoConfig(good)) = events.iter().find(|e| matches!(e, MediaEvent::VideoConfig(_))) else {
        panic!("no configuration")
    };
    let bad = MediaEvent::VideoConfig(VideoConfig { record: vec![1, 2, 3].into(), ..good.clone() });
    // In the middle of the first group of pictures, and until the third.
    let keyframes = |e: &&MediaEvent| matches!(e, MediaEvent::Video(packet) if packet.keyframe);
    let third = events.iter().filter(keyframes).nth(2).unwrap();
    let mut segmenter = segmenter(bench.dir.path(), SegmenterConfig::default());
    let (mut fragments, mut kept, mut refused, mut taken) = (Vec::new(), 0, 0, true);
    for (index, event) in events.iter().enumerate() {
        if index == 20 {
            refused += usize::from(segmenter.push(&bad).is_err());
            taken = false;
        }
        if std::ptr::eq(event, third) {
            fragments.extend(segmenter.push(&MediaEvent::VideoConfig(good.clone())).unwrap());
            taken = true;
        }
        kept += usize::from(is_picture(event) && taken);
        fragments.extend(segmenter.push(event).unwrap());
    }
    fragments.extend(segmenter.finish().unwrap());
    assert_eq!(refused, 1);
    // What had closed when the configuration was refused is known as well.
    assert_eq!(fragments[0].start, ms(0));
    let objects: BTreeSet<_> = fragments.iter().map(|f| f.object.clone()).collect();
    let mut frames = 0;
    for object in objects {
        let file = bench.dir.path().join(object);
        assert_eq!(complaints(&file), "");
        frames += probe(&file, "v", "nb_read_frames").trim().parse::<usize>().unwrap_or(0);
    }
    assert_eq!(frames, kept);
}

#[test]
fn a_restart_does_not_write_over_what_is_there() {
    let bench = Bench::new();
    let events = events(&bench.sample(2, "", "in.mp4"));
    let first = store(bench.dir.path(), &events);
    let second = store(bench.dir.path(), &events);
    assert_ne!(first[0].object, second[0].object);
    for fragment in first.iter().chain(&second) {
        assert_eq!(complaints(&bench.dir.path().join(&fragment.object)), "");
    }
}

#[test]
fn a_torn_file_is_readable_up_to_its_last_whole_fragment() {
    let bench = Bench::new();
    let fragments = store(bench.dir.path(), &events(&bench.sample(4, "-bf 2", "in.mp4")));
    let last = fragments.last().unwrap();
    let file = bench.dir.path().join(&last.object);
    OpenOptions::new().write(true).open(&file).unwrap().set_len(last.offset + last.bytes / 2).unwrap();
    let out = Command::new("ffprobe")
        .args(["-v", "quiet", "-count_packets", "-select_streams", "v", "-show_entries", "stream=nb_read_packets"])
        .args(["-of", "csv=p=0"])
        .arg(&file)
        .output()
        .unwrap();
    let packets: u32 = String::from_utf8_lossy(&out.stdout).trim().parse().unwrap();
    assert!(packets >= 90, "{packets}");
    let clip = bench.path("clip.mp4");
    let made = cut(bench.dir.path(), &fragments, ms(1000), ms(4000), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
    assert!(made.end >= ms(2990) && made.end < ms(3200), "{made:?}");
    assert!(
        cut(bench.dir.path(), std::slice::from_ref(last), ms(0), ms(9000), &clip)
            .unwrap_err()
            .message
            .contains("damaged")
    );
}

#[test]
fn damage_anywhere_is_an_error_or_a_clip_never_a_panic() {
    let bench = Bench::new();
    let fragments = store(bench.dir.path(), &events(&bench.sample(1, "", "in.mp4")));
    let fragment = &fragments[0];
    let file = bench.dir.path().join(&fragment.object);
    let good = fs::read(&file).unwrap();
    // Header and index; the media itself is not looked at.
    let moof = u32::from_be_bytes(good[fragment.offset as usize..][..4].try_into().unwrap()) as usize;
    let clip = bench.path("clip.mp4");
    for at in (0..fragment.offset as usize + moof).step_by(5) {
        for value in [0x00, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            fs::write(&file, &bad).unwrap();
            let _ = cut(bench.dir.path(), &fragments, ms(0), ms(1000), &clip);
        }
    }
    fs::write(&file, &good).unwrap();
    cut(bench.dir.path(), &fragments, ms(0), ms(1000), &clip).unwrap();
}
