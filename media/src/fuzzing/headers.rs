//! Decoder configurations and access units.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};

use crate::bitstream::{av1, h264, hevc, mp3, opus, sound, vpx};
use crate::coded::PictureHeaders;
use crate::file::is_random_access;
use crate::mp4::track::{Tracks, audio_timescale};
use crate::mp4::{entry, init, read};

/// A sequence parameter set, as a NAL unit.
pub fn sps(data: &[u8]) {
    let Some(found) = h264::parse(data) else { return };
    let sane = 1..=16_384;
    if let Some((width, height)) = found.size {
        assert!(sane.contains(&width) && sane.contains(&height), "{found:?}");
        assert!(found.coded.0 >= width && found.coded.1 >= height, "{found:?}");
    }
    assert!(found.references <= 16, "{found:?}");
    // What follows a set is not part of it.
    assert_eq!(h264::parse(&[data, &[0x80, 0, 0, 3]].concat()), Some(found));
}

/// A byte (bit 0: sound; bits 1 to 3: which codec), for sound the rate (4 bytes) and the channels (2), and the record.
pub fn decoder_config(data: &[u8]) {
    match data {
        [kind, r0, r1, r2, r3, c0, c1, record @ ..] if kind & 1 == 1 => audio(AudioConfig {
            codec: [AudioCodec::Aac, AudioCodec::Opus, AudioCodec::Mp3][usize::from(kind >> 1) % 3],
            record: Bytes::copy_from_slice(record),
            sample_rate: u32::from_be_bytes([*r0, *r1, *r2, *r3]),
            channels: u16::from_be_bytes([*c0, *c1]),
        }),
        [kind, record @ ..] if kind & 1 == 0 => video(VideoConfig {
            codec: VIDEO[usize::from(kind >> 1) % VIDEO.len()],
            record: Bytes::copy_from_slice(record),
            width: 0,
            height: 0,
        }),
        _ => {}
    }
}

const VIDEO: [VideoCodec; 5] = [VideoCodec::H264, VideoCodec::H265, VideoCodec::Av1, VideoCodec::Vp9, VideoCodec::Vp8];

/// A configuration that is taken can be written, and comes back as one that is taken.
fn video(config: VideoConfig) {
    // Whatever a record and a picture announce is read within their bounds.
    PictureHeaders::of(&config).within(&config.record);
    let config = entry::announced_size(config);
    let Ok(codec) = entry::video(&config) else { return };
    let Some(kept) = entry::video_config(&codec) else { panic!("an entry that is not read back") };
    assert_eq!((kept.codec, kept.width, kept.height), (config.codec, config.width, config.height));
    if config.codec == VideoCodec::H264 {
        assert_eq!(entry::h264(&kept.record), entry::h264(&config.record), "another parameter set");
    }
    let tracks = Tracks { video: Some(config), audio: None };
    assert_eq!(through_a_header(&tracks).video.as_ref(), Some(&kept));
    let again = entry::video(&kept).ok().and_then(|codec| entry::video_config(&codec));
    assert_eq!(again, Some(kept), "a kept record changes when it is kept again");
}

fn audio(config: AudioConfig) {
    let (samples, rate) = sound::frame(&config, &config.record);
    assert!(rate >= 1 && (1..=5760).contains(&samples));
    assert!(sound::frame_ticks(&config, &config.record, config.sample_rate.max(1)) >= 1);
    if config.record.is_empty() && config.codec == AudioCodec::Aac || entry::audio(&config).is_err() {
        // Nothing is not kept as nothing: two bytes of zeros stand for it.
        return;
    }
    let tracks = Tracks { video: None, audio: Some(config.clone()) };
    let Some(kept) = through_a_header(&tracks).audio else { panic!("an entry that is not read back") };
    let sample_rate = audio_timescale(&config);
    assert_eq!((kept.codec, kept.sample_rate, kept.channels), (config.codec, sample_rate, config.channels));
    match config.codec {
        AudioCodec::Aac => assert_eq!(kept.record, config.record),
        // What follows the tables is not kept.
        AudioCodec::Opus => assert!(config.record.starts_with(&kept.record)),
        AudioCodec::Mp3 => assert!(kept.record.is_empty()),
    }
    let again = through_a_header(&Tracks { video: None, audio: Some(kept.clone()) }).audio;
    assert_eq!(again, Some(kept), "a kept record changes when it is kept again");
}

fn through_a_header(tracks: &Tracks) -> Tracks {
    let header = match init::fragmented(tracks) {
        Ok(header) => header,
        Err(e) => panic!("a configuration that was taken cannot be written: {e}"),
    };
    read::parse_header(&header).unwrap_or_else(|e| panic!("a header that crest wrote cannot be read: {e}"))
}

/// A byte (bit 0: H.265; bits 1 and 2: bytes of a NAL length, less one; bits 3 and 4: AV1, VP9 or VP8 instead), and
/// the access unit.
pub fn access_unit(data: &[u8]) {
    let Some((kind, unit)) = data.split_first() else { return };
    let (nal, at) = if kind & 1 == 0 { (VideoCodec::H264, 4) } else { (VideoCodec::H265, 21) };
    let codec = [nal, VideoCodec::Av1, VideoCodec::Vp9, VideoCodec::Vp8][usize::from(kind >> 3 & 3)];
    let mut record = vec![0; 22];
    record[at] = kind >> 1 & 3;
    let config = VideoConfig { codec, record: Bytes::from(record), width: 0, height: 0 };
    let whole = is_random_access(&config, unit);
    // A place to start stays one, whatever follows it.
    assert!(whole || !is_random_access(&config, &unit[..unit.len() / 2]));
    // Only with what comes after the lengths there is something to start with.
    assert!(!whole || codec != nal || unit.len() > usize::from(kind >> 1 & 3) + 1);
    let (width, height) = entry::size_in(codec, unit).unwrap_or((1, 1));
    assert!((1..=16_384).contains(&width) && (1..=16_384).contains(&height), "{width}x{height}");
    headers(&Bytes::copy_from_slice(unit));
}

/// Headers that any bytes may be taken for.
fn headers(unit: &Bytes) {
    let without = av1::without_delimiters(unit);
    assert!(unit.ends_with(&without) && (!av1::is_chain(unit) || without.is_empty() || av1::is_chain(&without)));
    if let Some(record) = av1::record(unit) {
        assert!(av1::is_record(&record), "an AV1 record that is none");
        assert_eq!(av1::sequence(&av1::units_of(&record)), av1::sequence(unit));
    }
    for keyframe in [vpx::vp9(unit), vpx::vp8(unit)].into_iter().flatten() {
        assert_eq!(vpx::record(&keyframe.record()), Some(keyframe.record()), "a VP record that is none");
    }
    if let Some(record) = opus::record_of_head(unit) {
        assert!(opus::channels_of(&record).is_some_and(|channels| channels > 0), "an Opus record that is none");
    }
    if let Some(frame) = mp3::frame(unit) {
        assert!((8_000..=48_000).contains(&frame.sample_rate) && matches!(frame.samples, 576 | 1152));
    }
    if let Some((width, height)) = hevc::parse(unit).and_then(|sps| sps.size) {
        assert!((1..=16_384).contains(&width) && (1..=16_384).contains(&height), "{width}x{height}");
    }
}
