//! Clips that are asked for and never read hold up nobody for long.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::server::{KEY, Server};

const LIMIT: Duration = Duration::from_secs(90);

/// The first file of this kind below a folder.
fn find(folder: &Path, ending: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, ending) } else { path.to_string_lossy().ends_with(ending).then_some(path) }
    })
}

#[test]
fn downloads_that_nobody_reads_are_bounded_and_cut_off() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let settings = [
            ("CREST_HTTP__STALLED", "3s"),
            ("CREST_API__MAX_ORGANIZATION_DOWNLOADS", "2"),
            ("CREST_CLIPS__AFTER", "0s"),
        ];
        let server = Server::start_with(folder.path(), &settings).await?;
        let api = server.as_operator();
        let made = api.post("/v1/streams", json!({ "name": "watched", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let url = format!("{}/{}", server.rtmp, made["ingest"]["stream_key"].as_str().context("no key")?);
        let _publisher = Publisher::looped(broadcast::file().await?, &url)?;
        let marked = || async {
            let answer = api.send(Method::POST, &format!("/v1/streams/{stream}/markers"), Some(json!({}))).await?;
            Ok(answer.status.is_success().then_some(()))
        };
        wait_for("a mark", LIMIT, marked).await?;
        let ready = || async {
            let list = api.get("/v1/highlights?state=ready").await?;
            Ok(list["data"][0]["id"].as_str().map(str::to_owned))
        };
        let id = wait_for("a clip", LIMIT, ready).await.with_context(|| server.log_tail())?;
        // More than any buffer between here and there holds.
        let clip = find(&server.data.join("clips"), ".mp4").context("no clip")?;
        std::fs::File::options().write(true).open(&clip)?.set_len(1 << 30)?;

        let address = server.http.trim_start_matches("http://");
        let mut unread = Vec::new();
        for _ in 0..2 {
            let mut socket = TcpStream::connect(address).await?;
            let request =
                format!("GET /v1/highlights/{id}/clip HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {KEY}\r\n\r\n");
            socket.write_all(request.as_bytes()).await?;
            let mut head = [0; 12];
            socket.read_exact(&mut head).await?;
            ensure!(&head == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
            unread.push(socket);
        }
        let path = format!("/v1/highlights/{id}/clip");
        let ask = || async { api.raw(Method::GET, &path, &[("range", "bytes=0-9")], Vec::new()).await };
        let refused = ask().await?;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (StatusCode::TOO_MANY_REQUESTS, Some("too_many_downloads"))
        );

        let again = || async { Ok((ask().await?.status == StatusCode::PARTIAL_CONTENT).then_some(())) };
        wait_for("room for a download that is read", LIMIT, again).await?;
        let metrics = api.raw(Method::GET, "/metrics", &[], Vec::new()).await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        ensure!(text.contains("crest_http_connections_closed_total{cause=\"stalled\"}"), "{text}");
        Ok(())
    })
}
