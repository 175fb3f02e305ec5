//! Stream keys: replaced while a publisher is on, and kept out of sight.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::Server;

const SOON: Duration = Duration::from_secs(20);

fn key(stream: &Value) -> Result<String> {
    stream["ingest"]["stream_key"].as_str().map(str::to_owned).with_context(|| format!("no key: {stream}"))
}

#[test]
fn a_key_that_was_replaced_is_refused_and_whoever_came_with_it_is_disconnected() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        let api = server.tenant().await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
        let path = format!("/v1/streams/{}", made["id"].as_str().context("no id")?);
        let old = key(&made)?;
        let publish =
            async |key: &str| Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp));
        let first = publish(&old).await?;
        receiver.wait_for("stream.started", 1, SOON).await?;

        let rotated = api.post(&format!("{path}/rotate-key"), json!({})).await?;
        let new = key(&rotated)?;
        ensure!(new != old, "the key is the same");
        let said = first.end(SOON).await?;
        ensure!(said.code.is_some_and(|code| code != 0), "it went on publishing: {said:?}");
        receiver.wait_for("stream.interrupted", 1, SOON).await?;
        let shown = api.get(&path).await?;
        assert_eq!(
            (&shown["state"], &shown["state_reason"]),
            (&json!("interrupted"), &json!("its stream key was replaced"))
        );

        let refused = publish(&old).await?.end(SOON).await?;
        assert!(refused.err.contains("unknown stream key"), "{}", refused.err);
        let _second = publish(&new).await?;
        receiver.wait_for("stream.resumed", 1, SOON).await?;
        // Nobody who came with the present key is sent away when an earlier one is told of again.
        let live = || async { Ok((api.get(&path).await?["state"] == "live").then_some(())) };
        wait_for("the stream to be live", SOON, live).await?;
        api.post(&format!("{path}/stop"), json!({})).await?;
        receiver.wait_for("stream.ended", 1, SOON).await?;

        let log = std::fs::read_to_string(&server.log)?;
        for key in [&old, &new] {
            let secret = key.strip_prefix("sk_live_").context("a key of another shape")?;
            ensure!(!log.contains(secret), "a stream key is in the log");
        }
        Ok(())
    })
}
