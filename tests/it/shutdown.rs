//! SIGTERM and SIGINT while crest is busy in every way it can be.
//!
//! What is promised is 10 s; the limit here is generous, for the tests share their machine with others.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::broadcast;
use crate::harness::{run, signal, succeed, wait_for};
use crate::moody::{Mood, Moody};
use crate::publisher::Publisher;
use crate::server::{Api, KEY, Server};

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(90);
/// A request to a receiver may take so long that nobody waits for it, nor for its lease.
const PATIENT: [(&str, &str); 1] = [("CREST_WEBHOOKS__TIMEOUT", "10m")];

/// A stream, and what publishes to it.
async fn stream(api: &Api, name: &str) -> Result<(String, String)> {
    let made = api.post("/v1/streams", json!({ "name": name, "source": { "kind": "rtmp" } })).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
    Ok((text(&made["id"])?, text(&made["ingest"]["stream_key"])?))
}

async fn state(api: &Api, stream: &str, wanted: &str) -> Result<Value> {
    let there = || async {
        let shown = api.get(&format!("/v1/streams/{stream}")).await?;
        Ok((shown["state"] == wanted).then_some(shown))
    };
    wait_for(&format!("{stream} to be {wanted}"), SOON, there).await
}

/// Marks a moment now and waits until it is told of.
async fn highlight(api: &Api, stream: &str) -> Result<Value> {
    let path = format!("/v1/streams/{stream}/markers");
    let marked = || async {
        let answer = api.send(Method::POST, &path, Some(json!({ "at": jiff::Timestamp::now().to_string() }))).await?;
        Ok(answer.status.is_success().then_some(()))
    };
    wait_for("a mark", SOON, marked).await?;
    let found = || async {
        Ok(api.get(&format!("/v1/streams/{stream}/highlights")).await?["data"]
            .as_array()
            .and_then(|h| h.first().cloned()))
    };
    wait_for("a highlight", SOON, found).await
}

/// A receiver that answers for ever, a byte at a time.
async fn drip(api: &Api) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.write_all(b"HTTP/1.1 204 ").await;
                while socket.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    api.post("/v1/webhooks", json!({ "url": url })).await.map(drop)
}

/// A connection on which these bytes were sent and the first of an answer, if any is wanted, read.
async fn connection(server: &Server, request: &str, answered: bool) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(server.http.trim_start_matches("http://")).await?;
    socket.write_all(request.as_bytes()).await?;
    if answered {
        let mut head = [0; 12];
        socket.read_exact(&mut head).await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head == "HTTP/1.1 200", "{request} is answered with {head}");
    }
    Ok(socket)
}

/// The first file below a folder whose name ends so.
fn find(folder: &Path, end: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() { find(&path, end) } else { Some(path) };
        if let Some(found) = found.filter(|path| path.to_string_lossy().ends_with(end)) {
            return Some(found);
        }
    }
    None
}

#[test]
fn sigterm_amid_everything_is_clean_and_nothing_is_lost() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &PATIENT).await?;
        let api = server.as_operator();
        // Pictures out of order and sound, three times.
        let mut fed = Vec::new();
        for name in ["one", "two", "three"] {
            let (id, key) = stream(&api, name).await?;
            let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp))?;
            state(&api, &id, "live").await?;
            fed.push((id, key, publisher));
        }
        let first = fed.first().context("no stream")?.0.clone();
        let second = fed.get(1).context("no stream")?.0.clone();
        // A clip, made as long as the slowest download.
        let id = highlight(&api, &first).await?["id"].as_str().context("no id")?.to_owned();
        let ready =
            || async { Ok((api.get(&format!("/v1/highlights/{id}")).await?["state"] == "ready").then_some(())) };
        wait_for("a clip", SOON, ready).await.with_context(|| server.log_tail())?;
        let clip = find(&server.data.join("clips"), ".mp4").context("no clip")?;
        std::fs::File::options().write(true).open(&clip)?.set_len(1 << 30)?;

        let hanging = Moody::register(&api, Mood::Hanging).await?;
        drip(&api).await?;
        let auth = format!("Host: crest\r\nAuthorization: Bearer {KEY}\r\n\r\n");
        let _connections = [
            connection(&server, "", false).await?,
            connection(&server, "GET /v1/streams HTT", false).await?,
            connection(&server, &format!("GET /v1/streams HTTP/1.1\r\n{auth}"), true).await?,
            connection(&server, &format!("GET /v1/highlights/{id}/clip HTTP/1.1\r\n{auth}"), true).await?,
            connection(&server, &format!("GET /v1/events HTTP/1.1\r\n{auth}"), true).await?,
        ];
        // Told to the receiver that hangs; its clip is not made yet.
        let unfinished = highlight(&api, &second).await?["id"].as_str().context("no id")?.to_owned();
        let hangs = || async { Ok((!hanging.seen().is_empty()).then_some(())) };
        wait_for("a webhook that hangs", SOON, hangs).await?;

        assert_eq!(server.terminate(STOP).await?.code(), Some(0));
        for (_, _, publisher) in &mut fed {
            publisher.freeze().await.ok();
        }
        let left = hanging.seen();
        hanging.now(Mood::Taking);

        let server = Server::start_with(folder.path(), &PATIENT).await?;
        let api = server.as_operator();
        for (id, key, _) in &fed {
            let shown = state(&api, id, "interrupted").await?;
            assert_eq!(shown["state_reason"], "server stopped", "it was noted by the one that stopped");
            let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp))?;
            assert_eq!(state(&api, id, "live").await?["session"], 2);
            publisher.kill().await?;
        }
        // What hung is sent again under the same id, in its place, and what came later follows.
        let all = || async {
            let taken = hanging.taken();
            let told =
                |kind: &str| taken.iter().filter(|(_, body)| String::from_utf8_lossy(body).contains(kind)).count();
            let clip = api.get(&format!("/v1/highlights/{unfinished}")).await?["state"] == "ready";
            Ok((told("stream.resumed") == 3 && told("highlight.ready") > 0 && clip).then_some(taken))
        };
        let taken = wait_for("every event", SOON, all).await.with_context(|| server.log_tail())?;
        for hung in &left {
            ensure!(taken.contains(hung), "{} was never delivered", hung.0);
        }
        let sequences: Vec<u64> = taken
            .iter()
            .filter_map(|(_, body)| serde_json::from_slice::<Value>(body).ok()?["data"]["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        assert_eq!(server.terminate(STOP).await?.code(), Some(0));
        Ok(())
    })
}

#[test]
fn sigint_is_as_good_and_a_second_signal_ends_it_at_once() -> Result<()> {
    run(async {
        for (again, code) in [("TERM", 143), ("INT", 130)] {
            // With a log of its own, which tells of this stop alone.
            let folder = tempfile::tempdir()?;
            let mut server = Server::start_with(folder.path(), &PATIENT).await?;
            let api = server.as_operator();
            let hanging = Moody::register(&api, Mood::Hanging).await?;
            let (id, key) = stream(&api, "ended").await?;
            let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp))?;
            state(&api, &id, "live").await?;
            // What hangs is waited for some seconds.
            wait_for("a webhook that hangs", SOON, || async { Ok((hanging.requests() > 0).then_some(())) }).await?;
            signal("INT", server.pid()).await?;
            wait_for("the stop to begin", STOP, || async { Ok(server.log_tail().contains("stopping").then_some(())) })
                .await?;
            signal(again, server.pid()).await?;
            let ended = tokio::time::timeout(STOP, server.ended()).await.context("it goes on")??;
            assert_eq!(ended.code(), Some(code), "{}", server.log_tail());
            drop((publisher, hanging));
        }
        let folder = tempfile::tempdir()?;
        let mut server = Server::start(folder.path()).await?;
        signal("INT", server.pid()).await?;
        assert_eq!(tokio::time::timeout(STOP, server.ended()).await.context("it goes on")??.code(), Some(0));
        Ok(())
    })
}

#[test]
fn a_role_that_hangs_holds_nothing_up() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let (api, data) = (server.as_operator(), server.data.clone());
        let (id, key) = stream(&api, "stuck").await?;
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp))?;
        let stored = || async { Ok(find(&data.join("media"), ".mp4")) };
        let segment = wait_for("stored media", SOON, stored).await?;
        // Who opens this waits for ever.
        let pipe = segment.with_extension("pipe");
        succeed("mkfifo", [&pipe]).await?;
        std::fs::rename(&pipe, &segment)?;

        assert_eq!(server.terminate(STOP).await?.code(), Some(0));
        let log = std::fs::read_to_string(folder.path().join("serve.log"))?;
        assert!(log.contains("some roles did not stop in time"), "nothing hung: {log}");
        assert!(!data.join("crest.db-wal").exists(), "the database was not closed");
        drop(publisher);

        std::fs::remove_file(&segment)?;
        let server = Server::start(folder.path()).await?;
        state(&server.as_operator(), &id, "interrupted").await?;
        assert_eq!(server.terminate(STOP).await?.code(), Some(0));
        Ok(())
    })
}
