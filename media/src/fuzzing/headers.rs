//! Decoder configurations and access units.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};

use crate::coded::PictureHeaders;
use crate::file::is_random_access;
use crate::mp4::track::Tracks;
use crate::mp4::{aac, entry, init, read, sps};

/// A sequence parameter set, as a NAL unit.
pub fn sps(data: &[u8]) {
    let Some(found) = sps::parse(data) else { return };
    let sane = 1..=16_384;
    if let Some((width, height)) = found.size {
        assert!(sane.contains(&width) && sane.contains(&height), "{found:?}");
        assert!(found.coded.0 >= width && found.coded.1 >= height, "{found:?}");
    }
    assert!(found.references <= 16, "{found:?}");
    // What follows a set is not part of it.
    assert_eq!(sps::parse(&[data, &[0x80, 0, 0, 3]].concat()), Some(found));
}

/// A byte (bit 0: sound; bit 1: H.265), for sound the rate (4 bytes) and the channels (2), and the record.
pub fn decoder_config(data: &[u8]) {
    match data {
        [kind, r0, r1, r2, r3, c0, c1, record @ ..] if kind & 1 == 1 => audio(AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::copy_from_slice(record),
            sample_rate: u32::from_be_bytes([*r0, *r1, *r2, *r3]),
            channels: u16::from_be_bytes([*c0, *c1]),
        }),
        [kind, record @ ..] if kind & 1 == 0 => video(VideoConfig {
            codec: if kind & 2 == 0 { VideoCodec::H264 } else { VideoCodec::H265 },
            record: Bytes::copy_from_slice(record),
            width: 0,
            height: 0,
        }),
        _ => {}
    }
}

/// A configuration that is taken can be written, and comes back as one that is taken.
fn video(config: VideoConfig) {
    // Whatever a record and a picture announce is read within their bounds.
    PictureHeaders::of(&config).within(&config.record);
    let config = entry::with_dimensions(config);
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
    let (samples, rate) = aac::frame(&config);
    assert!(rate >= 1 && matches!(samples, 960 | 1024));
    assert!(aac::frame_ticks(&config, config.sample_rate.max(1)) >= 1);
    if config.record.is_empty() {
        // Nothing is not kept as nothing: two bytes of zeros stand for it.
        return;
    }
    let sample_rate = config.sample_rate.max(1);
    let tracks = Tracks { video: None, audio: Some(config.clone()) };
    assert_eq!(through_a_header(&tracks).audio, Some(AudioConfig { sample_rate, ..config }));
}

fn through_a_header(tracks: &Tracks) -> Tracks {
    let header = match init::fragmented(tracks) {
        Ok(header) => header,
        Err(e) => panic!("a configuration that was taken cannot be written: {e}"),
    };
    read::parse_header(&header).unwrap_or_else(|e| panic!("a header that crest wrote cannot be read: {e}"))
}

/// A byte (bit 0: H.265; bits 1 and 2: bytes of a NAL length, less one), and the access unit.
pub fn access_unit(data: &[u8]) {
    let Some((kind, unit)) = data.split_first() else { return };
    let (codec, at) = if kind & 1 == 0 { (VideoCodec::H264, 4) } else { (VideoCodec::H265, 21) };
    let mut record = vec![0; 22];
    record[at] = kind >> 1 & 3;
    let config = VideoConfig { codec, record: Bytes::from(record), width: 0, height: 0 };
    let whole = is_random_access(&config, unit);
    // A place to start stays one, whatever follows it.
    assert!(whole || !is_random_access(&config, &unit[..unit.len() / 2]));
    // Only with what comes after the lengths there is something to start with.
    assert!(!whole || unit.len() > usize::from(kind >> 1 & 3) + 1);
}
