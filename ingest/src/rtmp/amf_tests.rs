//! What publishers send passes; what would make the decoder build more than was sent does not.

use super::*;
use proptest::prelude::*;
use rtmp_rs::amf::{Amf0Decoder, AmfValue};

/// How many values the decoder built.
fn built(value: &AmfValue) -> usize {
    1 + match value {
        AmfValue::Array(elements) => elements.iter().map(built).sum(),
        AmfValue::Object(properties) | AmfValue::EcmaArray(properties) => properties.values().map(built).sum(),
        AmfValue::TypedObject { properties, .. } => properties.values().map(built).sum(),
        _ => 0,
    }
}

fn strict_array(count: u32, element: &[u8]) -> Vec<u8> {
    let mut bytes = vec![STRICT_ARRAY];
    bytes.extend(count.to_be_bytes());
    (0..count).for_each(|_| bytes.extend(element));
    bytes
}

#[test]
fn a_publishers_commands_and_metadata_pass() {
    let connect = b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
    assert!(within_bounds(connect));
    let metadata = b"\x02\x00\x0aonMetaData\x08\0\0\0\x01\x00\x05width\x00\x40\x94\0\0\0\0\0\0\x00\x00\x09";
    assert!(within_bounds(metadata));
}

#[test]
fn references_depths_and_numbers_are_bounded() {
    // A thousand references to a thousand references to a thousand values.
    let inner = strict_array(1000, &[5]);
    let middle = strict_array(1000, &[REFERENCE, 0, 0]);
    assert!(!within_bounds(&[inner, middle].concat()));
    assert!(!within_bounds(&strict_array(1, &[]).repeat(100_000)));
    assert!(!within_bounds(&b"\x03\x00\x01a".repeat(100_000)));
    assert!(!within_bounds(&[5; MAX_VALUES + 1]));
}

#[test]
fn lengths_beyond_the_message_are_the_decoders_to_refuse() {
    for message in
        [b"\x0c\xff\xff\xff\xffabc".as_slice(), b"\x0a\xff\xff\xff\xff\x05", b"\x08\xff\xff\xff\xff\x00\x01a"]
    {
        assert!(within_bounds(message));
        assert!(Amf0Decoder::new().decode_all(&mut bytes::Bytes::copy_from_slice(message)).is_err());
    }
}

proptest! {
    #[test]
    fn what_passes_makes_the_decoder_build_no_more_than_was_counted(
        // Mostly markers and short lengths, so that values nest.
        message in prop::collection::vec(prop_oneof![0u8..0x12, Just(0u8), any::<u8>()], 0..3000),
    ) {
        if within_bounds(&message) {
            let (mut decoder, mut rest) = (Amf0Decoder::new(), bytes::Bytes::from(message));
            let mut sum = 0;
            while let Ok(value) = decoder.decode(&mut rest) {
                sum += built(&value);
            }
            prop_assert!(sum <= MAX_VALUES);
        }
    }
}
