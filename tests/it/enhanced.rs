//! Enhanced RTMP from a real encoder: an ffmpeg that is newer than that of distributions.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

use crate::harness::{decodes_silently, probe, run, succeed, wait_for};
use crate::publisher::Publisher;
use crate::server::{Api, Server};
use crate::stored::segments;
use crate::verifiers;

const SOON: Duration = Duration::from_secs(20);
/// Longer than what is published.
const WHOLE: Duration = Duration::from_secs(60);
/// Pictures that are published, at 25 a second.
const PICTURES: usize = 100;

/// A stream, and what its publisher is given.
struct Stream {
    id: String,
    url: String,
}

async fn create(server: &Server, api: &Api, track: Option<u8>, forward: Value) -> Result<Stream> {
    let source = json!({ "kind": "rtmp", "audio_track": track });
    let made = api.post("/v1/streams", json!({ "name": "a feed", "source": source, "forward": forward })).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
    let key = text(&made["ingest"]["stream_key"])?;
    Ok(Stream { id: text(&made["id"])?, url: format!("{}/{key}", server.rtmp) })
}

/// Publishes four seconds with these codecs: a picture, a tone, and another tone at 32 kHz.
async fn publish(ffmpeg: &Path, codecs: &str, url: &str) -> Result<()> {
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error"]);
    for input in ["testsrc2=s=160x120:r=25:d=4", "sine=440:r=48000:d=4", "sine=880:r=32000:d=4"] {
        command.args(["-re", "-f", "lavfi", "-i", input]);
    }
    command.args(codecs.split(' ')).args(["-f", "flv", url]);
    let said = Publisher::start(command)?.end(WHOLE).await?;
    ensure!(said.code == Some(0), "{codecs}: {said:?}");
    Ok(())
}

/// The packets of a file as hashes of their bytes, with their times.
async fn packets(file: &Path) -> Result<String> {
    let file = file.display().to_string();
    Ok(succeed("ffmpeg", ["-v", "error", "-i", &file, "-map", "0", "-c", "copy", "-f", "framehash", "-"]).await?.text())
}

#[test]
fn codecs_by_name_and_several_tracks_arrive_and_are_relayed() -> Result<()> {
    const HEVC: &str = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=2";
    const AV1: &str = "-c:v libsvtav1 -preset 12 -g 25";
    const VP9: &str = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25";
    let cases = [
        (format!("-map 0 -map 1 {HEVC} -c:a aac"), None, "hevc", "aac,48000"),
        (format!("-map 0 -map 1 {AV1} -c:a aac"), None, "av1", "aac,48000"),
        (format!("-map 0 -map 1 {VP9} -c:a libopus"), None, "vp9", "opus,48000"),
        (format!("-map 0 -map 1 -map 2 {HEVC} -c:a aac"), None, "hevc", "aac,48000"),
        (format!("-map 0 -map 1 -map 2 {HEVC} -c:a aac"), Some(1), "hevc", "aac,32000"),
        ("-map 0 -map 1 -map 2 -c:v libx264 -g 25 -c:a aac".to_owned(), Some(1), "h264", "aac,32000"),
    ];
    run(async {
        let (folder, ffmpeg) = (tempfile::tempdir()?, verifiers::newer_ffmpeg().await?);
        let server = Server::start_with(folder.path(), &[("CREST_PULL__ALLOW_PRIVATE", "true")]).await?;
        let api = server.as_operator();
        for (codecs, track, video, audio) in cases {
            let relayed = create(&server, &api, track, Value::Null).await?;
            let stream = create(&server, &api, track, json!([{ "url": relayed.url }])).await?;
            publish(&ffmpeg, &codecs, &stream.url).await?;
            let mut stored = Vec::new();
            for stream in [&stream, &relayed] {
                let over = || async {
                    let shown = api.get(&format!("/v1/streams/{}", stream.id)).await?;
                    Ok((shown["state"] == "interrupted").then_some(()))
                };
                wait_for("the feed to be over", SOON, over).await.with_context(|| server.log_tail())?;
                let [file] = &segments(&server.data, &stream.id)[..] else { anyhow::bail!("{codecs}: not one file") };
                assert_eq!(probe(file, "v", "stream=codec_name").await?, video, "{codecs}");
                assert_eq!(probe(file, "a", "stream=codec_name,sample_rate").await?, audio, "{codecs}");
                let pictures = probe(file, "v", "packet=pts_time").await?.lines().count();
                assert_eq!(pictures, PICTURES, "{codecs}");
                decodes_silently(file).await.with_context(|| codecs.clone())?;
                stored.push(packets(file).await?);
            }
            ensure!(stored[0] == stored[1], "{codecs}: what was relayed is something else");
        }
        Ok(())
    })
}
