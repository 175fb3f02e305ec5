//! What publishers send is read; what would build more than was sent is not.

use super::*;
use proptest::prelude::*;

/// How many values there are.
pub(crate) fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(properties) => properties.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

/// A message that is whole.
fn read(message: &[u8]) -> Result<Vec<Value>, Violation> {
    let (values, broken) = read_some(message)?;
    if broken { Err(Violation::Broken) } else { Ok(values) }
}

fn strict_array(count: u32, element: &[u8]) -> Vec<u8> {
    let mut bytes = vec![STRICT_ARRAY];
    bytes.extend(count.to_be_bytes());
    (0..count).for_each(|_| bytes.extend(element));
    bytes
}

#[test]
fn commands_and_metadata_are_read() {
    let connect = b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
    let expected = vec![Value::text("connect"), Value::Number(1.0), Value::object([("app", Value::text("live"))])];
    assert_eq!(read(connect), Ok(expected));
    let metadata = b"\x02\x00\x0aonMetaData\x08\0\0\0\x01\x00\x05width\x00\x40\x94\0\0\0\0\0\0\x00\x00\x09";
    let expected = vec![Value::text("onMetaData"), Value::object([("width", Value::Number(1280.0))])];
    assert_eq!(read(metadata), Ok(expected));
    let others = b"\x0b\x40\x59\0\0\0\0\0\0\0\0\x06\x01\x01\x10\x00\x01T\x00\x01a\x05\x00\x00\x09\x0c\0\0\0\x01b";
    let object = Value::object([("a", Value::Null)]);
    let expected = vec![Value::Number(100.0), Value::Null, Value::Boolean(true), object, Value::text("b")];
    assert_eq!(read(others), Ok(expected));
}

#[test]
fn references_depths_and_numbers_are_bounded() {
    // A thousand references to a thousand references to a thousand values.
    let inner = strict_array(1000, &[NULL]);
    let middle = strict_array(1000, &[REFERENCE, 0, 0]);
    assert_eq!(read(&[inner, middle].concat()), Err(Violation::Command));
    assert_eq!(read(&strict_array(1, &[]).repeat(100_000)), Err(Violation::Command));
    assert_eq!(read(&b"\x03\x00\x01a".repeat(100_000)), Err(Violation::Command));
    assert_eq!(read(&[NULL; MAX_VALUES + 1]), Err(Violation::Command));
}

#[test]
fn what_breaks_off_is_refused() {
    for message in [
        b"\x0c\xff\xff\xff\xffabc".as_slice(),
        b"\x0a\xff\xff\xff\xff\x05",
        b"\x08\xff\xff\xff\xff\x00\x01a",
        b"\x03\x00\x01a\x05\x00",
        b"\x00\x01",
        b"\x02\x00\x01\xff",
        b"\x42",
    ] {
        assert_eq!(read(message), Err(Violation::Broken), "{message:?}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|number| Value::Number(f64::from(number))),
        any::<bool>().prop_map(Value::Boolean),
        "[a-zé]{0,8}".prop_map(Value::Text),
        Just(Value::text("x".repeat(70_000))),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-z]{1,5}", inner), 0..4).prop_map(Value::Object),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(values in prop::collection::vec(values(), 0..5)) {
        prop_assert_eq!(read(&write(&values)), Ok(values));
    }

    #[test]
    fn no_message_becomes_more_than_is_allowed(
        // Mostly markers and short lengths, so that values nest.
        message in prop::collection::vec(prop_oneof![0u8..0x12, Just(0u8), any::<u8>()], 0..3000),
    ) {
        if let Ok((values, _)) = read_some(&message) {
            prop_assert!(values.iter().map(count).sum::<usize>() <= MAX_VALUES);
        }
    }
}
