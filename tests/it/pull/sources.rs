//! Files and pages that are no playlists.

use anyhow::{Context, Result, ensure};

use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::harness::run;
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
