//! Messages come out as they went in, whole or in pieces, and those who announce too much are stopped.

use super::super::message::{AUDIO, VIDEO};
use super::*;
use proptest::prelude::*;

fn message(kind: u8, timestamp: u32, body: &[u8]) -> Message {
    Message { kind, stream: 1, timestamp, body: Bytes::copy_from_slice(body) }
}

fn written(message: &Message, chunk_stream: u8, chunk_size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write(message, chunk_stream, chunk_size, &mut out);
    out
}

/// All messages in the bytes, given in pieces.
fn read<'a>(chunks: &mut Chunks, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Message>, Violation> {
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(message) = chunks.next(&mut piece)? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn publisher() -> (Vec<Message>, Vec<u8>) {
    let mut bytes = written(&set_chunk_size(4096), 2, 128);
    let mut messages = Vec::new();
    for frame in 0..50u8 {
        // Beyond three bytes from the middle on.
        let at = 0xff_ffff - 25 + u32::from(frame);
        for (chunk_stream, message) in [
            (4, message(VIDEO, at, &vec![frame; 9000])),
            (6, message(AUDIO, at, &[frame; 300])),
            (3, message(COMMAND, 0, &[])),
        ] {
            bytes.extend(written(&message, chunk_stream, 4096));
            messages.push(message);
        }
    }
    (messages, bytes)
}

#[test]
fn headers_leave_out_what_the_last_one_said() {
    let mut bytes = Vec::new();
    // All of it at 100; 40 later, two bytes; again 40 later; then 20 later, and once more.
    bytes.extend([6, 0, 0, 100, 0, 0, 1, AUDIO, 1, 0, 0, 0, 1]);
    bytes.extend([0x46, 0, 0, 40, 0, 0, 2, VIDEO, 2, 2]);
    bytes.extend([0xc6, 3, 3]);
    bytes.extend([0x86, 0, 0, 20, 4, 4]);
    bytes.extend([0xc6, 5, 5]);
    let expected = [
        message(AUDIO, 100, &[1]),
        message(VIDEO, 140, &[2, 2]),
        message(VIDEO, 180, &[3, 3]),
        message(VIDEO, 200, &[4, 4]),
        message(VIDEO, 220, &[5, 5]),
    ];
    assert_eq!(read(&mut Chunks::new(1000), [&bytes[..]]).as_deref(), Ok(&expected[..]));
}

#[test]
fn a_step_of_more_than_three_bytes_stands_after_the_header() {
    let mut bytes = vec![6, 0, 0, 7, 0, 0, 3, AUDIO, 1, 0, 0, 0, 1, 1, 1];
    let step = 0x0100_0000_u32.to_be_bytes();
    bytes.extend([0x86, 0xff, 0xff, 0xff]);
    bytes.extend(step);
    bytes.extend([2, 2, 2, 0xc6]);
    bytes.extend(step);
    bytes.extend([3, 3, 3]);
    let read = read(&mut Chunks::new(1000), [&bytes[..]])
        .map(|messages| messages.iter().map(|message| message.timestamp).collect::<Vec<_>>());
    assert_eq!(read, Ok(vec![7, 0x0100_0007, 0x0200_0007]));
}

#[test]
fn a_time_of_four_bytes_may_be_left_out_of_further_chunks() {
    let long = message(VIDEO, 0x0123_4567, &(0..=255).collect::<Vec<u8>>());
    let whole = written(&long, 4, 100);
    // Header and time, a hundred bytes, one byte of header and the time again, and so on.
    let (first, time) = (12 + 4 + 100, 4);
    let rest = &whole[first..];
    let (second, third) = (1 + time + 100, 1 + time + 56);
    assert_eq!(rest.len(), second + third);
    let bare = [&whole[..=first], &rest[1 + time..second], &rest[second..=second], &rest[second + 1 + time..]].concat();
    let size = written(&set_chunk_size(100), 2, 128);
    let expected = Ok(vec![long.clone(), long]);
    assert_eq!(read(&mut Chunks::new(1000), [&size[..], &bare, &bare]), expected);
    assert_eq!(read(&mut Chunks::new(1000), [&size[..], &whole, &whole]), expected);
}

#[test]
fn chunk_streams_are_named_in_one_two_or_three_bytes_and_interleave() {
    let (one, other) = (message(VIDEO, 5, &[1; 300]), message(AUDIO, 6, &[2; 200]));
    let (first, second) = (written(&one, 4, 128), written(&other, 5, 128));
    let mut bytes = [&first[..12 + 128], &second[..12 + 128], &first[140..269], &second[140..]].concat();
    bytes.extend(&first[269..]);
    assert_eq!(read(&mut Chunks::new(1000), [&bytes[..]]), Ok(vec![other, one]));

    let header = [0, 0, 7, 0, 0, 1, AUDIO, 1, 0, 0, 0, 9];
    let bytes = [&[0, 200][..], &header, &[1, 0xff, 0xff], &header].concat();
    let expected = message(AUDIO, 7, &[9]);
    assert_eq!(read(&mut Chunks::new(1000), [&bytes[..]]), Ok(vec![expected.clone(), expected]));
}

#[test]
fn half_a_message_can_be_taken_back() {
    let half = written(&message(VIDEO, 5, &[1; 300]), 4, 128);
    let abort = Message::control(ABORT, Bytes::from_static(&[0, 0, 0, 4]));
    let other = message(VIDEO, 9, &[2; 250]);
    let bytes = [&half[..12 + 128], &written(&abort, 2, 128), &written(&other, 4, 128)].concat();
    // What was announced is given back too.
    assert_eq!(read(&mut Chunks::new(310), [&bytes[..]]), Ok(vec![other]));
}

#[test]
fn a_message_beyond_the_allowance_does_not_pass_until_the_peer_is_known() {
    let (messages, bytes) = publisher();
    assert_eq!(read(&mut Chunks::new(8999), [&bytes[..]]), Err(Violation::TooLarge));
    let mut known = Chunks::new(8999);
    known.allow(9300);
    assert_eq!(read(&mut known, [&bytes[..]]), Ok(messages));
}

#[test]
fn announcing_many_messages_at_once_is_stopped() {
    // One-byte chunks of 10 kB messages, each on a chunk stream of its own.
    let mut attacker = Chunks::new(64 * 1024);
    assert_eq!(read(&mut attacker, [&written(&set_chunk_size(1), 2, 128)[..]]), Ok(vec![]));
    let begin = |id: u8| [0, id, 0, 0, 0, 0, 0x27, 0x10, VIDEO, 1, 0, 0, 0, 7];
    let stopped = (0..200).map(|id| read(&mut attacker, [&begin(id)[..]])).find_map(Result::err);
    assert_eq!(stopped, Some(Violation::TooLarge));

    let mut attacker = Chunks::new(64 * 1024);
    let empty = |id: u8| [0, id, 0, 0, 0, 0, 0, 0, VIDEO, 1, 0, 0, 0];
    let passed = (0..200).take_while(|id| read(&mut attacker, [&empty(*id)[..]]).is_ok()).count();
    assert_eq!(passed, CHUNK_STREAMS);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let halfway = [&written(&message(VIDEO, 0, &[1; 200]), 4, 128)[..12 + 128], &[4, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0]];
    assert_eq!(read(&mut Chunks::new(10_000), [&halfway.concat()[..]]), Err(Violation::Malformed));
    for body in [&[0; 4][..], &[1]] {
        let size = Message::control(SET_CHUNK_SIZE, Bytes::copy_from_slice(body));
        assert_eq!(read(&mut Chunks::new(1000), [&written(&size, 2, 128)[..]]), Err(Violation::Malformed));
    }
    let long = message(COMMAND, 0, &[5; MAX_COMMAND + 1]);
    assert_eq!(read(&mut Chunks::new(1 << 20), [&written(&long, 3, 128)[..]]), Err(Violation::Command));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(1usize..5000, 1..60)) {
        let (messages, bytes) = publisher();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
        let pieces = std::iter::from_fn(|| {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = later;
            (!now.is_empty()).then_some(now)
        });
        prop_assert_eq!(read(&mut Chunks::new(10_000), pieces), Ok(messages));
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        fuzzing::chunks(&bytes);
    }
}
