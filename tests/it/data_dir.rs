//! Whose the data directory is, and which version wrote it.

use anyhow::{Context, Result};
use reqwest::Method;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

use crate::harness::{crest_command, run};
use crate::server::{KEY, Server};

const LIMIT: Duration = Duration::from_secs(60);

/// `crest serve` on this directory and free ports.
fn serve(data: &Path) -> Command {
    let mut command = crest_command();
    command.arg("serve").env("CREST_DATA_DIR", data).env("CREST_BOOTSTRAP_KEY", KEY);
    command
        .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
        .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
        .env("CREST_SRT__LISTEN", "127.0.0.1:0")
        .env("CREST_WEBRTC__LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Its last words, and its exit code 1.
async fn refusal(data: &Path) -> Result<String> {
    let ended = tokio::time::timeout(LIMIT, serve(data).output()).await.context("it was not refused")??;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    Ok(said)
}

/// Names and contents of what lies in a directory, not below it.
fn contents(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let content = if entry.file_type()?.is_file() { fs::read(entry.path())? } else { Vec::new() };
        found.push((entry.file_name().to_string_lossy().into_owned(), content));
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_second_process_is_refused_and_told_who_has_it() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let said = refusal(&server.data).await?;
        assert!(said.contains(&format!("is in use by crest (pid {})", server.pid())), "{said}");
        assert!(said.contains("CREST_DATA_DIR"), "{said}");
        server.as_operator().get("/v1/streams").await.context("the first goes on")?;
        // However it ends, the directory is free at once.
        server.kill().await?;
        let server = Server::start(folder.path()).await?;
        assert_eq!(server.terminate(LIMIT).await?.code(), Some(0));
        Ok(())
    })
}

#[test]
fn a_directory_of_a_newer_version_is_refused_and_left_as_it_is() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let data = server.data.clone();
        assert_eq!(server.terminate(LIMIT).await?.code(), Some(0));
        let version: u32 = fs::read_to_string(data.join("VERSION"))?.trim().parse()?;
        for (text, why) in [(format!("{}\n", version + 1), "newer version of crest"), ("?".to_owned(), "not a number")]
        {
            fs::write(data.join("VERSION"), text)?;
            let before = contents(&data)?;
            let said = refusal(&data).await?;
            assert!(said.contains(why) && said.contains("VERSION") | said.contains("start that version"), "{said}");
            assert!(contents(&data)? == before, "something was changed");
        }
        fs::write(data.join("VERSION"), format!("{version}\n"))?;
        assert_eq!(Server::start(folder.path()).await?.terminate(LIMIT).await?.code(), Some(0));
        Ok(())
    })
}

#[test]
fn a_directory_from_before_there_were_versions_is_taken_as_it_is() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let made = serde_json::json!({ "name": "kept", "source": { "kind": "rtmp" } });
        let made = server.as_operator().post("/v1/streams", made).await?;
        let data = server.data.clone();
        server.kill().await?;
        fs::remove_file(data.join("VERSION"))?;
        fs::remove_file(data.join("LOCK"))?;
        let server = Server::start(folder.path()).await?;
        let path = format!("/v1/streams/{}", made["id"].as_str().context("no id")?);
        assert_eq!(server.as_operator().get(&path).await?["name"], "kept");
        assert!(data.join("VERSION").exists());
        Ok(())
    })
}

#[test]
fn a_damaged_database_is_refused_with_what_to_do() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        let data = server.data.clone();
        assert_eq!(server.terminate(LIMIT).await?.code(), Some(0));
        let file = data.join("crest.db");
        let mut bytes = fs::read(&file)?;
        bytes.get_mut(8192..12_288).context("the database is small")?.fill(0x5a);
        fs::write(&file, &bytes)?;
        let said = refusal(&data).await?;
        assert!(said.contains("crest.db") && said.contains("damaged"), "{said}");
        assert!(said.contains("backup") && said.contains("crest doctor"), "{said}");
        assert!(fs::read(&file)? == bytes, "it was changed");
        Ok(())
    })
}

#[test]
fn sigterm_while_it_starts_ends_it_and_the_next_start_is_none_the_wiser() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        for pause in [0, 1, 5, 20, 60, 150, 400] {
            let _ = fs::remove_file(data.join("LOCK"));
            let child = serve(&data).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
            let pid = child.id().context("it has ended")?;
            // It listens for signals before it touches the directory.
            let begun = || async { Ok(data.join("LOCK").exists().then_some(())) };
            crate::harness::wait_for("the start to begin", LIMIT, begun).await?;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            crate::harness::signal("TERM", pid).await?;
            let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("it goes on")??;
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(0), "after {pause} ms: {said}");
            if pause < 60 {
                fs::remove_dir_all(&data)?;
            }
        }
        let server = Server::start(folder.path()).await?;
        assert!(server.as_operator().send(Method::GET, "/v1/streams", None).await?.status.is_success());
        Ok(())
    })
}
