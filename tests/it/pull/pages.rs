//! Pages whose broadcast a program finds: the real streamlink and yt-dlp, and pages that the real nginx serves.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use tokio::process::Command;

use super::nginx::nginx;
use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::stored::span;
use crate::verifiers::yt_dlp;

/// The command that is run for a site unless another one is configured, as TOML; by a program elsewhere than in the
/// PATH, where there is one.
fn usual_command(site: &str, program: Option<&Path>) -> Result<String> {
    let resolvers = crest_ingest::PullConfig::default().resolvers;
    let resolver = resolvers.into_iter().find(|resolver| resolver.domains.iter().any(|domain| domain == site));
    let mut command = resolver.with_context(|| format!("nothing resolves {site}"))?.command;
    if let (Some(name), Some(program)) = (command.first_mut(), program) {
        *name = program.display().to_string();
    }
    // A list of strings is spelled the same in JSON and TOML.
    Ok(serde_json::to_string(&command)?)
}

/// Pulls a page of nginx's whose broadcast this command finds, and one that has none: what is said of that one.
async fn resolved(command: &str, page: &str, without: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    origin::cut(origin::source().await?, &folder.path().join("live.m3u8"), &[]).await?;
    let shows = "<!doctype html><html><body><video><source src=\"live.m3u8\" type=\"application/x-mpegURL\"></video>";
    std::fs::write(folder.path().join("page.html"), shows)?;
    std::fs::write(folder.path().join("offline.html"), "<!doctype html><title>Offline</title>")?;
    let (_nginx, address) = nginx(folder.path()).await?;
    let stage = Stage::configured(&format!(
        "[pull]\nallow = [\"127.0.0.0/8\"]\nrecorded_speed = 6\npause = \"200ms\"\n\
         [[pull.resolvers]]\ndomains = [\"127.0.0.1\"]\ncommand = {command}\n"
    ))
    .await?;
    let stream = stage.pull(&format!("{address}/{page}")).await?;
    let shown = stage.until_state(&stream, "ended").await?;
    assert_eq!(shown["state_reason"], "the recording is over");
    ensure!(span(&stage.times(&stream, "v").await?) > LENGTH - 0.5);
    let offline = stage.pull(&format!("{address}/{without}")).await?;
    let shown = stage.until(&offline, "a reason", |shown| shown["state_reason"].is_string()).await?;
    Ok(shown["state_reason"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn streamlink_finds_the_broadcast_of_a_page() -> Result<()> {
    run(async {
        let command = usual_command("twitch.tv", None)?;
        let said = resolved(&command, "live.m3u8", "offline.m3u8").await?;
        ensure!(said.starts_with("streamlink finds no broadcast on this page of 127.0.0.1: error: "), "{said}");
        Ok(())
    })
}

#[test]
fn yt_dlp_finds_the_broadcast_of_a_page() -> Result<()> {
    run(async {
        let command = usual_command("youtube.com", Some(&yt_dlp()?))?;
        let said = resolved(&command, "page.html", "offline.html").await?;
        ensure!(said.contains("yt-dlp finds no broadcast on this page of 127.0.0.1: ERROR: Unsupported URL"), "{said}");
        Ok(())
    })
}

/// Finds the playlist under another name each time; the names before the last two lead nowhere any more.
const EXPIRING: &str = "cd $0; n=$(cat turn 2>/dev/null || echo 0); n=$((n + 1)); ln -s live.m3u8 live-$n.m3u8; \
    rm -f live-$((n - 2)).m3u8; echo $n > turn; echo $1/live-$n.m3u8";

#[test]
fn an_address_that_expires_is_looked_up_anew_without_a_break() -> Result<()> {
    run(looked_up_anew("delete_segments+program_date_time+temp_file"))
}

#[test]
fn where_no_times_tell_the_numbers_of_segments_say_where_the_new_address_goes_on() -> Result<()> {
    run(looked_up_anew("delete_segments+temp_file"))
}

/// Follows a live playlist that ffmpeg makes with these flags, at addresses that expire.
async fn looked_up_anew(flags: &str) -> Result<()> {
    let origin = Origin::start().await?;
    let folder = origin.folder.path().display().to_string();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(origin::source().await?);
    ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6"]);
    ffmpeg.args(["-hls_flags", flags]).arg(origin.path("live.m3u8"));
    let encoder = Publisher::start(ffmpeg)?;
    let listed = || async { Ok(origin.path("live.m3u8").exists().then_some(())) };
    wait_for("the playlist", super::stage::SOON, listed).await?;
    let stage = Stage::configured(&format!(
        "[pull]\nallow = [\"127.0.0.0/8\"]\npause = \"200ms\"\nresolve_again = \"4s\"\n\
         [[pull.resolvers]]\ndomains = [\"site.example\"]\n\
         command = [\"sh\", \"-c\", \"{EXPIRING}\", \"{folder}\", \"{}\", \"{{url}}\"]\n",
        origin.address
    ))
    .await?;
    let stream = stage.pull("https://www.site.example/channel").await?;
    stage.stored(&stream, 14.0).await?;
    let turns: u32 = std::fs::read_to_string(origin.path("turn"))?.trim().parse()?;
    ensure!(turns >= 3, "it was looked up {turns} times");
    let shown = stage.shown(&stream).await?;
    assert_eq!((&shown["state"], &shown["session"]), (&"live".into(), &1.into()));
    ensure!(stage.api.counter("crest_pull_failures_total").await.unwrap_or_default() == 0.0, "it broke off");
    let mut video = stage.times(&stream, "v").await?;
    video.sort_by(f64::total_cmp);
    let gap = video.iter().zip(video.iter().skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max);
    ensure!(gap < 0.2, "{gap} s are missing");
    encoder.kill().await
}

#[test]
fn a_program_that_is_not_installed_is_named() -> Result<()> {
    run(async {
        let stage = Stage::configured(
            "[[pull.resolvers]]\ndomains = [\"site.example\"]\ncommand = [\"no-such-program\", \"{url}\"]\n",
        )
        .await?;
        let stream = stage.pull("https://www.site.example/channel").await?;
        let shown = stage.until_state(&stream, "failed").await?;
        ensure!(
            shown["state_reason"].as_str().is_some_and(|why| why.contains("apt install no-such-program")),
            "{shown}"
        );
        Ok(())
    })
}
