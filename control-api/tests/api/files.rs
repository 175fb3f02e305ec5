//! Clips as browsers and download tools ask for them.

use crest_core::highlight::HighlightState;

use crate::world::{ALICE, Answer, BOB, World};

const CLIP: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

async fn world_with_clip() -> (World, String) {
    let world = World::new();
    let stream = world.stream(ALICE).await;
    let id = world.highlight("alice", &stream, 4, HighlightState::Ready, CLIP);
    (world, format!("/v1/highlights/{id}/clip"))
}

async fn ranged(world: &World, path: &str, range: &str) -> Answer {
    world.ask("GET", path, ALICE, &[("range", range)]).await
}

#[tokio::test]
async fn a_clip_is_sent_whole_or_in_part() {
    let (world, path) = world_with_clip().await;
    let whole = world.get(&path, ALICE).await;
    assert_eq!((whole.status.as_u16(), whole.body.as_slice()), (200, CLIP));
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), "36");
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 35),
        ("bytes=10-12", 10, 12),
        ("bytes=30-1000", 30, 35),
        ("bytes=-6", 30, 35),
        ("bytes=-1000", 0, 35),
    ] {
        let part = ranged(&world, &path, range).await;
        assert_eq!((part.status.as_u16(), part.body.as_slice()), (206, &CLIP[from..=to]), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/36"));
        assert_eq!(part.header("content-length"), (to - from + 1).to_string());
    }
    for range in ["bytes=36-", "bytes=1000-2000", "bytes=-0"] {
        let none = ranged(&world, &path, range).await;
        none.refused(416, "range_not_satisfiable");
        assert_eq!(none.header("content-range"), "bytes */36", "{range}");
    }
    for range in ["bytes=0-1,5-6", "bytes=5-1", "lines=1-2", "nonsense"] {
        let all = ranged(&world, &path, range).await;
        assert_eq!((all.status.as_u16(), all.body.as_slice()), (200, CLIP), "{range}");
    }
}

#[tokio::test]
async fn head_and_conditions_spare_the_bytes() {
    let (world, path) = world_with_clip().await;
    let head = world.ask("HEAD", &path, ALICE, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, "36", 0));
    let tag = head.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".into()] {
        let same = world.ask("GET", &path, ALICE, &[("if-none-match", &known), ("range", "bytes=0-1")]).await;
        assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, tag.as_str()), "{known}");
    }
    assert_eq!(world.ask("GET", &path, ALICE, &[("if-none-match", "\"other\"")]).await.body, CLIP);
    for (condition, status) in [(tag.as_str(), 206), ("\"other\"", 200)] {
        let headers = [("range", "bytes=0-1"), ("if-range", condition)];
        assert_eq!(world.ask("GET", &path, ALICE, &headers).await.status, status, "{condition}");
    }
}

#[tokio::test]
async fn what_cannot_be_played_says_why() {
    let (world, path) = world_with_clip().await;
    let stream = world.stream(ALICE).await;
    for (entry, state, status, code) in [
        (1, HighlightState::Provisional, 409, "clip_not_ready"),
        (2, HighlightState::Final, 409, "clip_not_ready"),
        (3, HighlightState::Failed, 404, "clip_not_available"),
        (4, HighlightState::Deleted, 404, "clip_not_available"),
    ] {
        let id = world.highlight("alice", &stream, entry, state, b"");
        for file in ["clip", "thumbnail"] {
            world.get(&format!("/v1/highlights/{id}/{file}"), ALICE).await.refused(status, code);
        }
    }
    // Ready without a picture, and a file that somebody removed.
    world.get(&path.replace("/clip", "/thumbnail"), ALICE).await.refused(404, "clip_not_available");
    std::fs::remove_dir_all(world.objects.path().join("clips")).unwrap();
    world.get(&path, ALICE).await.refused(404, "clip_not_available");
    // A key that leads out of the folder is a defect, never an answer.
    world.store.highlights.lock().unwrap().iter_mut().for_each(|h| h.clip = Some("../../etc/hostname".into()));
    world.get(&path, ALICE).await.refused(500, "internal");
}

#[tokio::test]
async fn where_clips_lie_elsewhere_the_answer_is_a_fresh_link() {
    let (world, path) = world_with_clip().await;
    *world.media.links.lock().unwrap() = Some("https://bucket.test".into());
    let link = world.get(&path, ALICE).await;
    assert_eq!((link.status.as_u16(), link.body.len()), (307, 0));
    let location = link.header("location");
    assert!(location.starts_with("https://bucket.test/clips/") && location.ends_with(".mp4?valid=3600"), "{location}");
    assert_eq!(link.header("cache-control"), "no-store");
    assert_eq!(world.ask("HEAD", &path, ALICE, &[]).await.status.as_u16(), 307);
    world.get(&path, BOB).await.refused(404, "not_found");
    for entry in std::fs::read_dir(world.objects.path().join("clips")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    world.get(&path, ALICE).await.refused(404, "clip_not_available");
}
