//! Files and pages that are no playlists.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::origin::{self, LENGTH, Mood, Origin};
use super::stage::{SOON, Stage};
use crate::harness::{run, wait_for};
use crate::stored::span;

#[test]
fn files_are_pulled_whatever_they_are_packed_in() -> Result<()> {
    run(async {
        let origin = Origin::start().await?;
        let folder = origin.folder.path().display().to_string();
        let stage = Stage::set(&[("CREST_PULL__FILES", &folder)]).await?;
        let source = origin::source().await?;
        std::fs::copy(source, origin.path("file.mp4"))?;
        for name in ["file.ts", "file.mkv"] {
            let to = origin.path(name);
            let args =
                ["-v", "error", "-i", source.to_str().context("text")?, "-c", "copy", to.to_str().context("text")?];
            crate::harness::succeed("ffmpeg", args).await?;
        }
        let mut urls: Vec<_> = ["file.mp4", "file.ts", "file.mkv"].iter().map(|name| origin.url(name)).collect();
        urls.push(format!("file://{folder}/file.mp4"));
        let mut streams = Vec::new();
        for url in urls {
            streams.push((stage.pull(&url).await?, url));
        }
        for (stream, url) in streams {
            let shown = stage.until_state(&stream, "ended").await?;
            assert_eq!(shown["state_reason"], "the file is over", "{url}");
            let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
            ensure!(span(&video) > LENGTH - 0.5 && span(&audio) > LENGTH - 0.5, "{url}: {} s", span(&video));
        }
        let outside = stage.pull(&format!("file://{folder}/../../etc/passwd")).await?;
        let shown = stage.until_state(&outside, "failed").await?;
        ensure!(shown["state_reason"].as_str().is_some_and(|why| why.contains("no such file")), "{shown}");
        let left = std::fs::read_dir(stage.server.data.join("pull")).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "nothing that was fetched stays behind");
        Ok(())
    })
}

#[test]
fn files_that_drip_do_not_keep_those_of_other_tenants_waiting() -> Result<()> {
    run(async {
        let (origin, slow) = (Origin::start().await?, Origin::start().await?);
        slow.set(Mood::Drips);
        // These never end, nor does waiting for them.
        let settings = [("CREST_PULL__FETCHING", "2"), ("CREST_PULL__MIN_RATE", "0"), ("CREST_PULL__PATIENCE", "2s")];
        let stage = Stage::set(&settings).await?;
        let (other, mut dripping) = (stage.server.tenant().await?, Vec::new());
        for number in 0..4 {
            let source = json!({ "kind": "url", "url": slow.url(&format!("{number}.mp4")) });
            let made = other.post("/v1/streams", json!({ "name": "drips", "source": source })).await?;
            dripping.push(made["id"].as_str().context("a stream without id")?.to_owned());
        }
        wait_for("all to be asked for", SOON, || async { Ok((slow.asked().len() >= 4).then_some(())) }).await?;
        std::fs::copy(origin::source().await?, origin.path("file.mp4"))?;
        let stream = stage.pull(&origin.url("file.mp4")).await?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["state_reason"], "the file is over");
        for stream in dripping {
            let shown = other.get(&format!("/v1/streams/{stream}")).await?;
            assert_eq!(shown["state"], "created", "who waits for its turn is not silent: {shown}");
        }
        Ok(())
    })
}

#[test]
fn a_file_that_drips_loses_its_turn() -> Result<()> {
    run(async {
        let slow = Origin::start().await?;
        slow.set(Mood::Drips);
        // The rate is averaged over three seconds, so that the second waits for its turn for longer than patience.
        let settings = [("CREST_PULL__FETCHING", "1"), ("CREST_PULL__TIMEOUT", "1s"), ("CREST_PULL__PATIENCE", "2s")];
        let stage = Stage::set(&settings).await?;
        let streams = [stage.pull(&slow.url("one.mp4")).await?, stage.pull(&slow.url("other.mp4")).await?];
        for stream in streams {
            let shown = stage.until_state(&stream, "failed").await?;
            ensure!(shown["state_reason"].as_str().is_some_and(|why| why.contains("pull.min_rate")), "{shown}");
        }
        Ok(())
    })
}
