//! Tag bodies as encoders send them, and as they should not.
#![allow(clippy::unwrap_used)]

use super::*;
use crest_core::codec::Packet;
use proptest::prelude::*;

/// A minimal `avcC` record: one SPS, one PPS, four-byte lengths.
const AVCC: [u8; 19] = [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 1, 0, 4, 0x68, 0xee, 0x3c, 0x80];

fn body(head: &[u8], payload: &[u8]) -> Bytes {
    [head, payload].concat().into()
}

/// The only event of a tag.
fn only(parser: &mut TagParser, kind: TagKind, timestamp: u32, body: &Bytes) -> Result<MediaEvent, Skip> {
    let mut events = parser.read(kind, timestamp, body)?.into_iter();
    let event = events.next().unwrap();
    assert_eq!(events.next(), None);
    Ok(event)
}

fn ready() -> TagParser {
    let mut parser = TagParser::new(1000, Chosen::default());
    assert!(matches!(
        only(&mut parser, TagKind::Video, 0, &body(&[0x17, 0, 0, 0, 0], &AVCC)),
        Ok(MediaEvent::VideoConfig(_))
    ));
    assert!(matches!(
        only(&mut parser, TagKind::Audio, 0, &body(&[0xaf, 0], &[0x11, 0x90])),
        Ok(MediaEvent::AudioConfig(_))
    ));
    parser
}

#[test]
fn configurations_and_packets() {
    let mut parser = TagParser::new(1000, Chosen::default());
    let Ok(MediaEvent::VideoConfig(config)) = only(&mut parser, TagKind::Video, 0, &body(&[0x17, 0, 0, 0, 0], &AVCC))
    else {
        panic!("a video configuration")
    };
    assert_eq!(config.record.as_ref(), AVCC);
    let Ok(MediaEvent::AudioConfig(config)) = only(&mut parser, TagKind::Audio, 0, &body(&[0xaf, 0], &[0x11, 0x90]))
    else {
        panic!("an audio configuration")
    };
    assert_eq!((config.sample_rate, config.channels, config.record.as_ref()), (48_000, 2, &[0x11, 0x90][..]));

    let unit = [0, 0, 0, 2, 0x65, 0x88];
    let event = only(&mut parser, TagKind::Video, 40, &body(&[0x17, 1, 0, 0, 80], &unit)).unwrap();
    assert_eq!(
        event,
        MediaEvent::Video(Packet {
            pts: MediaTime::from_millis(120),
            dts: MediaTime::from_millis(40),
            keyframe: true,
            data: Bytes::copy_from_slice(&unit),
        })
    );
    let Ok(MediaEvent::Video(inter)) =
        only(&mut parser, TagKind::Video, 80, &body(&[0x27, 1, 0xff, 0xff, 0xfe], &unit))
    else {
        panic!("an inter frame")
    };
    assert_eq!((inter.keyframe, inter.pts), (false, MediaTime::from_millis(78)), "composition time is signed");
    let Ok(MediaEvent::Audio(sound)) = only(&mut parser, TagKind::Audio, 90, &body(&[0xaf, 1], &[1, 2, 3])) else {
        panic!("sound")
    };
    assert_eq!((sound.dts, sound.data.as_ref()), (MediaTime::from_millis(90), &[1, 2, 3][..]));
}

#[test]
fn a_configuration_is_told_once_and_again_when_it_changes() {
    let mut parser = ready();
    let again = body(&[0x17, 0, 0, 0, 0], &AVCC);
    assert_eq!(parser.read(TagKind::Video, 0, &again), Err(Skip::NotMedia));
    let mut other = AVCC;
    other[3] = 0x20;
    assert!(parser.read(TagKind::Video, 0, &body(&[0x17, 0, 0, 0, 0], &other)).is_ok());
    assert!(parser.read(TagKind::Audio, 0, &body(&[0xaf, 0], &[0x12, 0x10])).is_ok());
}

#[test]
fn what_is_malformed_has_a_cause() {
    let mut parser = ready();
    let mut video = |bytes: &[u8]| parser.read(TagKind::Video, 0, &Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(video(&[]), Skip::Empty);
    assert_eq!(video(&[0x17]), Skip::Truncated);
    assert_eq!(video(&[0x17, 1, 0, 0]), Skip::Truncated);
    assert_eq!(video(&[0x17, 1, 0, 0, 0]), Skip::Empty);
    assert_eq!(video(&[0x17, 1, 0, 0, 0, 0, 0, 0]), Skip::Malformed, "half a length");
    assert_eq!(video(&[0x17, 1, 0, 0, 0, 0, 0, 0, 9, 1]), Skip::Malformed, "a unit beyond the body");
    assert_eq!(video(&[0x17, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]), Skip::Malformed);
    assert_eq!(video(&[0x17, 9, 0, 0, 0, 1]), Skip::Malformed);
    assert_eq!(video(&[0x17, 2, 0, 0, 0]), Skip::NotMedia);
    assert_eq!(video(&[0x57, 0]), Skip::NotMedia);
    assert_eq!(video(&[0x12, 0, 0, 0, 0]), Skip::UnsupportedCodec);
    assert_eq!(video(&[0x1c, 1, 0, 0, 0, 1]), Skip::UnsupportedCodec, "HEVC as some encoders smuggle it");
    assert_eq!(video(&[0; 1001]), Skip::TooLarge);
    for length in 0..AVCC.len() {
        let record = [&[0x17, 0, 0, 0, 0], &AVCC[..length]].concat();
        assert_eq!(video(&record), Skip::Malformed, "a record of {length} bytes");
    }

    let mut audio = |bytes: &[u8]| parser.read(TagKind::Audio, 0, &Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(audio(&[]), Skip::Empty);
    assert_eq!(audio(&[0xaf]), Skip::Truncated);
    assert_eq!(audio(&[0xaf, 1]), Skip::Empty);
    assert_eq!(audio(&[0xaf, 7, 1]), Skip::Malformed);
    assert_eq!(audio(&[0xaf, 0]), Skip::Malformed);
    assert_eq!(audio(&[0xaf, 0, 0x11]), Skip::Malformed, "half a configuration");
    assert_eq!(audio(&[0xaf, 0, 0x16, 0x90]), Skip::Malformed, "a reserved sample rate");
    assert_eq!(audio(&[0x2f, 1, 2]), Skip::Malformed, "MP3 without a header");
    assert_eq!(audio(&[0xbf, 1, 2]), Skip::UnsupportedCodec, "Speex");
}

#[test]
fn media_before_its_configuration_is_skipped() {
    let mut parser = TagParser::new(1000, Chosen::default());
    let unit = [0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65];
    assert_eq!(parser.read(TagKind::Video, 0, &Bytes::copy_from_slice(&unit)), Err(Skip::NoConfiguration));
    assert_eq!(parser.read(TagKind::Audio, 0, &Bytes::from_static(&[0xaf, 1, 1])), Err(Skip::NoConfiguration));
}

#[test]
fn a_skipped_tag_does_not_move_the_clock() {
    let mut parser = ready();
    let unit = body(&[0x27, 1, 0, 0, 0], &[0, 0, 0, 1, 0x41]);
    assert!(parser.read(TagKind::Video, 4_000_000_000, &body(&[0x27, 1, 0, 0, 0], &[9])).is_err());
    let Ok(MediaEvent::Video(packet)) = only(&mut parser, TagKind::Video, 100, &unit) else { panic!("a packet") };
    assert_eq!(packet.dts, MediaTime::from_millis(100));
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(bodies in prop::collection::vec((any::<bool>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..64)), 0..40)) {
        let mut parser = ready();
        for (video, timestamp, bytes) in bodies {
            let kind = if video { TagKind::Video } else { TagKind::Audio };
            for event in parser.read(kind, timestamp, &Bytes::from(bytes)).into_iter().flatten() {
                if let MediaEvent::Video(packet) | MediaEvent::Audio(packet) = event {
                    prop_assert!(!packet.data.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_record_breaks_the_parser(record in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..19) {
        let mut parser = TagParser::new(1000, Chosen::default());
        let _ = only(&mut parser, TagKind::Video, 0, &body(&[0x17, 0, 0, 0, 0], &record));
        let _ = only(&mut parser, TagKind::Video, 0, &body(&[0x17, 0, 0, 0, 0], &[&AVCC[..cut], &record[..]].concat()));
        let _ = only(&mut parser, TagKind::Audio, 0, &body(&[0xaf, 0], &record));
    }
}
