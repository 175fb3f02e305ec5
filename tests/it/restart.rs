//! Stopping and starting again.

use anyhow::{Context, Result};
use serde_json::json;
use std::time::Duration;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::Server;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn sigterm_with_a_feed_running_is_clean_and_the_stream_goes_on_after_the_next_start() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let api = server.as_operator();
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "restarted", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let key = made["ingest"]["stream_key"].as_str().context("no key")?.to_owned();
        let file = broadcast::file().await?;
        let publisher = Publisher::ffmpeg(file, &[], &format!("{}/{key}", server.rtmp))?;
        receiver.wait_for("stream.started", 1, SOON).await?;

        let status = server.terminate(SOON).await?;
        assert_eq!(status.code(), Some(0));
        let cut_off = publisher.end(SOON).await?;
        assert!(cut_off.code.is_some_and(|code| code != 0), "{cut_off:?}");

        let server = Server::start(folder.path()).await?;
        let api = server.as_operator();
        let shown = api.get(&format!("/v1/streams/{stream}")).await?;
        assert_eq!(shown["state"], "interrupted", "{shown}");
        receiver.wait_for("stream.interrupted", 1, SOON).await?;
        let publisher = Publisher::ffmpeg(file, &[], &format!("{}/{key}", server.rtmp))?;
        let resumed = receiver.wait_for("stream.resumed", 1, SOON).await?.data();
        assert_eq!(resumed["session"], 2, "{resumed}");
        publisher.kill().await?;
        api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        receiver.wait_for("stream.ended", 1, SOON).await?;
        let sequences = || async {
            let all: Vec<_> = receiver.received().iter().filter_map(|r| r.data()["sequence"].as_u64()).collect();
            Ok((all == (1..=all.len() as u64).collect::<Vec<_>>()).then_some(()))
        };
        wait_for("sequences without a gap", SOON, sequences).await?;
        assert_eq!(server.terminate(SOON).await?.code(), Some(0));
        Ok(())
    })
}
