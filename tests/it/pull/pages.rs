//! Pages whose broadcast a program finds: the real streamlink, and a playlist that the real nginx serves.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::stored::span;

/// nginx over a folder, on a port of its own. Dropping it stops it.
async fn nginx(folder: &Path) -> Result<(Child, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let at = folder.display();
    let config = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; events {{}}
         http {{
             access_log off; types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
             client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;
             scgi_temp_path {at}/s;
             server {{ listen 127.0.0.1:{port}; root {at}; }}
         }}"
    );
    std::fs::write(folder.join("nginx.conf"), config)?;
    let child = Command::new("/usr/sbin/nginx")
        .args(["-e", "stderr", "-c"])
        .arg(folder.join("nginx.conf"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nginx cannot be started; `make setup` installs what the tests need")?;
    let up = || async { Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok().then_some(())) };
    wait_for("nginx", super::stage::SOON, up).await?;
    Ok((child, format!("http://127.0.0.1:{port}")))
}

#[test]
fn a_page_is_resolved_by_streamlink_and_its_broadcast_pulled_from_nginx() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        origin::cut(origin::source().await?, &folder.path().join("live.m3u8"), &[]).await?;
        let (_nginx, address) = nginx(folder.path()).await?;
        let stage = Stage::configured(
            "[pull]\nallow = [\"127.0.0.0/8\"]\nrecorded_speed = 6\npause = \"200ms\"\n\
             [[pull.resolvers]]\ndomains = [\"127.0.0.1\"]\n\
             command = [\"streamlink\", \"--stream-url\", \"hls://{url}\", \"best\"]\n",
        )
        .await?;
        let stream = stage.pull(&format!("{address}/live.m3u8")).await?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["state_reason"], "the recording is over");
        ensure!(span(&stage.times(&stream, "v").await?) > LENGTH - 0.5);
        // What streamlink says of a page without a broadcast is what the tenant reads.
        let offline = stage.pull(&format!("{address}/offline.m3u8")).await?;
        let shown = stage.until(&offline, "a reason", |shown| shown["state_reason"].is_string()).await?;
        ensure!(shown["state_reason"].as_str().is_some_and(|why| why.starts_with("streamlink finds no")), "{shown}");
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
