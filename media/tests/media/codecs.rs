//! Every codec that is kept: read from a file, stored, read back after a crash, decoded, and cut into a clip.

use crest_core::codec::{AudioCodec, MediaEvent, VideoCodec};
use crest_core::sample::AUDIO_RATE;
use crest_media::{AudioDecoder, KeyframeDecoder, cut, salvage, thumbnail};
use std::path::Path;
use std::sync::Arc;

use crate::support::{Bench, complaints, events, ms, number, probe, seconds, store};

/// Ten pictures a second, a keyframe each second, and a tone, for three seconds.
const SOURCES: &str = "-f lavfi -i testsrc2=s=160x120:r=10:d=3 -f lavfi -i sine=1000:r=48000:d=3";

struct Codec {
    options: &'static str,
    files: &'static [&'static str],
    video: (VideoCodec, &'static str),
    audio: (AudioCodec, &'static str),
}

const CODECS: [Codec; 6] = [
    Codec {
        options: "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10:min-keyint=10 -c:a aac",
        files: &["in.mp4", "in.mkv"],
        video: (VideoCodec::H265, "hevc"),
        audio: (AudioCodec::Aac, "aac"),
    },
    Codec {
        options: "-c:v libaom-av1 -cpu-used 8 -g 10 -c:a libopus",
        files: &["in.mp4", "in.mkv", "in.webm"],
        video: (VideoCodec::Av1, "av1"),
        audio: (AudioCodec::Opus, "opus"),
    },
    Codec {
        options: "-c:v libsvtav1 -preset 12 -g 10 -svtav1-params lp=1 -c:a libopus -ac 2",
        files: &["in.mp4", "in.webm"],
        video: (VideoCodec::Av1, "av1"),
        audio: (AudioCodec::Opus, "opus"),
    },
    Codec {
        options: "-c:v libvpx-vp9 -deadline good -cpu-used 8 -g 10 -c:a libopus",
        files: &["in.webm", "in.mp4"],
        video: (VideoCodec::Vp9, "vp9"),
        audio: (AudioCodec::Opus, "opus"),
    },
    Codec {
        options: "-c:v libvpx -deadline good -cpu-used 8 -g 10 -c:a libopus -frame_duration 60",
        files: &["in.webm"],
        video: (VideoCodec::Vp8, "vp8"),
        audio: (AudioCodec::Opus, "opus"),
    },
    Codec {
        options: "-c:v libx264 -preset ultrafast -g 10 -c:a libmp3lame",
        files: &["in.mkv", "in.mp4"],
        video: (VideoCodec::H264, "h264"),
        audio: (AudioCodec::Mp3, "mp3"),
    },
];

#[test]
fn every_codec_is_read_stored_decoded_and_cut() {
    for codec in &CODECS {
        for name in codec.files {
            let bench = Bench::new();
            let what = format!("{} in {name}", codec.options);
            let read = events(&bench.make(&format!("{SOURCES} {} {name}", codec.options)));
            announces(codec, &read, &what);
            let fragments = store(bench.dir.path(), &read);
            assert_eq!(fragments.len(), 3, "{what}");
            assert!(fragments.iter().all(|f| f.keyframe), "{what}");

            let file = bench.dir.path().join(&fragments[0].object);
            is_what_was_put_in(codec, &file, &read, &what);
            let mut found = salvage(bench.dir.path(), &fragments[0].object, 0).unwrap();
            for (found, fragment) in found.iter_mut().zip(&fragments) {
                assert!((found.end - fragment.end).nanos().abs() < 70_000_000, "{what}");
                (found.start, found.end) = (fragment.start, fragment.end);
            }
            assert_eq!(found, fragments, "{what}: what a crash left is found again");

            let (clip, picture) = (bench.path("clip.mp4"), bench.path("clip.jpg"));
            let span = cut(bench.dir.path(), &fragments, ms(1200), ms(2600), &clip).unwrap();
            assert_eq!(complaints(&clip), "", "{what}");
            for (kind, wanted) in [("v", codec.video.1), ("a", codec.audio.1)] {
                assert_eq!(probe(&clip, kind, "codec_name"), wanted, "{what}");
                let length = number(&clip, kind, "duration");
                assert!((length - seconds(span.end - span.start)).abs() < 0.1, "{what}: {kind} lasts {length} s");
            }
            // From the keyframe before, to the end of the frame that covers the end and of those decoded with it.
            let (start, end) = (seconds(span.start), seconds(span.end));
            assert!((start - 1.0).abs() < 0.15 && (2.55..3.1).contains(&end), "{what}: {span:?}");
            assert!(thumbnail(bench.dir.path(), &fragments, ms(1500), &picture).unwrap(), "{what}");
            assert_eq!((number(&picture, "v", "width"), number(&picture, "v", "height")), (160.0, 120.0), "{what}");
        }
    }
}

/// The configuration comes first and once, and says what it should.
fn announces(codec: &Codec, read: &[MediaEvent], what: &str) {
    let video = read.iter().filter_map(|event| match event {
        MediaEvent::VideoConfig(config) => Some((config.codec, config.width, config.height)),
        _ => None,
    });
    assert_eq!(video.collect::<Vec<_>>(), [(codec.video.0, 160, 120)], "{what}");
    let audio = read.iter().filter_map(|event| match event {
        MediaEvent::AudioConfig(config) => Some((config.codec, config.sample_rate)),
        _ => None,
    });
    assert_eq!(audio.collect::<Vec<_>>(), [(codec.audio.0, 48_000)], "{what}");
}

/// The stored file plays whole, and decodes to the pictures and the tone that went in.
fn is_what_was_put_in(codec: &Codec, file: &Path, read: &[MediaEvent], what: &str) {
    assert_eq!(complaints(file), "", "{what}");
    assert_eq!(number(file, "v", "nb_read_frames"), 30.0, "{what}");
    assert_eq!((number(file, "v", "width"), number(file, "v", "height")), (160.0, 120.0), "{what}");
    assert_eq!(probe(file, "a", "codec_name"), codec.audio.1, "{what}");

    let (mut pictures, mut keyframes) = (KeyframeDecoder::new().unwrap(), 0);
    let (mut video, mut sound, mut samples, mut crossings) = (None, None, 0, 0);
    for event in read {
        match event {
            MediaEvent::VideoConfig(config) => video = Some(Arc::new(config.clone())),
            MediaEvent::AudioConfig(config) => sound = Some(AudioDecoder::new(config).unwrap()),
            MediaEvent::Video(packet) if packet.keyframe => {
                let picture = pictures.decode(video.as_ref().unwrap(), packet).unwrap();
                let brightest = picture.rgb.iter().max().unwrap();
                assert!(*brightest > 200, "{what}: the picture is dark");
                keyframes += 1;
            }
            MediaEvent::Audio(packet) => {
                for pcm in sound.as_mut().unwrap().push(packet).unwrap() {
                    samples += pcm.samples.len();
                    crossings += pcm.samples.windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count();
                }
            }
            MediaEvent::Video(_) => {}
        }
    }
    assert_eq!(keyframes, 3, "{what}");
    let length = samples as f64 / f64::from(AUDIO_RATE);
    assert!((2.8..3.2).contains(&length), "{what}: {length} s of sound");
    // A tone of 1 kHz crosses zero 2000 times a second.
    assert!((5700..6300).contains(&crossings), "{what}: {crossings}");
}

#[test]
fn sizes_that_only_keyframes_say_are_found_and_followed() {
    for (options, name) in
        [("libvpx", "vp8.webm"), ("libvpx-vp9 -cpu-used 8", "vp9.webm"), ("libaom-av1 -cpu-used 8", "av1.mkv")]
    {
        let bench = Bench::new();
        let make = |size: &str| {
            events(
                &bench.make(&format!("-f lavfi -i testsrc2=s={size}:r=10:d=2 -c:v {options} -g 10 -an {size}-{name}")),
            )
        };
        let (small, large) = (make("160x120"), make("320x240"));
        let later = large.into_iter().filter_map(|event| match event {
            MediaEvent::Video(mut packet) => {
                (packet.pts, packet.dts) = (packet.pts + ms(2000), packet.dts + ms(2000));
                Some(MediaEvent::Video(packet))
            }
            _ => None,
        });
        // As over RTMP: nothing but the record is announced, and that once; and sound may come before the picture.
        let sound = events(&bench.make("-f lavfi -i sine=440:r=48000:d=1 -c:a libopus -vn sound.webm"));
        let (first, rest) = small.split_at(1);
        let all: Vec<_> = first
            .iter()
            .chain(&sound[..2])
            .chain(rest)
            .cloned()
            .map(|event| match event {
                MediaEvent::VideoConfig(mut config) => {
                    (config.width, config.height) = (0, 0);
                    if config.codec == VideoCodec::Av1 {
                        config.record = config.record.slice(..4);
                    }
                    MediaEvent::VideoConfig(config)
                }
                event => event,
            })
            .chain(later)
            .collect();
        let fragments = store(bench.dir.path(), &all);
        let mut objects: Vec<_> = fragments.iter().map(|f| f.object.clone()).collect();
        objects.dedup();
        let sizes: Vec<_> = objects
            .iter()
            .map(|object| bench.dir.path().join(object))
            .map(|file| {
                (number(&file, "v", "width"), number(&file, "v", "height"), number(&file, "v", "nb_read_frames"))
            })
            .collect();
        assert_eq!(sizes, [(160.0, 120.0, 20.0), (320.0, 240.0, 20.0)], "{name}");
    }
}

#[test]
fn broken_keyframes_have_no_picture_and_spoil_nothing() {
    for (options, name) in
        [("libvpx", "vp8.webm"), ("libvpx-vp9 -cpu-used 8", "vp9.webm"), ("libaom-av1 -cpu-used 8", "av1.mkv")]
    {
        let bench = Bench::new();
        let read =
            events(&bench.make(&format!("-f lavfi -i testsrc2=s=160x120:r=10:d=2 -c:v {options} -g 10 -an {name}")));
        let config = read.iter().find_map(|event| match event {
            MediaEvent::VideoConfig(config) => Some(Arc::new(config.clone())),
            _ => None,
        });
        let config = config.unwrap();
        let packets: Vec<_> = read
            .iter()
            .filter_map(|event| match event {
                MediaEvent::Video(packet) => Some(packet.clone()),
                _ => None,
            })
            .collect();
        let mut decoder = KeyframeDecoder::new().unwrap();
        let good = decoder.decode(&config, &packets[0]).unwrap();
        let noise: Vec<u8> = (0..2000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bad in [noise.into(), bytes::Bytes::new(), packets[0].data.slice(..9), packets[1].data.clone()] {
            let bad = crest_core::codec::Packet { data: bad, ..packets[0].clone() };
            assert!(decoder.decode(&config, &bad).is_err(), "{name}");
            assert_eq!(decoder.decode(&config, &packets[0]).unwrap(), good, "{name}");
        }
    }
}
