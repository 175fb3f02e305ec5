//! The main thing: a broadcast goes in over RTMP, clips and signed webhooks come out. It is published
//! once; each test looks at another side of what came of it.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::OnceCell;

use crate::broadcast::{self, MOMENTS};
use crate::harness::{decodes_silently, probe, run};
use crate::publisher::Publisher;
use crate::receiver::{Received, Receiver};
use crate::server::{Api, Server};
use crate::verifiers::verdicts;

/// Until a clip is ready after the last moment went out.
const CLIP: Duration = Duration::from_secs(60);

/// A broadcast that is over, and what was told of it.
struct Aired {
    api: Api,
    stream: String,
    secret: String,
    webhook: String,
    webhooks: Vec<Received>,
}

/// Publishes the broadcast, once for all tests.
async fn aired() -> Result<&'static Aired> {
    static AIRED: OnceCell<Aired> = OnceCell::const_new();
    AIRED.get_or_try_init(air).await
}

async fn air() -> Result<Aired> {
    let server = Server::shared().await?;
    let api = server.tenant().await?;
    let receiver = Receiver::register(&api).await?;
    let made = api.post("/v1/streams", json!({ "name": "the broadcast", "source": { "kind": "rtmp" } })).await?;
    let stream = made["id"].as_str().context("a stream without id")?.to_owned();
    ensure!(made["ingest"]["rtmp_url"] == server.rtmp, "the API tells another RTMP address: {made}");
    let url = format!("{}/{}", server.rtmp, made["ingest"]["stream_key"].as_str().unwrap_or_default());
    let published = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?
        .end(Duration::from_secs_f64(broadcast::LENGTH + 60.0))
        .await?;
    ensure!(published.code == Some(0), "ffmpeg could not publish: {} {}", published.err, server.log_tail());
    receiver.wait_for("highlight.ready", MOMENTS.len(), CLIP).await.with_context(|| server.log_tail())?;
    api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
    receiver.wait_for("stream.ended", 1, Duration::from_secs(15)).await?;
    Ok(Aired {
        api,
        stream,
        secret: receiver.secret.clone(),
        webhook: receiver.id.clone(),
        webhooks: receiver.received(),
    })
}

impl Aired {
    /// What every webhook of a type told.
    fn told(&self, kind: &str) -> Vec<Value> {
        self.webhooks.iter().filter(|r| r.kind() == kind).map(Received::data).collect()
    }

    /// A file of the first highlight, fetched from where the webhook says it is.
    async fn fetch(&self, address: &str, folder: &Path, name: &str) -> Result<PathBuf> {
        let url = self.told("highlight.ready")[0][address].as_str().context("no address")?.to_owned();
        let answer = self.api.send(Method::GET, &url, None).await?;
        ensure!(answer.status == StatusCode::OK, "{url}: {}", answer.status);
        let path = folder.join(name);
        std::fs::write(&path, &answer.body)?;
        Ok(path)
    }
}

fn seconds(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}

#[test]
fn webhooks_tell_the_story_in_order_and_without_gaps() -> Result<()> {
    run(async {
        let aired = aired().await?;
        let kinds: Vec<String> = aired.webhooks.iter().map(Received::kind).collect();
        assert_eq!(kinds.first().map(String::as_str), Some("stream.started"), "{kinds:?}");
        assert_eq!(kinds.last().map(String::as_str), Some("stream.ended"), "{kinds:?}");
        assert_eq!(kinds.iter().filter(|k| *k == "stream.started").count(), 1, "{kinds:?}");
        let sequences: Vec<_> = aired.webhooks.iter().map(|r| r.data()["sequence"].as_u64()).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).map(Some).collect::<Vec<_>>());
        for ready in aired.told("highlight.ready") {
            let of_it = |r: &&Received| r.data()["id"] == ready["id"];
            let story: Vec<String> = aired.webhooks.iter().filter(of_it).map(Received::kind).collect();
            assert_eq!(story.first().map(String::as_str), Some("highlight.detected"), "{story:?}");
            assert_eq!(story.last().map(String::as_str), Some("highlight.ready"), "{story:?}");
        }
        for webhook in &aired.webhooks {
            assert_eq!(webhook.data()["stream_id"], aired.stream);
            assert!(webhook.json()["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{}", webhook.json());
        }
        Ok(())
    })
}

#[test]
fn the_moments_are_found_and_nothing_in_the_quiet() -> Result<()> {
    run(async {
        let aired = aired().await?;
        let found = aired.told("highlight.ready");
        for (from, to) in MOMENTS {
            let covers = |h: &&Value| seconds(h, "start_s") < to && seconds(h, "end_s") > from;
            assert_eq!(found.iter().filter(covers).count(), 1, "the moment at {from} s to {to} s: {found:#?}");
        }
        for highlight in &found {
            let peak = seconds(highlight, "peak_s");
            assert!(MOMENTS.iter().any(|(from, to)| (from - 2.0..to + 2.0).contains(&peak)), "{highlight:#}");
            let score = seconds(highlight, "score");
            assert!((0.0..=1.0).contains(&score) && score > 0.0, "{highlight:#}");
            assert!(highlight["factors"].as_array().is_some_and(|f| !f.is_empty()), "{highlight:#}");
        }
        // What was raised and not kept would have been a false alarm.
        assert_eq!(aired.told("highlight.detected").len(), MOMENTS.len());
        let listed = aired.api.get(&format!("/v1/streams/{}/highlights", aired.stream)).await?;
        let listed = listed["data"].as_array().context("no list")?;
        assert_eq!(listed.len(), MOMENTS.len());
        assert!(listed.iter().all(|h| h["state"] == "ready"), "{listed:#?}");
        Ok(())
    })
}

#[test]
fn three_foreign_verifiers_accept_every_webhook_and_refuse_what_was_changed() -> Result<()> {
    run(async {
        let aired = aired().await?;
        assert!(verdicts(&aired.secret, &aired.webhooks).await?.all(true));
        let tampered: Vec<Received> = aired
            .webhooks
            .iter()
            .map(|r| {
                let body = String::from_utf8_lossy(&r.body).replacen("\"sequence\":", "\"sequence\":1", 1);
                Received { headers: r.headers.clone(), body: body.into() }
            })
            .collect();
        assert!(tampered.iter().zip(&aired.webhooks).all(|(a, b)| a.body != b.body));
        assert!(verdicts(&aired.secret, &tampered).await?.all(false));
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(verdicts(other, &aired.webhooks).await?.all(false));
        Ok(())
    })
}

#[test]
fn every_delivery_is_accounted_for() -> Result<()> {
    run(async {
        let aired = aired().await?;
        let path = format!("/v1/webhooks/{}/deliveries", aired.webhook);
        let succeeded = || async {
            let listed = aired.api.get(&path).await?;
            let all = listed["data"].as_array().context("no list")?.clone();
            Ok((all.iter().all(|d| d["state"] == "delivered")).then_some(all))
        };
        let all = crate::harness::wait_for("every delivery to be noted", Duration::from_secs(10), succeeded).await?;
        let mut told: Vec<&str> = all.iter().filter_map(|d| d["id"].as_str()).collect();
        let mut seen: Vec<&str> = aired.webhooks.iter().map(|r| r.header("webhook-id")).collect();
        told.sort_unstable();
        seen.sort_unstable();
        assert_eq!(told, seen);
        Ok(())
    })
}

#[test]
fn the_clip_plays_and_covers_the_highlight() -> Result<()> {
    run(async {
        let aired = aired().await?;
        let folder = tempfile::tempdir()?;
        let clip = aired.fetch("clip_url", folder.path(), "clip.mp4").await?;
        assert_eq!(probe(&clip, "v:0", "stream=codec_name,width,height").await?, "h264,640,360");
        assert_eq!(probe(&clip, "a:0", "stream=codec_name,sample_rate").await?, "aac,48000");
        decodes_silently(&clip).await?;
        let first = probe(&clip, "v:0", "packet=pts_time,flags").await?;
        let first = first.lines().next().unwrap_or_default();
        assert!(first.contains(",K"), "a clip that does not begin at a keyframe: {first}");
        let told = &aired.told("highlight.ready")[0];
        let (start, length) = (seconds(told, "clip_start_s"), seconds(told, "clip_duration_s"));
        assert!(start <= seconds(told, "start_s") && seconds(told, "end_s") <= start + length, "{told:#}");
        for (kind, share) in [("v:0", 0.3), ("a:0", 0.5)] {
            let real: f64 = probe(&clip, kind, "stream=duration").await?.parse().context("no duration")?;
            assert!((real - length).abs() < share, "{kind} lasts {real} s, told are {length} s");
        }
        // Playable while it loads: the index comes before the media.
        let bytes = std::fs::read(&clip)?;
        let at = |name: &[u8]| bytes.windows(4).position(|window| window == name);
        assert!(at(b"moov").context("no moov")? < at(b"mdat").context("no mdat")?);
        Ok(())
    })
}

#[test]
fn a_player_may_ask_for_a_part_of_the_clip() -> Result<()> {
    run(async {
        let aired = aired().await?;
        let url = aired.told("highlight.ready")[0]["clip_url"].as_str().context("no clip")?.to_owned();
        let whole = aired.api.send(Method::GET, &url, None).await?;
        assert_eq!((whole.status, whole.header("content-type")), (StatusCode::OK, "video/mp4"));
        let part = aired.api.raw(Method::GET, &url, &[("range", "bytes=100-299")], Vec::new()).await?;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.header("content-range"), format!("bytes 100-299/{}", whole.body.len()));
        assert_eq!(part.body, whole.body[100..300]);
        let beyond = format!("bytes={}-", whole.body.len());
        let beyond = aired.api.raw(Method::GET, &url, &[("range", &beyond)], Vec::new()).await?;
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        Ok(())
    })
}

#[test]
fn the_thumbnail_is_a_picture_of_the_feed() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let thumbnail = aired().await?.fetch("thumbnail_url", folder.path(), "thumbnail.jpg").await?;
        let looks = probe(&thumbnail, "v:0", "stream=codec_name,width,height").await?;
        let [codec, width, height] = looks.split(',').collect::<Vec<_>>()[..] else { panic!("{looks}") };
        assert_eq!(codec, "mjpeg");
        let (width, height): (f64, f64) = (width.parse()?, height.parse()?);
        assert!((width / height - 16.0 / 9.0).abs() < 0.02, "{looks}");
        decodes_silently(&thumbnail).await
    })
}
