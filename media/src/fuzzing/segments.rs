//! Segment files: damaged ones are read, and what was written comes back.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};
use crest_core::segment::Fragment;
use crest_core::units::Span;
use crest_core::{Fault, MediaTime, OrganizationId, Session, StreamId};
use std::path::Path;

use super::Folder;
use crate::mp4::read::Located;
use crate::mp4::track::{VIDEO_TIMESCALE, time};
use crate::{Segmenter, SegmenterConfig, clip, source};

const OBJECT: &str = "segment.mp4";

fn fragment(header_bytes: u64, offset: u64, bytes: u64, start: i64) -> Fragment {
    Fragment {
        organization_id: OrganizationId::from_raw("org_f"),
        stream_id: StreamId::from_raw("str_f"),
        session: Session::new(1),
        object: OBJECT.to_owned(),
        header_bytes,
        offset,
        bytes,
        start: MediaTime::from_millis(start),
        end: MediaTime::from_millis(start + 5000),
        keyframe: true,
    }
}

/// What the index says of a file (bytes of its header, where the first fragment begins and how long it is:
/// 2 bytes each; a second one follows it up to the end), and the file.
pub fn segment_file(data: &[u8]) {
    let Some((&[h0, h1, o0, o1, b0, b1], file)) = data.split_first_chunk::<6>() else { return };
    let [header, offset, bytes] = [[h0, h1], [o0, o1], [b0, b1]].map(|pair| u64::from(u16::from_be_bytes(pair)));
    let folder = Folder::new();
    write(&folder.path().join(OBJECT), file);
    let rest = (file.len() as u64).saturating_sub(offset + bytes);
    let fragments = [fragment(header, offset, bytes, 0), fragment(header, offset + bytes, rest, 5000)];
    let out = folder.path().join("clip.mp4");
    match clip::cut(folder.path(), &fragments, MediaTime::ZERO, MediaTime::from_millis(10_000), &out) {
        Ok(cut) => {
            let clip = std::fs::read(&out).unwrap_or_default();
            assert_eq!(clip.len() as u64, cut.bytes, "a clip of another size");
            assert_eq!(clip.get(4..8), Some(&b"ftyp"[..]), "a clip that does not begin with its header");
        }
        Err(e) => {
            assert_ne!(e.fault, Fault::Ours, "a damaged file is not crest's fault: {e}");
            assert!(!out.exists(), "a clip that failed is there");
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Two fragments in a file, and what the index says of it, as [`segment_file`] reads them.
#[cfg(test)]
pub(super) fn stored() -> ([u8; 6], Vec<u8>) {
    let folder = Folder::new();
    let ids = (OrganizationId::from_raw("org_f"), StreamId::from_raw("str_f"));
    let mut segmenter = Segmenter::new(folder.path(), ids.0, ids.1, Session::new(1), SegmenterConfig::default());
    let record = Bytes::from_static(&[0x11, 0x90]);
    let video = VideoConfig { codec: VideoCodec::H264, record: avcc(31), width: 0, height: 0 };
    let audio = AudioConfig { codec: AudioCodec::Aac, record, sample_rate: 48_000, channels: 2 };
    let mut events = vec![MediaEvent::VideoConfig(video), MediaEvent::AudioConfig(audio)];
    for frame in 0..8 {
        let packet = |millis: i64, data: &'static [u8]| Packet {
            pts: MediaTime::from_millis(millis + 40),
            dts: MediaTime::from_millis(millis),
            keyframe: frame % 4 == 0,
            data: Bytes::from_static(data),
        };
        events.push(MediaEvent::Video(packet(frame * 1000, &[0, 0, 0, 2, 0x65, 0x88])));
        events.push(MediaEvent::Audio(packet(frame * 1000, &[1, 2, 3])));
    }
    let mut fragments = Vec::new();
    for event in &events {
        fragments.extend(segmenter.push(event).unwrap_or_default());
    }
    fragments.extend(segmenter.finish().unwrap_or_default());
    let [first, _] = &fragments[..] else { panic!("{} fragments instead of two", fragments.len()) };
    let [header, offset, bytes] = [first.header_bytes, first.offset, first.bytes].map(|n| (n as u16).to_be_bytes());
    let index = [header[0], header[1], offset[0], offset[1], bytes[0], bytes[1]];
    let file = std::fs::read(folder.path().join(&first.object)).unwrap_or_default();
    (index, file)
}

/// A minimal `avcC` record: one SPS, one PPS; the level tells configurations apart.
fn avcc(level: u8) -> Bytes {
    let sps = [0x67, 0x64, 0, level, 0xac, 0xd9, 0x41, 0x41, 0xfb, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0xc0];
    let head = [1, 0x64, 0, level, 0xff, 0xe1, 0, 21];
    [&head[..], &sps, &[1, 0, 4, 0x68, 0xee, 0x3c, 0x80, 0xfd, 0xf8, 0xf8, 0]].concat().into()
}

/// How far apart the times of a session may be that is checked in full; beyond, only that nothing breaks.
const SESSION: i64 = 3 * 3600 * 1_000_000_000;

/// Events of one session, 9 bytes each: what it is, decoding time (4 bytes and a power of two to multiply it
/// with, in nanoseconds), composition offset (2 bytes, milliseconds), size.
pub fn segmenter(data: &[u8]) {
    let folder = Folder::new();
    let config = SegmenterConfig { fragment: Span::secs(1), fragment_bytes: 2000, segment: Span::secs(3) };
    let (organization, stream) = (OrganizationId::from_raw("org_f"), StreamId::from_raw("str_f"));
    let mut segmenter = Segmenter::new(folder.path(), organization, stream, Session::new(1), config);
    let mut run = Run { root: folder.path(), given: Default::default(), plausible: plausible(data) };
    let (mut picture, mut sound) = (false, false);
    for (index, record) in data.as_chunks::<9>().0.iter().take(200).enumerate() {
        let &[kind, .., c0, c1, size] = record;
        let dts = MediaTime::from_nanos(decoding(record));
        let composition = i64::from(i16::from_be_bytes([c0, c1]));
        let mut payload = (index as u32).to_be_bytes().to_vec();
        payload.resize(4 + usize::from(size), 0xee);
        let packet = Packet {
            dts,
            pts: dts + MediaTime::from_millis(composition),
            keyframe: kind & 0x10 == 0,
            data: payload.into(),
        };
        let event = match kind & 7 {
            0 => {
                picture = true;
                MediaEvent::VideoConfig(VideoConfig {
                    codec: VideoCodec::H264,
                    record: avcc(size),
                    width: 0,
                    height: 0,
                })
            }
            1 => {
                sound = true;
                MediaEvent::AudioConfig(AudioConfig {
                    codec: AudioCodec::Aac,
                    record: Bytes::from_static(&[0x11, 0x90]),
                    sample_rate: [48_000, 44_100, 7_350, 96_000, 1, 192_000, 0, u32::MAX][usize::from(size & 7)],
                    channels: 2,
                })
            }
            2..=4 => {
                if picture {
                    run.given[0].push(packet.clone());
                }
                MediaEvent::Video(packet)
            }
            _ => {
                if sound {
                    run.given[1].push(packet.clone());
                }
                MediaEvent::Audio(packet)
            }
        };
        run.closed(segmenter.push(&event));
    }
    run.closed(segmenter.finish());
    let left = run.given.concat().len();
    assert!(left == 0 || !run.plausible, "{left} packets were not stored");
}

/// Decoding time of an event.
fn decoding(record: &[u8; 9]) -> i64 {
    let &[_, t0, t1, t2, t3, power, ..] = record;
    i64::from(i32::from_be_bytes([t0, t1, t2, t3])).saturating_mul(1 << (power & 31))
}

/// Whether a timeline could give such times, and a feed such a rate.
fn plausible(data: &[u8]) -> bool {
    let events = || data.as_chunks::<9>().0.iter().take(200);
    let times = || events().filter(|event| event[0] & 7 > 1).map(decoding);
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    last.saturating_sub(first) < SESSION && first.abs() < SESSION && !events().any(|e| e[0] & 7 == 1 && e[8] & 7 == 7)
}

struct Run<'a> {
    root: &'a Path,
    /// What was given and not yet read back: pictures, sound.
    given: [Vec<Packet>; 2],
    plausible: bool,
}

impl Run<'_> {
    fn closed(&mut self, fragments: crest_core::Result<Vec<Fragment>>) {
        if !self.plausible {
            return;
        }
        let fragments = fragments.unwrap_or_else(|e| panic!("what was given cannot be stored: {e}"));
        for fragment in fragments {
            let runs = source::runs(self.root, std::slice::from_ref(&fragment));
            let runs = runs.unwrap_or_else(|e| panic!("a fragment that was written cannot be read: {e}"));
            for piece in runs.iter().flat_map(|run| &run.pieces) {
                let scale = piece.file.tracks.audio_timescale();
                for (track, units, scale) in [(0, &piece.index.video, VIDEO_TIMESCALE), (1, &piece.index.audio, scale)]
                {
                    rising(units);
                    for unit in units {
                        let packet = self.given[track].remove(0);
                        let data = piece.file.read(unit.offset, u64::from(unit.size), 1 << 20);
                        assert_eq!(data.unwrap_or_default(), packet.data, "another packet, or in another order");
                        assert!(unit.timing.keyframe == packet.keyframe || track == 1);
                        assert!((fragment.start..=fragment.end).contains(&packet.pts), "outside its fragment");
                        // One tick of rounding, and what sound is moved to lie on its grid.
                        let near = 1_000_000_000 / i64::from(scale.max(1)) + 3_000_001;
                        let moved = (time(unit.timing.pts, scale) - packet.pts).nanos().saturating_abs();
                        assert!(moved <= near, "a packet was moved by {moved} ns");
                    }
                }
            }
        }
    }
}

fn rising(units: &[Located]) {
    for pair in units.windows(2) {
        let [before, after] = [pair[0].timing, pair[1].timing];
        assert!(after.dts > before.dts, "decoding times do not rise");
        assert_eq!(
            i128::from(after.dts) - i128::from(before.dts),
            i128::from(before.duration),
            "a gap within a fragment"
        );
    }
}
