//! Five processes on Kafka, PostgreSQL and S3 do what one does.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

use crate::broadcast;
use crate::cluster::Cluster;
use crate::harness::{decodes_silently, probe, run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::services::Home;

const PROCESSES: [&str; 5] = ["analyze", "api", "deliver", "fuse", "ingest"];
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn five_processes_make_a_clip_and_webhooks_of_a_stream() -> Result<()> {
    run(async {
        let home = Home::new()?;
        let cluster = Cluster::new(&PROCESSES, &home.settings())?;
        cluster.start_all().await?;
        let api = cluster.api();
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "final", "source": { "kind": "rtmp" } })).await?;
        let (stream, ingest) = (made["id"].as_str().context("no id")?, &made["ingest"]);
        assert_eq!(ingest["rtmp_url"], cluster.rtmp(), "the address of the process that takes feeds");
        let url = format!("{}/{}", cluster.rtmp(), ingest["stream_key"].as_str().context("no key")?);
        let publisher = Publisher::looped(broadcast::file().await?, &url)?;

        let mark = || async {
            let at = json!({ "at": jiff::Timestamp::now().to_string() });
            let answer = api.send(Method::POST, &format!("/v1/streams/{stream}/markers"), Some(at)).await?;
            Ok(answer.status.is_success().then_some(()))
        };
        wait_for("a mark to be taken", LIMIT, mark).await.with_context(|| cluster.log())?;
        let ready = receiver.wait_for("highlight.ready", 1, LIMIT).await.with_context(|| cluster.log())?;
        let kinds = receiver.kinds();
        assert_eq!(kinds.iter().take(2).collect::<Vec<_>>(), ["stream.started", "highlight.detected"]);
        clip(&ready.data(), &cluster).await?;

        // Whoever steers asks the API, and it is another process that has the feed.
        let stopped = api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        assert_eq!((&stopped["state"], &stopped["state_reason"]), (&json!("ended"), &json!("stopped")));
        ensure!(publisher.end(LIMIT).await?.code != Some(0), "the publisher is not disconnected");
        receiver.wait_for("stream.ended", 1, LIMIT).await.with_context(|| cluster.log())?;

        for process in PROCESSES {
            let own = cluster.of(process).await?;
            assert_eq!(own.send(Method::GET, "/healthz", None).await?.status, 200, "{process}");
            let metrics = own.send(Method::GET, "/metrics", None).await?;
            ensure!(metrics.status == 200 && !metrics.body.is_empty(), "{process} shows no metrics");
            if process != "api" {
                let elsewhere = own.send(Method::GET, "/v1/streams", None).await?;
                assert_eq!((elsewhere.status.as_u16(), &elsewhere.json()["code"]), (404, &json!("path_not_found")));
                let told = elsewhere.json()["detail"].to_string();
                ensure!(told.contains(&format!("--roles {process}")) && told.contains("'api'"), "{told}");
            }
        }
        ensure!(!cluster.log().contains("your API key"), "the key was given");
        cluster.terminate_all().await
    })
}

/// The clip lies in the bucket, and the API leads there without a key.
async fn clip(ready: &Value, cluster: &Cluster) -> Result<()> {
    let address = ready["clip_url"].as_str().context("no clip")?;
    ensure!(address.starts_with(&cluster.address()), "{address} is not at the API");
    let clip = cluster.api().raw(Method::GET, address, &[], Vec::new()).await?;
    ensure!(clip.status == 200, "{}: {}", clip.status, String::from_utf8_lossy(&clip.body));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("clip.mp4");
    std::fs::write(&file, &clip.body)?;
    assert_eq!(probe(&file, "v:0", "stream=codec_name").await?, "h264");
    decodes_silently(&file).await
}
