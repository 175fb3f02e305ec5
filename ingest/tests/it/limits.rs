//! What feeds may take, and what becomes of those that take more.

use crate::support::rtmp::{AUDIO, Client, VIDEO};
use crate::support::{Rig, Settings, created, outcome, publisher, stream};
use crest_core::OrganizationId;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::units::Span;
use crest_ingest::LimitsConfig;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Pixels per second of the publisher's picture as it is coded: 192 rows, of which twelve are cropped.
const PIXELS: u64 = 320 * 192 * 30;

fn limited(limits: LimitsConfig) -> Settings {
    Settings { limits, ..Settings::default() }
}

fn of(organization: &str, id: &str) -> Stream {
    Stream { organization_id: OrganizationId::from_raw(organization), ..created(id) }
}

fn explained(rig: &Rig, id: &str, limit: &str) -> bool {
    rig.store.get(id).state_reason.is_some_and(|reason| reason.contains(limit))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_feeds_and_the_operator_as_many_as_it_likes() {
    let streams = ["str_a", "str_b"].map(created).into_iter().chain([of("org_b", "str_c")]);
    let streams = streams.chain(["str_d", "str_e"].map(|id| of("org_operator", id))).collect();
    let rig = Rig::start(limited(LimitsConfig { tenant_feeds: 1, ..LimitsConfig::default() }), streams).await;
    let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until_event("stream.started", 1).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_b"), 5, &[])).await;
    assert!(!content && said.contains("limits.tenant_feeds"), "{said}");
    assert_eq!(rig.store.state("str_b"), StreamState::Created);
    assert!(explained(&rig, "str_b", "limits.tenant_feeds"));
    let others = ["str_c", "str_d", "str_e"].map(|id| publisher(&rig.url(&format!("key-of-{id}")), 60, &[]));
    rig.until_event("stream.started", 4).await;
    // Gone, it makes room at once.
    drop(feed);
    rig.until_event("stream.interrupted", 1).await;
    let next = publisher(&rig.url("key-of-str_b"), 60, &[]);
    rig.until_event("stream.started", 5).await;
    drop((others, next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_floods_is_cut_off_with_its_reason_and_alone() {
    let burst = Span::secs(2);
    let limits = LimitsConfig { feed_bits_per_second: 600_000, burst, ..LimitsConfig::default() };
    let rig = Rig::start(limited(limits), vec![created("str_calm"), created("str_flood")]).await;
    let calm = publisher(&rig.url("key-of-str_calm"), 60, &["-s", "64x36"]);
    rig.until_event("stream.started", 1).await;
    // Without loss: several megabits a second.
    let flood = publisher(&rig.url("key-of-str_flood"), 60, &["-qp", "0"]);
    let cut_off = |rig: &Rig| rig.store.state("str_flood") == StreamState::Interrupted;
    rig.until("the flood to be cut off", cut_off).await;
    assert!(explained(&rig, "str_flood", "limits.feed_bits_per_second"), "{:?}", rig.store.get("str_flood"));
    assert!(!outcome(flood).await.0, "the publisher notices");
    // It may not come back at once, and is told why it was cut off.
    let (content, said) = outcome(publisher(&rig.url("key-of-str_flood"), 5, &[])).await;
    assert!(!content && said.contains("limits.feed_bits_per_second") && said.contains("limits.pause"), "{said}");
    let heard = rig.bus.audio().len();
    rig.until("the other feed to go on", |rig| rig.bus.audio().len() > heard + 2).await;
    assert_eq!(rig.store.state("str_calm"), StreamState::Live);
    drop(calm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_what_is_not_taken_is_cut_off_with_its_reason_and_alone() {
    let burst = Span::secs(2);
    let limits = LimitsConfig { feed_bits_per_second: 600_000, burst, ..LimitsConfig::default() };
    let rig = Rig::start(limited(limits), vec![created("str_calm"), created("str_flood")]).await;
    let calm = publisher(&rig.url("key-of-str_calm"), 60, &["-s", "64x36"]);
    rig.until_event("stream.started", 1).await;
    // Sound that is taken, and pictures in a codec that is not: as much as may be sent of these does no harm.
    let mut flood = Client::publish(&rig.url("key-of-str_flood")).await;
    let unwanted = [&[0x22][..], &[7; 32 * 1024]].concat();
    flood.tag(AUDIO, 0, &[&[0xaf, 0, 0x11, 0x90]]).await;
    for at in 0..6 {
        flood.tag(VIDEO, at * 20, &[&unwanted]).await;
        flood.tag(AUDIO, at * 20, &[&[0xaf, 1, 0x21, 0, 0x49, 0x90, 2, 0x19, 0, 0x23, 0x80]]).await;
    }
    rig.until_event("stream.started", 2).await;
    let flooding = tokio::time::timeout(Duration::from_secs(30), flood.flood(VIDEO, &unwanted));
    let sent = flooding.await.expect("it is not cut off");
    let cut_off = |rig: &Rig| rig.store.state("str_flood") == StreamState::Interrupted;
    rig.until("the flood to be cut off", cut_off).await;
    let reason = rig.store.reason("stream.interrupted");
    assert!(reason.contains("limits.feed_bits_per_second") && reason.contains("not taken"), "{sent} sent: {reason}");
    let heard = rig.bus.audio().len();
    rig.until("the other feed to go on", |rig| rig.bus.audio().len() > heard + 2).await;
    assert_eq!(rig.store.state("str_calm"), StreamState::Live);
    drop(calm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_too_large_is_refused_before_anything_is_kept_or_decoded() {
    let limits = LimitsConfig { max_width: 300, ..LimitsConfig::default() };
    let rig = Rig::start(limited(limits), vec![created("str_a")]).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_a"), 5, &[])).await;
    assert!(!content, "{said}");
    rig.until("the reason", |rig| explained(rig, "str_a", "320 x 192")).await;
    assert!(explained(&rig, "str_a", "limits.max_width"));
    assert_eq!(rig.store.state("str_a"), StreamState::Created);
    assert!(rig.store.all_fragments().is_empty() && rig.bus.video().is_empty() && rig.store.all_sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_srt_a_picture_that_is_too_large_is_refused_as_well() {
    let limits = LimitsConfig { max_width: 300, ..LimitsConfig::default() };
    let feed = |id: &str| stream(id, SourceKind::Srt, StreamState::Created);
    let rig = Rig::start(limited(limits), vec![feed("str_large"), feed("str_small")]).await;
    let publish = |id: &str, size: &str| {
        let url = format!("srt://{}?streamid=key-of-{id}&pkt_size=1316", rig.ingest().srt_address());
        let mut command = Command::new("ffmpeg");
        command.args([
            "-loglevel",
            "error",
            "-nostdin",
            "-re",
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc2=s={size}:r=25"),
        ]);
        command.args(["-re", "-f", "lavfi", "-i", "sine=440:r=48000", "-t", "30", "-c:v", "libx264"]);
        command.args(["-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac", "-f", "mpegts", &url]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    };
    let (content, said) = outcome(publish("str_large", "320x180")).await;
    assert!(!content, "{said}");
    rig.until("the reason", |rig| explained(rig, "str_large", "320 x 192")).await;
    assert!(explained(&rig, "str_large", "limits.max_width"));
    assert_eq!(rig.store.state("str_large"), StreamState::Created);
    assert!(rig.store.all_fragments().is_empty() && rig.bus.video().is_empty() && rig.store.all_sessions().is_empty());
    // One that is small enough is taken.
    let small = publish("str_small", "160x96");
    rig.until_event("stream.started", 1).await;
    drop(small);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_full_refuses_newcomers_and_leaves_the_others_alone() {
    let limits = LimitsConfig {
        pixels_per_second: PIXELS * 3 / 2,
        burst: Span(Duration::from_millis(800)),
        pause: Span(Duration::ZERO),
        ..LimitsConfig::default()
    };
    let rig = Rig::start(limited(limits), vec![created("str_a"), of("org_b", "str_b")]).await;
    let first = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("samples", |rig| rig.bus.video().len() >= 6).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_b"), 5, &[])).await;
    assert!(!content, "{said}");
    rig.until("the reason", |rig| explained(rig, "str_b", "limits.pixels_per_second")).await;
    assert_eq!(rig.store.state("str_b"), StreamState::Created, "nothing of it was taken");
    let seen = rig.bus.video().len();
    rig.until("the first feed to go on", |rig| rig.bus.video().len() > seen + 4).await;
    assert_eq!(rig.store.state("str_a"), StreamState::Live);
    // What it had is given back with it.
    drop(first);
    rig.until_event("stream.interrupted", 1).await;
    let next = publisher(&rig.url("key-of-str_b"), 60, &[]);
    rig.until_event("stream.started", 2).await;
    drop(next);
}
