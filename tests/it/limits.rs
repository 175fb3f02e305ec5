//! Feeds that take more than they may: told why, cut off alone, and nothing of them is decoded.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::broadcast;
use crate::garbage::client::{AUDIO, Client, Tag, VIDEO, tags_of};
use crate::garbage::stage::{SOON, Stage};
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::pull::origin::{self, Origin};
use crate::pull::stage as pull;
use crate::stored::{segments, span};

const REFUSED: &str = "crest_feeds_refused_total";

/// An H.264 parameter set of 8208 x 8208 pixels, baseline, and one of 262144 x 262144.
const LARGE: [u8; 11] = [0x67, 0x42, 0x00, 0x1e, 0xda, 0x00, 0x20, 0x10, 0x04, 0x03, 0x90];
const ABSURD: [u8; 14] = [0x67, 0x42, 0x00, 0x1e, 0xda, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x19];

/// Waits until a stream says this of itself.
async fn explained(stage: &Stage, stream: &str, words: &str) -> Result<Value> {
    let question = || async {
        let shown = stage.api.get(&format!("/v1/streams/{stream}")).await?;
        Ok(shown["state_reason"].as_str().is_some_and(|reason| reason.contains(words)).then_some(shown))
    };
    wait_for(&format!("a stream to explain {words}"), SOON, question).await.with_context(|| stage.server.log_tail())
}

/// A configuration that announces this parameter set.
fn configuration(set: &[u8]) -> Result<Tag> {
    let length = u8::try_from(set.len())?;
    let body = [&[0x17, 0, 0, 0, 0, 1, 0x42, 0, 0x1e, 0xff, 0xe1, 0, length][..], set, &[1, 0, 2, 0x68, 0xce]].concat();
    Ok(Tag { kind: VIDEO, at: 0, body })
}

#[test]
fn a_picture_that_is_a_bomb_ends_its_feed_alone() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let tags = tags_of(broadcast::file().await?, 4).await?;
        let keyframe = tags.iter().find(|tag| tag.kind == VIDEO && tag.body.get(..2) == Some(&[0x17, 1]));
        let keyframe = keyframe.context("no keyframe")?;
        // Announced by the configuration, before anything else.
        for (index, set) in [&LARGE[..], &ABSURD].into_iter().enumerate() {
            let (stream, key) = stage.stream().await?;
            let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
            publisher.tag(&configuration(set)?).await?;
            publisher.tag(keyframe).await?;
            publisher.closed().await?;
            let shown = explained(&stage, &stream, "limits.max_width").await?;
            ensure!(shown["state"] == "created", "{shown}");
            ensure!(stage.segments(&stream).is_empty(), "something of it is stored");
            stage.counted(REFUSED, "picture_size", 1.0 + index as f64).await?;
        }
        // In the middle of a good feed, inside a picture.
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        publisher.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        let unit = [&[0, 0, 0, u8::try_from(LARGE.len())?][..], &LARGE].concat();
        let (head, picture) = keyframe.body.split_at_checked(5).context("a short keyframe")?;
        publisher.tag(&Tag { kind: VIDEO, at: 5000, body: [head, &unit, picture].concat() }).await?;
        publisher.closed().await?;
        let shown = explained(&stage, &stream, "8208 x 8208").await?;
        ensure!(shown["state"] == "interrupted", "{shown}");
        stage.counted(REFUSED, "picture_size", 3.0).await?;
        stage.unharmed().await
    })
}

#[test]
fn a_flood_is_cut_off_and_a_tenant_keeps_to_its_quota() -> Result<()> {
    run(async {
        let settings = [
            ("CREST_LIMITS__FEED_BITS_PER_SECOND", "8_000_000"),
            ("CREST_LIMITS__BURST", "2s"),
            ("CREST_LIMITS__TENANT_FEEDS", "1"),
        ];
        let settings = settings.map(|(key, value)| (key, value.replace('_', "")));
        let stage = Stage::set(&settings.each_ref().map(|(key, value)| (*key, value.as_str()))).await?;
        let tags = tags_of(broadcast::file().await?, 2).await?;
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        publisher.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        // As fast as it is taken: half a megabyte at a time, of pictures that are none.
        let flood = Tag {
            kind: VIDEO,
            at: 2000,
            body: [&[0x27, 1, 0, 0, 0, 0, 7, 0xff, 0xfc][..], &vec![1; 0x7_fffc]].concat(),
        };
        for number in 0..200 {
            publisher.shout(&crate::garbage::client::message(6, VIDEO, 1, 2000 + number, &flood.body, 4096)).await;
        }
        publisher.closed().await?;
        explained(&stage, &stream, "limits.feed_bits_per_second").await?;
        stage.counted(REFUSED, "feed_bits_per_second", 1.0).await?;
        // It is told so when it comes back at once.
        let back = Client::publish(&stage.server.rtmp, &key).await.err().map(|error| error.to_string());
        ensure!(back.as_ref().is_some_and(|said| said.contains("limits.pause")), "{back:?}");

        let tenant = stage.server.tenant().await?;
        let mut feeds = Vec::new();
        for refused in [false, true] {
            let made = tenant.post("/v1/streams", json!({ "name": "one", "source": { "kind": "rtmp" } })).await?;
            let key = made["ingest"]["stream_key"].as_str().context("no key")?;
            let url = format!("{}/{key}", stage.server.rtmp);
            if refused {
                let said = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?.end(SOON).await?;
                ensure!(said.err.contains("limits.tenant_feeds"), "{said:?}");
                let shown = tenant.get(&format!("/v1/streams/{}", made["id"].as_str().unwrap_or_default())).await?;
                ensure!(shown["state"] == "created", "{shown}");
                let reason = shown["state_reason"].as_str().unwrap_or_default();
                ensure!(reason.contains("limits.tenant_feeds"), "{shown}");
            } else {
                feeds.push(Publisher::looped(broadcast::file().await?, &url)?);
                let path = format!("/v1/streams/{}", made["id"].as_str().unwrap_or_default());
                let live = || async { Ok((tenant.get(&path).await?["state"] == "live").then_some(())) };
                wait_for("the tenant's feed", SOON, live).await?;
            }
        }
        drop(feeds);
        stage.unharmed().await
    })
}

#[test]
fn what_is_pulled_keeps_to_the_limits() -> Result<()> {
    run(async {
        let origin = Origin::start().await?;
        let stage = pull::Stage::set(&[("CREST_LIMITS__MAX_WIDTH", "300")]).await?;
        origin::cut(origin::source().await?, &origin.path("large.m3u8"), &[]).await?;
        let small = origin.path("small.mp4");
        origin::encode(&small, "160x96", 8.0).await?;
        std::fs::copy(origin::source().await?, origin.path("large.mp4"))?;
        for large in ["large.m3u8", "large.mp4"] {
            let stream = stage.pull(&origin.url(large)).await?;
            // As it is coded: in blocks of 16 pixels.
            let explained = |shown: &Value| {
                let reason = shown["state_reason"].as_str().unwrap_or_default();
                reason.contains("320 x 192") && reason.contains("limits.max_width")
            };
            let shown = stage.until(&stream, "the limit named", explained).await?;
            ensure!(shown["state"] != "live", "{shown}");
            ensure!(segments(&stage.server.data, &stream).is_empty(), "something of {large} is stored");
        }
        let stream = stage.pull(&origin.url("small.mp4")).await?;
        stage.until_state(&stream, "ended").await?;
        ensure!(span(&stage.times(&stream, "v").await?) > 7.0);
        Ok(())
    })
}

#[test]
fn a_feed_whose_codecs_change_goes_on_and_its_clip_plays() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let folder = tempfile::tempdir()?;
        // Another size, rate and number of channels; then other parameters of the codec at the first size.
        let kinds = [
            ("640x360", 30, 48_000, 2, "-bf 2 -profile:v high"),
            ("320x180", 25, 44_100, 1, "-bf 0 -profile:v baseline"),
            ("640x360", 30, 22_050, 2, "-bf 1 -profile:v main"),
        ];
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        let mut at = 0;
        for (index, (size, frames, rate, channels, options)) in kinds.into_iter().enumerate() {
            let file = folder.path().join(format!("{index}.flv"));
            let path = file.display().to_string();
            let (picture, tone) = (format!("testsrc2=size={size}:rate={frames}"), format!("sine=440:r={rate}"));
            let (channels, gop) = (channels.to_string(), frames.to_string());
            let args =
                ["-nostdin", "-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone, "-t", "5"];
            let coded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", &gop];
            let sound = ["-c:a", "aac", "-ac", &channels, "-ar"];
            let rate = rate.to_string();
            let args =
                args.into_iter().chain(coded).chain(options.split(' ')).chain(sound).chain([rate.as_str(), &path]);
            crate::harness::succeed("ffmpeg", args).await?;
            let tags = tags_of(&file, 5).await?;
            for tag in tags.iter().filter(|tag| tag.kind == AUDIO || tag.body.get(1) != Some(&2)) {
                publisher.tag(&tag.at(tag.at + at)).await?;
            }
            at += 5000;
            if index == 0 {
                stage.becomes(&stream, "live").await?;
            }
        }
        // Over the first change.
        stage.api.post(&format!("/v1/streams/{stream}/markers"), json!({ "t": 5.0, "label": "the change" })).await?;
        publisher.finish().await?;
        stage.becomes(&stream, "interrupted").await?;
        let shown = stage.api.get(&format!("/v1/streams/{stream}")).await?;
        ensure!(shown["session"] == 1, "a change began another session: {shown}");
        stage.api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        let ready = || async {
            let list = stage.api.get(&format!("/v1/streams/{stream}/highlights")).await?;
            let data = list["data"].as_array().context("no list")?.clone();
            Ok(data.into_iter().find(|highlight| highlight["state"] == "ready"))
        };
        let ready = wait_for("the clip", SOON, ready).await.with_context(|| stage.server.log_tail())?;
        let url = ready["clip_url"].as_str().context("no clip")?;
        let clip = stage.api.send(reqwest::Method::GET, url, None).await?;
        let file = folder.path().join("clip.mp4");
        std::fs::write(&file, &clip.body)?;
        crate::harness::decodes_silently(&file).await?;
        let mut sizes = Vec::new();
        for segment in stage.segments(&stream) {
            crate::harness::decodes_silently(&segment).await?;
            sizes.push(crate::harness::probe(&segment, "v:0", "stream=width").await?.trim().to_owned());
        }
        ensure!(sizes.iter().any(|width| width.starts_with("640")), "{sizes:?}");
        ensure!(sizes.iter().any(|width| width.starts_with("320")), "{sizes:?}");
        stage.unharmed().await
    })
}
