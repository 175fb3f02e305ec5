//! Enhanced RTMP and MP3: tags as OBS and ffmpeg send them, and as they should not.
#![allow(clippy::unwrap_used)]

use super::*;
use crest_core::codec::{AudioCodec, Packet, VideoCodec};

/// A minimal `hvcC` record: one parameter set of each kind, four-byte lengths.
fn hvcc() -> Vec<u8> {
    let set = |kind: u8| [&[0x80 | kind, 0, 1, 0, 3][..], &[kind << 1, 1, 0xaa]].concat();
    let mut head = vec![1; 1];
    head.extend([0; 20]);
    head.extend([0x0f, 3]);
    [head, set(32), set(33), set(34)].concat()
}

const AV1C: [u8; 16] = [0x81, 0, 0x0c, 0, 0x0a, 0x0a, 0, 0, 0, 3, 0xb4, 0xff, 0x73, 0x6b, 0xe4, 1];
const VPCC: [u8; 12] = [1, 0, 0, 0, 0, 10, 0x82, 1, 1, 1, 0, 0];
const HEAD: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
const MP3: [u8; 6] = [0xff, 0xfb, 0x90, 0, 1, 2];

fn parser() -> TagParser {
    TagParser::new(1000, Chosen::default())
}

fn body(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

fn all(parser: &mut TagParser, kind: TagKind, timestamp: u32, parts: &[&[u8]]) -> Result<Vec<MediaEvent>, Skip> {
    Ok(parser.read(kind, timestamp, &body(parts))?.into_iter().collect())
}

fn picture(parser: &mut TagParser, timestamp: u32, parts: &[&[u8]]) -> Packet {
    match all(parser, TagKind::Video, timestamp, parts).as_deref() {
        Ok([MediaEvent::Video(packet)]) => packet.clone(),
        other => panic!("{other:?} instead of a picture"),
    }
}

fn sound(parser: &mut TagParser, timestamp: u32, parts: &[&[u8]]) -> Packet {
    match all(parser, TagKind::Audio, timestamp, parts).as_deref() {
        Ok([MediaEvent::Audio(packet)]) => packet.clone(),
        other => panic!("{other:?} instead of sound"),
    }
}

/// How a codec is named, the codec, a record, and an access unit.
type Case<'a> = (&'a [u8; 4], VideoCodec, &'a [u8], &'a [u8]);

#[test]
fn every_codec_has_its_configuration_and_its_packets() {
    let hvcc = hvcc();
    let nal = [0, 0, 0, 3, 0x26, 1, 0xaa];
    let obu = [0x32, 2, 0x10, 0];
    let frame = [0x82, 1, 2, 3];
    let cases: [Case<'_>; 4] = [
        (b"hvc1", VideoCodec::H265, &hvcc, &nal),
        (b"av01", VideoCodec::Av1, &AV1C, &obu),
        (b"vp09", VideoCodec::Vp9, &VPCC, &frame),
        (b"vp08", VideoCodec::Vp8, &VPCC, &frame),
    ];
    for (four, codec, record, unit) in cases {
        let mut parser = parser();
        assert_eq!(all(&mut parser, TagKind::Video, 0, &[&[0x93], four, unit]), Err(Skip::NoConfiguration));
        let events = all(&mut parser, TagKind::Video, 0, &[&[0x90], four, record]).unwrap();
        let [MediaEvent::VideoConfig(config)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((config.codec, config.record.as_ref()), (codec, record));
        assert_eq!(all(&mut parser, TagKind::Video, 0, &[&[0x90], four, record]), Err(Skip::NotMedia), "a repetition");
        let key = picture(&mut parser, 40, &[&[0x93], four, unit]);
        assert_eq!((key.keyframe, key.dts, key.pts), (true, MediaTime::from_millis(40), MediaTime::from_millis(40)));
        assert_eq!(key.data.as_ref(), unit);
        let inter = if codec == VideoCodec::H265 {
            // Only H.264 and H.265 have a composition time.
            picture(&mut parser, 80, &[&[0xa1], four, &[0, 0, 40], unit])
        } else {
            picture(&mut parser, 80, &[&[0xa1], four, unit])
        };
        let late = if codec == VideoCodec::H265 { 120 } else { 80 };
        assert_eq!((inter.keyframe, inter.pts), (false, MediaTime::from_millis(late)));
        for (first, skip) in
            [(0x92, Skip::NotMedia), (0x94, Skip::NotMedia), (0x95, Skip::TransportStream), (0x98, Skip::Malformed)]
        {
            assert_eq!(all(&mut parser, TagKind::Video, 80, &[&[first], four, unit]), Err(skip), "{first:#x}");
        }
        assert_eq!(all(&mut parser, TagKind::Video, 80, &[&[0x93], four]), Err(Skip::Empty));
        for length in 0..record.len().min(8) {
            let torn = all(&mut parser, TagKind::Video, 0, &[&[0x90], four, &record[..length]]);
            // What an `av1C` begins with is enough.
            assert!(torn == Err(Skip::Malformed) || codec == VideoCodec::Av1 && length >= 4, "{four:?}: {length}");
        }
    }
    assert_eq!(all(&mut parser(), TagKind::Video, 0, &[b"\x90vvc1...."]), Err(Skip::UnsupportedCodec));
    assert_eq!(all(&mut parser(), TagKind::Video, 0, &[b"\x90hv"]), Err(Skip::Truncated));
    assert_eq!(all(&mut parser(), TagKind::Video, 0, &[b"\xd1\x00"]), Err(Skip::NotMedia), "a command");
}

#[test]
fn temporal_delimiters_are_left_out() {
    let mut parser = parser();
    assert!(all(&mut parser, TagKind::Video, 0, &[b"\x90av01", &AV1C]).is_ok());
    let packet = picture(&mut parser, 0, &[b"\x91av01", &[0x12, 0, 0x32, 2, 0x10, 0]]);
    assert_eq!(packet.data.as_ref(), [0x32, 2, 0x10, 0]);
    assert_eq!(all(&mut parser, TagKind::Video, 0, &[b"\x91av01", &[0x12, 0]]), Err(Skip::Empty));
    assert_eq!(all(&mut parser, TagKind::Video, 0, &[b"\x91av01", &[0x32, 9, 0x10]]), Err(Skip::Malformed));
}

#[test]
fn sound_of_every_codec() {
    let mut parser = parser();
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x91Opus", &[0xf8, 1]]), Err(Skip::NoConfiguration));
    let events = all(&mut parser, TagKind::Audio, 0, &[b"\x90Opus", HEAD]).unwrap();
    let [MediaEvent::AudioConfig(config)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((config.codec, config.sample_rate, config.channels), (AudioCodec::Opus, 48_000, 2));
    assert_eq!(config.record.as_ref(), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
    assert_eq!(sound(&mut parser, 20, &[b"\x91Opus", &[0xf8, 1]]).data.as_ref(), [0xf8, 1]);
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x90Opus", &HEAD[..12]]), Err(Skip::Malformed));
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x92Opus"]), Err(Skip::NotMedia));
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x94Opus", &[0, 2]]), Err(Skip::NotMedia), "channel order");
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x91fLaC", &[1]]), Err(Skip::UnsupportedCodec));

    let events = all(&mut parser, TagKind::Audio, 40, &[b"\x90mp4a", &[0x11, 0x90]]).unwrap();
    assert!(
        matches!(&events[..], [MediaEvent::AudioConfig(c)] if c.codec == AudioCodec::Aac && c.sample_rate == 48_000)
    );
    assert_eq!(sound(&mut parser, 60, &[b"\x91mp4a", &[1, 2]]).data.as_ref(), [1, 2]);

    // MP3 comes without a configuration: its first frame says it, in old tags and in new ones.
    for head in [&b"\x91.mp3"[..], &[0x2f], &[0xe2]] {
        let mut parser = self::parser();
        let events = all(&mut parser, TagKind::Audio, 80, &[head, &MP3]).unwrap();
        let [MediaEvent::AudioConfig(config), MediaEvent::Audio(packet)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((config.codec, config.sample_rate, config.channels), (AudioCodec::Mp3, 44_100, 2));
        assert_eq!(packet.data.as_ref(), MP3);
        assert_eq!(sound(&mut parser, 106, &[head, &MP3]).dts, MediaTime::from_millis(106), "told once");
        let mono = all(&mut parser, TagKind::Audio, 132, &[head, &[0xff, 0xfb, 0x90, 0xc0]]).unwrap();
        assert_eq!(mono.len(), 2, "and again when it changes");
    }
}

#[test]
fn of_several_tracks_one_is_taken_and_the_others_are_named() {
    let many = |size: u8, track: u8, data: &[u8]| [&[track, 0, 0, size][..], data].concat();
    // Many tracks of one codec, the wanted one second.
    let message = [b"\x95\x11Opus".to_vec(), many(2, 3, &[9, 9]), many(3, 0, &[0xf8, 1, 2])].concat();
    let mut parser = parser();
    assert!(all(&mut parser, TagKind::Audio, 0, &[b"\x95\x00Opus\0", HEAD]).is_ok(), "one track, numbered");
    assert_eq!(sound(&mut parser, 20, &[&message]).data.as_ref(), [0xf8, 1, 2]);
    assert_eq!(parser.passed_by(), [(TagKind::Audio, 3)]);
    assert_eq!(sound(&mut parser, 40, &[&message]).data.len(), 3);
    assert_eq!(parser.passed_by(), [], "named once");
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x95\x01Opus\x01", &[0xf8, 1]]), Err(Skip::OtherTrack));
    assert_eq!(parser.passed_by(), [(TagKind::Audio, 1)]);
    // Many codecs.
    let message = [b"\x95\x21".to_vec(), b"fLaC".to_vec(), many(1, 1, &[7]), b"Opus".to_vec(), many(2, 0, &[0xf8, 5])];
    assert_eq!(sound(&mut parser, 60, &[&message.concat()]).data.as_ref(), [0xf8, 5]);
    for (torn, skip) in [
        (&b"\x95\x11Opus\0\0\0\x09\xf8"[..], Skip::Truncated),
        (b"\x95\x15Opus\0\0\0\x01\xf8", Skip::Malformed),
        (b"\x95\x31Opus\0\xf8", Skip::Malformed),
        (b"\x95\x11Opus", Skip::OtherTrack),
        (b"\x95", Skip::Truncated),
    ] {
        assert_eq!(all(&mut parser, TagKind::Audio, 0, &[torn]), Err(skip), "{torn:?}");
    }
    // Pictures.
    assert!(all(&mut parser, TagKind::Video, 0, &[b"\x96\x00vp09\0", &VPCC]).is_ok());
    assert_eq!(picture(&mut parser, 0, &[b"\x96\x03vp09\0", &[0x82, 1]]).data.as_ref(), [0x82, 1]);
    assert_eq!(all(&mut parser, TagKind::Video, 0, &[b"\x96\x03vp09\x01", &[0x82]]), Err(Skip::OtherTrack));
    assert_eq!(parser.passed_by(), [(TagKind::Video, 1)]);
}

#[test]
fn another_track_can_be_chosen() {
    let mut parser = TagParser::new(1000, Chosen { video: 0, audio: 1 });
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[b"\x90Opus", HEAD]), Err(Skip::OtherTrack));
    assert_eq!(all(&mut parser, TagKind::Audio, 0, &[&[0xaf, 0, 0x11, 0x90]]), Err(Skip::OtherTrack));
    assert_eq!(parser.passed_by(), [(TagKind::Audio, 0)]);
    assert!(all(&mut parser, TagKind::Audio, 0, &[b"\x95\x00Opus\x01", HEAD]).is_ok());
    assert_eq!(sound(&mut parser, 20, &[b"\x95\x01Opus\x01", &[0xf8, 7]]).data.as_ref(), [0xf8, 7]);
}

#[test]
fn nanoseconds_are_added_and_other_extensions_stepped_over() {
    let mut parser = parser();
    assert!(all(&mut parser, TagKind::Video, 0, &[b"\x90vp09", &VPCC]).is_ok());
    let nanos = |offset: [u8; 3]| [&[0x97, 2][..], &offset, &[0x03], b"vp09", &[0x82, 1]].concat();
    let packet = picture(&mut parser, 33, &[&nanos([0x05, 0x16, 0x15])]);
    assert_eq!((packet.pts.nanos(), packet.dts.nanos()), (33_333_333, 33_333_333));
    let packet = picture(&mut parser, 66, &[&nanos([0xff, 0xff, 0xff])]);
    assert_eq!(packet.dts.nanos(), 66_000_000, "more than a millisecond is no offset");
    // An extension of another kind and 300 bytes, then the packet.
    let long = [&[0x97, 255, 0x01, 0x2b][..], &[0; 300], &[0x13], b"vp09", &[0x82]].concat();
    assert_eq!(picture(&mut parser, 99, &[&long]).dts, MediaTime::from_millis(99));
    assert_eq!(all(&mut parser, TagKind::Video, 0, &[&[0x97, 9, 1]]), Err(Skip::Truncated));
    assert_eq!(all(&mut parser, TagKind::Video, 0, &[&[0x97; 40]]), Err(Skip::Truncated));
}
