#![allow(clippy::unwrap_used)]

use super::*;
use crate::pull::hls::parts::Part;
use reqwest::Url;

fn resource(name: &str) -> Resource {
    Resource { url: Url::parse("https://cdn.example/").unwrap().join(name).unwrap(), range: None }
}

/// Two seconds long, four parts; `whole` or still being made.
fn piece(sequence: u64, parts: usize, whole: bool) -> Piece {
    let part = |at| Part { at: resource(&format!("{sequence}.{at}")), seconds: 0.5, gap: false };
    Piece {
        sequence,
        whole: whole.then(|| resource(&sequence.to_string())),
        parts: (0..parts).map(part).collect(),
        map: None,
        discontinuity: false,
        timeline: 0,
        seconds: 2.0,
        at: None,
        ad: false,
        break_left: None,
        gap: false,
        encryption: None,
    }
}

fn media(pieces: Vec<Piece>) -> Media {
    let target = Duration::from_secs(2);
    Media { target, over: false, counted: false, pieces, low_latency: None, hint: None }
}

/// The same with low latency, as a server offers it.
fn low(pieces: Vec<Piece>) -> Media {
    let (part_target, hold_back) = (Duration::from_millis(500), Duration::from_millis(1500));
    let low_latency = Some(LowLatency { part_target, hold_back, in_parts: true });
    Media { low_latency, ..media(pieces) }
}

fn taken(upcoming: &mut Upcoming) -> Vec<String> {
    std::iter::from_fn(|| upcoming.pick()).map(|pick| pick.at.url.path().trim_start_matches('/').to_owned()).collect()
}

#[test]
fn a_segment_is_taken_whole_or_part_by_part_and_never_twice() {
    let now = Instant::now();
    let first = low(vec![piece(1, 0, true), piece(2, 4, true), piece(3, 2, false)]);
    let mut upcoming = Upcoming::new(first, None, 3, now);
    // As near to the end as the server allows: a segment and a half.
    assert_eq!(taken(&mut upcoming), ["2", "3.0", "3.1"]);
    assert_eq!(upcoming.ask(), Some((3, Some(2))));
    assert_eq!(upcoming.reached(), Some(4), "what was begun is not read again");
    upcoming.list(low(vec![piece(2, 4, true), piece(3, 4, true), piece(4, 1, false)]), Some(now), now);
    assert_eq!(taken(&mut upcoming), ["3.2", "3.3", "4.0"]);
    assert_eq!(upcoming.ask(), Some((4, Some(1))));
    // The rest of it cannot be had: the next segment is what comes.
    upcoming.skip();
    assert_eq!(upcoming.ask(), Some((5, Some(0))));
    upcoming.list(low(vec![piece(4, 4, true), piece(5, 4, true), piece(6, 0, false)]), Some(now), now);
    assert_eq!(taken(&mut upcoming), ["5"]);
    assert_eq!(upcoming.ask(), Some((6, Some(0))));
}

#[test]
fn what_is_live_is_begun_near_its_end_and_a_recording_at_its_beginning() {
    let pieces = || (1..=5).map(|at| piece(at, 0, true)).collect();
    let mut live = Upcoming::new(media(pieces()), None, 3, Instant::now());
    assert_eq!(taken(&mut live), ["3", "4", "5"]);
    let recording = Media { over: true, ..media(pieces()) };
    assert_eq!(taken(&mut Upcoming::new(recording, None, 3, Instant::now())), ["1", "2", "3", "4", "5"]);
    let mut back = Upcoming::new(media(pieces()), Some(2), 3, Instant::now());
    assert_eq!(taken(&mut back), ["2", "3", "4", "5"], "what broke off goes on where it was");
}

#[test]
fn a_broadcast_that_ends_within_a_segment_is_taken_to_its_end() {
    let now = Instant::now();
    let mut upcoming = Upcoming::new(low(vec![piece(1, 0, true), piece(2, 2, false)]), None, 3, now);
    assert_eq!(taken(&mut upcoming).last().map(String::as_str), Some("2.1"));
    let over = Media { over: true, ..low(vec![piece(1, 0, true), piece(2, 4, true)]) };
    upcoming.list(over, Some(now), now);
    assert_eq!(taken(&mut upcoming), ["2.2", "2.3"]);
    assert!(upcoming.is_complete());
}

#[test]
fn a_segment_of_many_parts_is_left_out_in_one_step() {
    let now = Instant::now();
    let mut upcoming = Upcoming::new(low(vec![piece(1, 4000, false), piece(2, 0, false)]), None, 3, now);
    let first = upcoming.pick().unwrap();
    assert!(first.first && first.piece.parts.is_empty());
    upcoming.skip();
    assert!(upcoming.pick().is_none());
    assert_eq!(upcoming.ask(), Some((2, Some(0))));
}

#[test]
fn what_is_left_of_a_segment_with_missing_parts_is_taken() {
    let now = Instant::now();
    let with_gaps = |piece: Piece, gaps: &[usize]| {
        let (mut piece, at) = (piece, WallTime(10_000));
        piece.parts.iter_mut().enumerate().for_each(|(at, part)| part.gap = gaps.contains(&at));
        Piece { at: Some(at), ..piece }
    };
    let first = with_gaps(piece(1, 3, false), &[0, 1]);
    let mut upcoming = Upcoming::new(low(vec![first]), None, 3, now);
    let told = |pick: Pick| (pick.missing, pick.first, pick.recorded_at);
    assert_eq!(upcoming.pick().map(told), Some((true, true, Some(WallTime(10_000)))));
    assert_eq!(upcoming.pick().map(told), Some((true, false, Some(WallTime(10_500)))));
    assert_eq!(upcoming.pick().map(told), Some((false, false, Some(WallTime(11_000)))), "the first that is there");
    assert_eq!(upcoming.ask(), Some((1, Some(3))));
    // Once it is finished all of it is called missing; what is there of it is taken still.
    let done = |sequence| Piece { gap: true, ..with_gaps(piece(sequence, 4, true), &[0, 1]) };
    upcoming.list(low(vec![done(1), done(2), piece(3, 0, false)]), Some(now), now);
    let rest: Vec<_> = std::iter::from_fn(|| upcoming.pick()).collect();
    let rest: Vec<_> = rest.iter().map(|pick| (pick.at.url.path(), pick.missing)).collect();
    let parts = [("/1.3", false), ("/2.0", true), ("/2.1", true), ("/2.2", false), ("/2.3", false)];
    assert_eq!(rest, parts);
    // Of one of which there is nothing there is nothing to take.
    upcoming.list(low(vec![Piece { gap: true, ..piece(3, 0, true) }]), Some(now), now);
    assert_eq!(upcoming.pick().map(|pick| (pick.missing, pick.part)), Some((true, false)));
}

#[test]
fn a_server_that_does_not_wait_is_asked_as_any_other() {
    let now = Instant::now();
    let again = || low(vec![piece(1, 4, true), piece(2, 1, false)]);
    let mut upcoming = Upcoming::new(again(), None, 3, now);
    taken(&mut upcoming);
    assert!(upcoming.reload() <= now + Duration::from_millis(250), "half a part after the last look");
    for _ in 0..TRIES {
        assert_eq!(upcoming.ask(), Some((2, Some(1))));
        upcoming.list(again(), Some(now), now);
        assert_eq!(upcoming.reload(), now + Duration::from_secs(1), "nothing new: half a target duration");
    }
    assert_eq!(upcoming.ask(), None);
    upcoming.list(low(vec![piece(1, 4, true), piece(2, 2, false)]), None, now);
    assert_eq!(upcoming.reload(), now + Duration::from_secs(2), "something new: a target duration");
    assert_eq!(taken(&mut upcoming), ["2.1"]);
}

#[test]
fn after_a_failure_the_server_is_asked_without_waiting_once() {
    let now = Instant::now();
    let mut upcoming = Upcoming::new(low(vec![piece(1, 4, true), piece(2, 1, false)]), None, 3, now);
    taken(&mut upcoming);
    assert_eq!(upcoming.failed(now), 1);
    assert_eq!((upcoming.ask(), upcoming.reload()), (None, now + Duration::from_secs(1)));
    upcoming.list(low(vec![piece(1, 4, true), piece(2, 2, false)]), None, now);
    taken(&mut upcoming);
    assert_eq!(upcoming.ask(), Some((2, Some(2))));
}

#[test]
fn a_playlist_that_began_anew_is_another_one_and_a_copy_that_is_behind_is_not() {
    let now = Instant::now();
    let mut upcoming = Upcoming::new(media((100..103).map(|at| piece(at, 0, true)).collect()), None, 3, now);
    assert_eq!(taken(&mut upcoming), ["100", "101", "102"]);
    upcoming.list(media((99..102).map(|at| piece(at, 0, true)).collect()), None, now);
    assert!(taken(&mut upcoming).is_empty(), "behind");
    upcoming.list(media((0..2).map(|at| piece(at, 0, true)).collect()), None, now);
    let pick = upcoming.pick().unwrap();
    assert!(pick.piece.sequence == 0 && pick.piece.discontinuity, "anew: {pick:?}");
}

#[test]
fn the_place_at_another_address_is_found_by_time_and_else_by_number() {
    let now = Instant::now();
    let dated = |from: u64, millis: i64, pieces: u64| {
        let piece = |at: u64| Piece { at: Some(WallTime(millis + 2000 * at as i64)), ..piece(from + at, 0, true) };
        media((0..pieces).map(piece).collect())
    };
    let read = |media: Media| {
        let mut upcoming = Upcoming::new(media, None, 3, now);
        taken(&mut upcoming);
        upcoming
    };
    let mut upcoming = read(dated(10, 20_000, 3));
    assert_eq!(upcoming.place_in(&dated(11, 22_000, 3)), Some(13), "the same numbers");
    assert_eq!(upcoming.place_in(&dated(511, 22_040, 3)), Some(513), "others");
    assert_eq!(upcoming.place_in(&dated(500, 20_000, 3)), Some(503), "nothing new yet");
    assert_eq!(upcoming.place_in(&dated(500, 90_000, 3)), None, "another time");
    assert_eq!(upcoming.place_in(&dated(11, 23_500, 3)), Some(12), "the nearest");
    upcoming.go_over(dated(511, 22_040, 3), 513, now);
    assert_eq!(taken(&mut upcoming), ["513"]);
    let plain = |from: u64| media((from..from + 3).map(|at| piece(at, 0, true)).collect());
    let upcoming = read(plain(10));
    assert_eq!(upcoming.place_in(&plain(11)), Some(13));
    assert_eq!(upcoming.place_in(&plain(500)), None);
    let mut behind = Upcoming::new(plain(10), None, 3, now);
    behind.pick();
    behind.go_over(plain(12), 11, now);
    assert_eq!(taken(&mut behind), ["11", "12", "13", "14"], "what was listed before is read still");
}
