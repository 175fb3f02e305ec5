//! The guard lets publishers through, whole or in pieces, and stops those who announce too much.

use super::*;
use proptest::prelude::*;

fn guard(allowance: usize) -> Guard {
    let mut guard = Guard::new(Arc::new(AtomicUsize::new(allowance)));
    assert_eq!(guard.check(&[VERSION; HANDSHAKE]), Ok(()));
    guard
}

/// A message in chunks of `chunk` bytes.
fn message(id: u8, kind: u8, payload: &[u8], chunk: usize) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![id, 0, 0, 40, length[1], length[2], length[3], kind, 1, 0, 0, 0];
    for (index, piece) in payload.chunks(chunk).enumerate() {
        if index > 0 {
            bytes.push(0xc0 | id);
        }
        bytes.extend_from_slice(piece);
    }
    bytes
}

fn publisher() -> Vec<u8> {
    let mut bytes = message(2, SET_CHUNK_SIZE, &[0, 0, 0x10, 0], 128);
    for frame in 0..50 {
        bytes.extend(message(4, 9, &vec![frame; 9000], 4096));
        bytes.extend(message(6, 8, &[frame; 300], 4096));
        bytes.extend(message(3, 20, &[], 4096));
    }
    bytes
}

#[test]
fn a_publisher_passes() {
    assert_eq!(guard(10_000).check(&publisher()), Ok(()));
}

#[test]
fn a_message_beyond_the_allowance_does_not_pass_until_the_peer_is_known() {
    let allowance = Arc::new(AtomicUsize::new(8999));
    let mut strange = Guard::new(Arc::clone(&allowance));
    assert_eq!(strange.check(&[VERSION; HANDSHAKE]), Ok(()));
    assert_eq!(strange.check(&publisher()), Err(Violation::TooLarge));
    let mut known = guard(8999);
    known.allowance.store(9300, Ordering::Relaxed);
    assert_eq!(known.check(&publisher()), Ok(()));
}

#[test]
fn announcing_many_messages_at_once_is_stopped() {
    let mut attacker = guard(64 * 1024);
    // One-byte chunks of 10 kB messages, each on a chunk stream of its own.
    assert_eq!(attacker.check(&message(2, SET_CHUNK_SIZE, &[0, 0, 0, 1], 128)), Ok(()));
    let begin = |id: u8| [1, id, 0, 0, 0, 0, 0, 0x27, 0x10, 9, 1, 0, 0, 0, 7];
    let stopped = (0..200).map(|id| attacker.check(&begin(id))).find_map(Result::err);
    assert_eq!(stopped, Some(Violation::TooLarge));

    let mut attacker = guard(64 * 1024);
    let empty = |id: u8| [0, id, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0];
    let passed = (0..200).take_while(|id| attacker.check(&empty(*id)).is_ok()).count();
    assert_eq!(passed, CHUNK_STREAMS);
}

#[test]
fn what_the_library_would_misread_does_not_pass() {
    let again = [message(4, 9, &[1; 200], 1000)[..100].to_vec(), message(4, 9, &[1; 50], 1000)].concat();
    let mut halfway = guard(10_000);
    let first = message(4, 9, &[1; 200], 128);
    assert_eq!(halfway.check(&first[..12 + 128]), Ok(()));
    assert_eq!(halfway.check(&again), Err(Violation::Malformed));
    assert_eq!(guard(1000).check(&message(2, SET_CHUNK_SIZE, &[0; 4], 128)), Err(Violation::Malformed));
    assert_eq!(guard(1000).check(&message(2, SET_CHUNK_SIZE, &[1], 128)), Err(Violation::Malformed));
    assert_eq!(guard(1000).check(&message(2, ABORT, &[0, 0, 0, 4], 128)), Err(Violation::Malformed));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(1usize..5000, 1..60)) {
        let bytes = publisher();
        let mut guard = guard(10_000);
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            prop_assert_eq!(guard.check(now), Ok(()));
            rest = later;
        }
    }

    #[test]
    fn no_bytes_break_it_and_what_is_announced_stays_bounded(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut guard = guard(10_000);
        for piece in bytes.chunks(7) {
            if guard.check(piece).is_err() {
                break;
            }
            let announced: usize = guard.streams.values().filter(|s| s.remaining > 0).map(|s| s.length).sum();
            prop_assert!(announced <= 10_000 && guard.streams.len() <= CHUNK_STREAMS);
        }
    }
}
