//! Starts after a loss of power, and what an earlier process left lying about.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broadcast;
use crate::harness::{decodes_silently, run, signal, wait_for};
use crate::publisher::Publisher;
use crate::server::{Api, Server};

const SOON: Duration = Duration::from_secs(90);
/// Clips without what comes after, and a stream that may come back late.
const SETTINGS: [(&str, &str); 2] = [("CREST_CLIPS__AFTER", "0s"), ("CREST_INGEST__RECONNECT", "10m")];

/// A stream that is fed.
struct Scene {
    stream: String,
    key: String,
}

impl Scene {
    async fn new(api: &Api) -> Result<Self> {
        let made = api.post("/v1/streams", json!({ "name": "cut off", "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
        Ok(Self { stream: text(&made["id"])?, key: text(&made["ingest"]["stream_key"])? })
    }

    async fn publish(&self, server: &Server) -> Result<Publisher> {
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{}", server.rtmp, self.key))?;
        let path = format!("/v1/streams/{}", self.stream);
        let live = || async { Ok((server.as_operator().get(&path).await?["state"] == "live").then_some(())) };
        wait_for("the stream to be live", SOON, live).await.with_context(|| server.log_tail())?;
        Ok(publisher)
    }

    async fn highlights(&self, api: &Api) -> Result<Vec<Value>> {
        let list = api.get(&format!("/v1/streams/{}/highlights", self.stream)).await?;
        list["data"].as_array().cloned().context("no list")
    }

    /// Marks a moment, and waits until there is one more that is ready.
    async fn decide(&self, server: &Server) -> Result<Vec<Value>> {
        let api = server.as_operator();
        let ready = |all: &[Value]| all.iter().filter(|h| h["state"] == "ready").count();
        let before = ready(&self.highlights(&api).await?);
        let path = format!("/v1/streams/{}/markers", self.stream);
        let marked = || async {
            let answer =
                api.send(Method::POST, &path, Some(json!({ "at": jiff::Timestamp::now().to_string() }))).await?;
            Ok(answer.status.is_success().then_some(()))
        };
        wait_for("a mark", SOON, marked).await?;
        let more = || async {
            let all = self.highlights(&api).await?;
            Ok((ready(&all) > before).then_some(all))
        };
        wait_for("a highlight with its clip", SOON, more).await.with_context(|| server.log_tail())
    }
}

/// Every file below a folder whose name passes, in order.
fn files(folder: &Path, pass: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, pass));
        } else if pass(&entry.file_name().to_string_lossy()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn segments(data: &Path) -> Vec<PathBuf> {
    files(&data.join("media"), &|name| name.starts_with("segment-"))
}

/// Cuts the bus's journal to this part of what is written in it.
fn cut_journal(data: &Path, part: f64) -> Result<()> {
    let journal = files(&data.join("bus"), &|name| name.ends_with(".jnl")).pop().context("no journal")?;
    let bytes = fs::read(&journal)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).context("an empty journal")?;
    let file = fs::File::options().write(true).open(&journal)?;
    file.set_len((written as f64 * part) as u64)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &target)? } else { fs::copy(&path, &target).map(drop)? }
    }
    Ok(())
}

#[test]
fn a_log_that_lost_its_end_loses_no_later_decision() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &SETTINGS).await?;
        let scene = Scene::new(&server.as_operator()).await?;
        let publisher = scene.publish(&server).await?;
        scene.decide(&server).await?;
        let before = scene.decide(&server).await?;
        let data = server.data.clone();
        server.kill().await?;
        publisher.kill().await?;
        // The database is on the disk, most of the bus is not.
        cut_journal(&data, 0.3)?;

        let server = Server::start_with(folder.path(), &SETTINGS).await?;
        let shown = scene.highlights(&server.as_operator()).await?;
        for old in &before {
            ensure!(shown.iter().any(|new| new["id"] == old["id"]), "{old} is gone");
        }
        let _publisher = scene.publish(&server).await?;
        let after = scene.decide(&server).await?;
        ensure!(after.len() > before.len(), "nothing is decided any more");
        Ok(())
    })
}

#[test]
fn a_start_on_what_a_loss_of_power_leaves_of_a_busy_server() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &SETTINGS).await?;
        let scene = Scene::new(&server.as_operator()).await?;
        let _publisher = scene.publish(&server).await?;
        let before = scene.decide(&server).await?;
        // The state of one instant; what was not synced is damaged in the copies.
        let copies = ["torn", "cut", "zeros"].map(|name| folder.path().join(name));
        signal("STOP", server.pid()).await?;
        for to in &copies {
            copy(&server.data, &to.join("data"))?;
        }
        signal("CONT", server.pid()).await?;

        for (case, root) in copies.iter().enumerate() {
            let data = root.join("data");
            let mut log = fs::read(data.join("crest.db-wal"))?;
            log.extend(std::iter::repeat_n(0xa5, 3000));
            fs::write(data.join("crest.db-wal"), log)?;
            let last = segments(&data).pop().context("no media")?;
            let length = fs::metadata(&last)?.len();
            let segment = fs::File::options().write(true).open(&last)?;
            match case {
                0 => cut_journal(&data, 0.97)?,
                1 => segment.set_len(length - length / 3)?,
                _ => {
                    segment.set_len(length - length / 3)?;
                    segment.set_len(length)?;
                }
            }
            let again = Server::start_with(root, &SETTINGS).await?;
            let api = again.as_operator();
            for old in &before {
                let clip = format!("/v1/highlights/{}/clip", old["id"].as_str().context("no id")?);
                let answer = api.send(Method::GET, &clip, None).await?;
                ensure!(answer.status.is_success(), "{clip}: {}", answer.status);
                let file = root.join("clip.mp4");
                fs::write(&file, answer.body)?;
                decodes_silently(&file).await?;
            }
            // Its stream goes on, and what is decided next has a clip that plays.
            let publisher = scene.publish(&again).await?;
            scene.decide(&again).await?;
            for clip in files(&data.join("clips"), &|name| name.ends_with(".mp4")) {
                decodes_silently(&clip).await?;
            }
            publisher.kill().await?;
            let said = fs::read_to_string(root.join("serve.log"))?;
            ensure!(!said.contains("panicked"), "{said}");
            ensure!(case != 1 || said.contains("indexed media is not on the disk"), "nothing was forgotten: {said}");
            assert_eq!(again.terminate(SOON).await?.code(), Some(0));
        }
        Ok(())
    })
}

#[test]
fn media_that_was_written_and_not_indexed_is_found_again() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let mut settings = SETTINGS.to_vec();
        settings.push(("CREST_CRASH_AT", "fragment before 3"));
        let mut server = Server::start_with(folder.path(), &settings).await?;
        let scene = Scene::new(&server.as_operator()).await?;
        let publisher = scene.publish(&server).await?;
        tokio::time::timeout(SOON, server.ended()).await.context("it did not crash")??;
        let data = server.data.clone();
        let stored: u64 = segments(&data).iter().map(|f| fs::metadata(f).map_or(0, |f| f.len())).sum();
        publisher.kill().await?;

        // Beside it lie a file of a session that nobody knows, one with nothing in it, and half a clip.
        let whole = segments(&data).pop().context("no media")?;
        let strange = data.join("media/org_gone/str_gone/00001/segment-000000.mp4");
        let empty = whole.with_file_name("segment-000777.mp4");
        let part = data.join("clips/org_gone/.hl_x.mp4.1-0.part");
        for (path, content) in [(&strange, fs::read(&whole)?), (&empty, vec![1, 2, 3]), (&part, vec![0; 10])] {
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(path, content)?;
        }
        let server = Server::start_with(folder.path(), &SETTINGS).await?;
        let log = fs::read_to_string(folder.path().join("serve.log"))?;
        ensure!(log.contains("media that was stored last is indexed now"), "{log}");
        ensure!(!empty.exists() && !part.exists(), "what nobody needs is still there");
        let said = || async {
            let log = fs::read_to_string(folder.path().join("serve.log"))?;
            Ok(log.contains("belongs to no session that is known").then_some(()))
        };
        wait_for("the strange file to be found", SOON, said).await?;
        ensure!(strange.exists(), "it is not old yet");
        let now: u64 =
            segments(&data).iter().filter(|f| **f != strange).map(|f| fs::metadata(f).map_or(0, |f| f.len())).sum();
        assert_eq!(now, stored, "stored media went");
        server.kill().await?;

        settings.pop();
        settings.push(("CREST_RETENTION__MEDIA", "1s"));
        let _server = Server::start_with(folder.path(), &settings).await?;
        wait_for("the strange file to go", SOON, || async { Ok((!strange.exists()).then_some(())) }).await?;
        Ok(())
    })
}
