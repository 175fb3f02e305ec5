//! Clips play, are in step, and are the same each time.

use crest_core::codec::MediaEvent;
use crest_core::{Fault, MediaTime};
use crest_media::{cut, thumbnail};
use std::fs;

use crate::support::{Bench, complaints, events, ms, number, probe, raw, seconds, store};

#[test]
fn a_clip_starts_at_the_keyframe_and_ends_with_its_span() {
    for (options, name) in
        [("-bf 3", "b.mp4"), ("-bf 0", "plain.mp4"), ("-bf 2 -x264-params b-pyramid=normal", "p.mkv")]
    {
        let bench = Bench::new();
        let fragments = store(bench.dir.path(), &events(&bench.sample(8, options, name)));
        let clip = bench.path("clips/one.mp4");
        let cut = cut(bench.dir.path(), &fragments, ms(3400), ms(5500), &clip).unwrap();
        assert_eq!(complaints(&clip), "", "{name}");
        assert!((2.9..=3.1).contains(&seconds(cut.start)), "{name} {cut:?}");
        assert!(cut.end >= ms(5500) && cut.end <= ms(5700), "{name} {cut:?}");
        assert_eq!(cut.bytes, fs::metadata(&clip).unwrap().len());
        let length = seconds(cut.end - cut.start);
        assert_eq!(number(&clip, "v", "nb_read_frames"), (length * 30.0).round(), "{name}");
        for kind in ["v", "a"] {
            assert!(number(&clip, kind, "start_time").abs() < 0.02, "{name} {kind}");
            assert!((number(&clip, kind, "duration") - length).abs() < 0.025, "{name} {kind}");
        }
        let bytes = fs::read(&clip).unwrap();
        let place = |name: &[u8]| bytes.windows(4).position(|w| w == name).unwrap();
        assert!(place(b"moov") < place(b"mdat"));
    }
}

#[test]
fn what_happens_together_stays_together() {
    for container in ["flash.mp4", "flash.mkv", "flash.ts", "flash.flv"] {
        let bench = Bench::new();
        let file = bench.make(&format!(
            "-f lavfi -i color=black:s=160x96:r=30:d=6,drawbox=color=white:t=fill:enable='between(t,3,3.5)' \
             -f lavfi -i aevalsrc='if(between(t,3,3.5),0.5*sin(6283*t),0)':s=48000:d=6 \
             -c:v libx264 -g 60 -bf 2 -c:a aac {container}"
        ));
        let fragments = store(bench.dir.path(), &events(&file));
        let clip = bench.path("clip.mp4");
        let cut = cut(bench.dir.path(), &fragments, ms(2500), ms(4000), &clip).unwrap();
        let picture = raw(&clip, "-map 0:v -vf scale=1:1 -pix_fmt gray -f rawvideo");
        let flash = picture.iter().position(|level| *level > 128).unwrap() as f64 / 30.0;
        let sound = raw(&clip, "-map 0:a -ac 1 -ar 48000 -f f32le");
        let (samples, _) = sound.as_chunks::<4>();
        let beep = samples.iter().position(|s| f32::from_le_bytes(*s).abs() > 0.2).unwrap() as f64 / 48_000.0;
        assert!((flash - beep).abs() < 0.02, "{container}: flash at {flash}, beep at {beep}");
        let expected = 3.0 - seconds(cut.start);
        assert!((flash - expected).abs() < 0.06, "{container}: flash at {flash}, not {expected}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let bench = Bench::new();
    let file = bench.sample(5, "-bf 2", "in.mp4");
    let mut made = Vec::new();
    for name in ["a", "b"] {
        let root = bench.path(name);
        let fragments = store(&root, &events(&file));
        let (clip, picture) = (root.join("clip.mp4"), root.join("clip.jpg"));
        cut(&root, &fragments, ms(1200), ms(3300), &clip).unwrap();
        assert!(thumbnail(&root, &fragments, ms(2000), &picture).unwrap());
        let segment = fs::read(root.join(&fragments[0].object)).unwrap();
        made.push((segment, fs::read(clip).unwrap(), fs::read(picture).unwrap(), fragments));
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
    }
    assert!(made[0] == made[1]);
}

#[test]
fn sound_alone_and_picture_alone_make_clips() {
    let bench = Bench::new();
    let sound = bench.make("-f lavfi -i sine=300:r=44100:d=9 -c:a aac sound.m4a");
    let root = bench.path("sound");
    let fragments = store(&root, &events(&sound));
    assert!(fragments.len() >= 2 && fragments.iter().all(|f| f.keyframe));
    let clip = bench.path("sound.mp4");
    let made = cut(&root, &fragments, ms(2000), ms(6000), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
    assert!((seconds(made.end - made.start) - 4.0).abs() < 0.05);
    assert!((number(&clip, "a", "duration") - 4.0).abs() < 0.05);
    assert!(!thumbnail(&root, &fragments, ms(3000), &bench.path("none.jpg")).unwrap());
    assert!(!bench.path("none.jpg").exists());

    let picture = bench.make("-f lavfi -i testsrc2=s=320x180:r=25:d=6 -c:v libx264 -g 50 picture.mp4");
    let root = bench.path("picture");
    let fragments = store(&root, &events(&picture));
    let clip = bench.path("picture.mp4");
    cut(&root, &fragments, ms(2100), ms(3900), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
    assert_eq!(probe(&clip, "a", "codec_name"), "");
}

#[test]
fn a_picture_without_keyframes_in_the_span_starts_at_the_one_before() {
    let bench = Bench::new();
    let file = bench.make("-f lavfi -i testsrc2=s=320x180:r=30:d=14 -c:v libx264 -g 600 -bf 2 long.mp4");
    let fragments = store(bench.dir.path(), &events(&file));
    assert!(fragments.len() >= 3 && fragments[0].keyframe && !fragments[1].keyframe);
    let clip = bench.path("clip.mp4");
    let made = cut(bench.dir.path(), &fragments, ms(9000), ms(10_000), &clip).unwrap();
    assert_eq!(made.start, MediaTime::ZERO);
    assert_eq!(complaints(&clip), "");
}

#[test]
fn a_change_of_configuration_leaves_the_longer_stretch() {
    let bench = Bench::new();
    let first = events(&bench.sample(3, "", "small.mp4"));
    let second = events(&bench.make(
        "-f lavfi -i testsrc2=s=640x360:r=30:d=5 -f lavfi -i sine=880:r=48000:d=5 -c:v libx264 -g 30 -c:a aac large.mp4",
    ));
    let moved = second.into_iter().map(|event| {
        let later = |mut p: crest_core::codec::Packet| {
            (p.pts, p.dts) = (p.pts + ms(3000), p.dts + ms(3000));
            p
        };
        match event {
            MediaEvent::Video(p) => MediaEvent::Video(later(p)),
            MediaEvent::Audio(p) => MediaEvent::Audio(later(p)),
            config => config,
        }
    });
    let all: Vec<_> = first.into_iter().chain(moved).collect();
    let fragments = store(bench.dir.path(), &all);
    let clip = bench.path("clip.mp4");
    let made = cut(bench.dir.path(), &fragments, ms(2000), ms(6000), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
    assert_eq!(number(&clip, "v", "width"), 640.0);
    assert!(made.start >= ms(3000) && made.end >= ms(6000), "{made:?}");
    cut(bench.dir.path(), &fragments, ms(500), ms(3500), &clip).unwrap();
    assert_eq!(number(&clip, "v", "width"), 320.0);
}

#[test]
fn thumbnails_are_the_nearest_keyframe_at_most_1280_wide() {
    let bench = Bench::new();
    // Red, then green from the third second on; not square pixels.
    let file = bench.make(
        "-f lavfi -i color=red:s=1440x1080:r=10:d=6,drawbox=color=green:t=fill:enable='gte(t,3)',setsar=4/3 \
         -c:v libx264 -g 10 wide.mp4",
    );
    let fragments = store(bench.dir.path(), &events(&file));
    for (at, red) in [(2100, true), (4900, false)] {
        let out = bench.path("thumb.jpg");
        assert!(thumbnail(bench.dir.path(), &fragments, ms(at), &out).unwrap());
        assert_eq!((number(&out, "v", "width"), number(&out, "v", "height")), (1280.0, 720.0));
        let pixel = raw(&out, "-vf scale=1:1 -pix_fmt rgb24 -f rawvideo");
        assert_eq!(pixel[0] > pixel[1], red, "{pixel:?}");
    }
}

#[test]
fn nothing_stored_is_said() {
    let bench = Bench::new();
    let fragments = store(bench.dir.path(), &events(&bench.sample(2, "", "in.mp4")));
    let out = bench.path("clip.mp4");
    let root = bench.dir.path();
    assert_eq!(cut(root, &fragments, ms(60_000), ms(70_000), &out).unwrap_err().fault, Fault::NotFound);
    assert_eq!(cut(root, &[], ms(0), ms(1000), &out).unwrap_err().fault, Fault::NotFound);
    assert_eq!(cut(root, &fragments, ms(1000), ms(1000), &out).unwrap_err().fault, Fault::User);
    fs::remove_file(root.join(&fragments[0].object)).unwrap();
    assert_eq!(cut(root, &fragments, ms(0), ms(1000), &out).unwrap_err().fault, Fault::NotFound);
    assert!(!out.exists());
}
