//! The media index: what to cut from, what may go.

use crest_core::highlight::HighlightState;
use crest_core::{Fault, MediaTime, Session};

use super::world::{FIRST, NOW, World};

const MARGIN: MediaTime = MediaTime::from_nanos(30_000_000_000);

async fn objects(world: &World) -> Vec<String> {
    world.store.removable_segments(100, MARGIN).await.unwrap().into_iter().map(|s| s.object).collect()
}

/// Files of 20 s, `0.mp4`, `1.mp4`, ..., each of two fragments of which the second has no keyframe.
async fn fill(world: &World, files: i64) {
    for n in 0..files {
        let object = format!("{n}.mp4");
        for (half, keyframe) in [(0, true), (1, false)] {
            let from = n * 20 + half * 10;
            let fragment = world.fragment(&object, 100 + 1000 * half as u64, from, from + 10, keyframe);
            world.store.add_fragment(&fragment).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_span_begins_at_the_keyframe_before_it() {
    let world = World::new().await;
    fill(&world, 3).await;
    let starts = async |from: i64, to: i64| -> Vec<i64> {
        let at = |s: i64| MediaTime::from_millis(s * 1000);
        let found = world.store.fragments(&world.stream, FIRST, at(from), at(to)).await.unwrap();
        found.iter().map(|f| f.start.nanos() / 1_000_000_000).collect()
    };
    assert_eq!(starts(15, 25).await, [0, 10, 20]);
    assert_eq!(starts(20, 30).await, [20], "both ends are exact");
    assert_eq!(starts(0, 1).await, [0]);
    assert_eq!(starts(55, 500).await, [40, 50]);
    assert_eq!(starts(60, 70).await, [] as [i64; 0]);
    assert_eq!(world.store.stored_to(&world.stream, FIRST).await.unwrap(), Some(MediaTime::from_millis(60_000)));
    assert_eq!(world.store.stored_to(&world.stream, Session::new(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_fragment_added_again_counts_once() {
    let world = World::new().await;
    fill(&world, 1).await;
    fill(&world, 1).await;
    world.store.end_session(&world.stream, FIRST, MediaTime::from_millis(20_000)).await.unwrap();
    let removable = world.store.removable_segments(10, MARGIN).await.unwrap();
    assert_eq!(removable.len(), 1);
    assert_eq!((removable[0].bytes, removable[0].ended_at), (2100, NOW.plus_millis(20_000)));
}

#[tokio::test]
async fn the_file_still_written_stays_until_its_session_ends() {
    let world = World::new().await;
    fill(&world, 3).await;
    assert_eq!(objects(&world).await, ["0.mp4", "1.mp4"]);
    assert_eq!(world.store.removable_segments(1, MARGIN).await.unwrap()[0].object, "0.mp4");
    world.store.end_session(&world.stream, FIRST, MediaTime::from_millis(60_000)).await.unwrap();
    assert_eq!(objects(&world).await, ["0.mp4", "1.mp4", "2.mp4"]);
    world.store.forget_segment("0.mp4").await.unwrap();
    assert_eq!(objects(&world).await, ["1.mp4", "2.mp4"]);
    let all =
        world.store.fragments(&world.stream, FIRST, MediaTime::ZERO, MediaTime::from_millis(99_000)).await.unwrap();
    assert!(all.iter().all(|f| f.object != "0.mp4"));
}

#[tokio::test]
async fn media_stays_until_the_clip_is_cut() {
    let world = World::new().await;
    fill(&world, 10).await;
    world.store.end_session(&world.stream, FIRST, MediaTime::from_millis(200_000)).await.unwrap();
    // 95..105 s and 30 s on either side: files 3 (60..80) to 6 (120..140) are needed.
    let free = ["0.mp4", "1.mp4", "2.mp4", "7.mp4", "8.mp4", "9.mp4"];
    world.commit(vec![world.detected(95)]).await;
    assert_eq!(objects(&world).await, free);
    world.commit(vec![world.finalized(95, 2)]).await;
    assert_eq!(objects(&world).await, free);
    let wide = world.store.removable_segments(100, MediaTime::from_millis(60_000)).await.unwrap();
    assert_eq!(wide.iter().map(|s| s.object.as_str()).collect::<Vec<_>>(), ["0.mp4", "9.mp4"], "clips that show more");
    world.commit(vec![world.deleted(95, 3)]).await;
    assert_eq!(world.state_of(95).await, HighlightState::Deleted);
    assert_eq!(objects(&world).await.len(), 10);
}

#[tokio::test]
async fn media_of_an_unknown_session_is_refused() {
    let world = World::new().await;
    let mut stray = world.fragment("x.mp4", 100, 0, 4, true);
    stray.session = Session::new(7);
    assert_eq!(world.store.add_fragment(&stray).await.unwrap_err().fault, Fault::NotFound);
}

#[tokio::test]
async fn however_much_is_removed_a_decided_moment_keeps_its_media() {
    let world = World::new().await;
    fill(&world, 300).await;
    // The oldest go first, and these are among the oldest: 60..160 s and 2960..3060 s are needed.
    world.commit(vec![world.finalized(95, 1), world.detected(2995)]).await;
    loop {
        let batch = world.store.removable_segments(64, MARGIN).await.unwrap();
        for segment in &batch {
            world.store.forget_segment(&segment.object).await.unwrap();
        }
        if batch.is_empty() {
            break;
        }
    }
    let all = world.store.fragments(&world.stream, FIRST, MediaTime::ZERO, MediaTime::from_millis(9_000_000)).await;
    let mut left: Vec<_> = all.unwrap().into_iter().map(|f| f.object).collect();
    left.dedup();
    let (decided, open) = (["3.mp4", "4.mp4", "5.mp4", "6.mp4"], "299.mp4");
    let raised = ["148.mp4", "149.mp4", "150.mp4", "151.mp4"];
    assert_eq!(left, [&decided[..], &raised[..], &[open]].concat());
}
