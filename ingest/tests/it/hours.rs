//! Eight hours of a publisher's times, from its RTMP tags into the stored files: picture and sound stay as far apart as
//! the source had them.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_core::units::Span;
use crest_core::{OrganizationId, Session, StreamId};
use crest_ingest::rtmp::flv::{Chosen, TagKind, TagParser};
use crest_ingest::timeline::{Timeline, Track};
use crest_media::{FileReader, Segmenter, SegmenterConfig};
use std::path::{Path, PathBuf};
use std::process::Command;

const HOURS: i64 = 8;
/// Sound and picture may come apart by so much, in seconds: 20 ms are promised, rounding takes less.
const APART: f64 = 0.006;
/// Seconds of a frame at 29.97 frames a second, and of AAC at 44.1 kHz: neither is a whole number of RTMP's
/// milliseconds.
const PICTURE: f64 = 1001.0 / 30_000.0;
const SOUND: f64 = 1024.0 / 44_100.0;
/// A keyframe every two seconds.
const GROUP: u64 = 60;

/// What heads the tracks, as ffmpeg encodes such a source.
fn configurations(folder: &Path) -> (Bytes, Bytes) {
    let path = folder.join("source.mp4");
    let source = "-v error -nostdin -f lavfi -i testsrc2=s=64x36:r=30000/1001:d=1 -f lavfi -i sine=440:r=44100:d=1";
    let codecs = "-c:v libx264 -preset ultrafast -c:a aac";
    let arguments = source.split(' ').chain(codecs.split(' '));
    assert!(Command::new("ffmpeg").args(arguments).arg(&path).status().unwrap().success());
    let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
    let (mut video, mut audio) = (None, None);
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            MediaEvent::VideoConfig(config) => video = Some(config.record),
            MediaEvent::AudioConfig(config) => audio = Some(config.record),
            MediaEvent::Video(_) | MediaEvent::Audio(_) => {}
        }
    }
    (video.unwrap(), audio.unwrap())
}

/// A publisher whose clock says `start` milliseconds first, all the way to the segment files, in order.
fn stored(root: &Path, start: u32) -> Vec<PathBuf> {
    let (organization, stream) = (OrganizationId::from_raw("org_t"), StreamId::from_raw("str_t"));
    // Only little of it is read back, and each fragment costs time.
    let config = SegmenterConfig { fragment: Span::secs(60), ..SegmenterConfig::default() };
    let mut segmenter = Segmenter::new(root, organization, stream, Session::new(1), config);
    let (mut parser, mut timeline) = (TagParser::new(1 << 20, Chosen::default()), Timeline::default());
    let mut files: Vec<PathBuf> = Vec::new();
    let mut send = |kind: TagKind, seconds: f64, parts: &[&[u8]]| {
        let timestamp = start.wrapping_add((seconds * 1000.0).round() as u32);
        for event in parser.read(kind, timestamp, &parts.concat().into()).unwrap() {
            let placed = match event {
                MediaEvent::Video(packet) => MediaEvent::Video(timeline.place(Track::Video, packet)),
                MediaEvent::Audio(packet) => MediaEvent::Audio(timeline.place(Track::Audio, packet)),
                configuration => configuration,
            };
            for fragment in segmenter.push(&placed).unwrap() {
                let path = root.join(&fragment.object);
                if files.last() != Some(&path) {
                    files.push(path);
                }
            }
        }
    };
    let (video, audio) = configurations(root);
    send(TagKind::Video, 0.0, &[&[0x17, 0, 0, 0, 0], &video]);
    send(TagKind::Audio, 0.0, &[&[0xaf, 0], &audio]);
    let (mut pictures, mut sounds) = (0_u64, 0_u64);
    let end = (HOURS * 3600) as f64;
    while pictures as f64 * PICTURE < end {
        if pictures as f64 * PICTURE <= sounds as f64 * SOUND {
            let (frame, unit) = if pictures % GROUP == 0 { (0x17, 0x65) } else { (0x27, 0x41) };
            // Shown two frames after it is decoded, as with B-frames.
            let later = (2.0 * PICTURE * 1000.0).round() as u8;
            let number = pictures.to_be_bytes();
            send(TagKind::Video, pictures as f64 * PICTURE, &[&[frame, 1, 0, 0, later, 0, 0, 0, 9, unit], &number]);
            pictures += 1;
        } else {
            send(TagKind::Audio, sounds as f64 * SOUND, &[&[0xaf, 1], &sounds.to_be_bytes()]);
            sounds += 1;
        }
    }
    files
}

/// How far the packets of a file's track lie from where the source had them, in seconds: the least and the most. The
/// last bytes of each say its number; it was shown `shown` after it was decoded.
fn strays(file: &Path, track: &str, step: f64, shown: f64) -> (f64, f64) {
    let run = Command::new("ffprobe")
        .args(["-v", "quiet", "-select_streams", track, "-show_entries", "packet=pts_time,size,pos", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let (bytes, text) = (std::fs::read(file).unwrap(), String::from_utf8(run.stdout).unwrap());
    let mut found = (f64::MAX, f64::MIN);
    let mut count = 0;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let at: f64 = fields[0].parse().unwrap();
        let end = fields[1].parse::<usize>().unwrap() + fields[2].parse::<usize>().unwrap();
        let number = u64::from_be_bytes(bytes[end - 8..end].try_into().unwrap());
        let stray = at - (number as f64 * step + shown);
        found = (found.0.min(stray), found.1.max(stray));
        count += 1;
    }
    assert!(f64::from(count) * step > 50.0, "{count} packets of {track} in {}", file.display());
    found
}

#[test]
fn eight_hours_from_tags_to_files_leave_sound_and_picture_together() {
    crest_media::init().unwrap();
    // The publisher's clock passes the limit of its 32 bits after four hours.
    let folder = tempfile::tempdir().unwrap();
    let files = stored(folder.path(), u32::MAX - 4 * 3_600_000);
    assert!(files.len() >= 475, "{} files", files.len());
    let mut all = (f64::MAX, f64::MIN);
    // The last is not closed yet.
    for file in files[..files.len() - 1].iter().step_by(14) {
        let video = strays(file, "v", PICTURE, 2.0 * PICTURE);
        let audio = strays(file, "a", SOUND, 0.0);
        let apart = (video.1 - audio.0).max(audio.1 - video.0);
        assert!(apart <= APART, "{apart} s apart in {}", file.display());
        all = (all.0.min(video.0).min(audio.0), all.1.max(video.1).max(audio.1));
    }
    // Nor does the one drift with the other.
    assert!(all.1 - all.0 <= APART, "{all:?}");
}
