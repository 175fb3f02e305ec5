//! SRT over a network that loses datagrams: what is lost is sent again, and the feed is whole.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::broadcast;
use crate::harness::{run, succeed, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::seed::Seed;
use crate::server::Server;
use crate::stored::segments;

const SOON: Duration = Duration::from_secs(20);
/// Longer than what is published.
const WHOLE: Duration = Duration::from_secs(60);
/// Of a hundred datagrams so many are lost, in each direction.
const LOST: u64 = 5;
/// Pictures in a second of the broadcast, and packets of sound.
const SECOND: [usize; 2] = [30, 47];

/// Stands between one publisher and the server, and loses datagrams of both. Dropping it cuts the way.
struct Lossy {
    port: u16,
    /// How many were lost of the publisher's and of the server's.
    lost: Arc<[AtomicU64; 2]>,
    carrying: JoinHandle<()>,
}

impl Lossy {
    /// In front of `target`, `host:port`.
    async fn to(target: &str, mut seed: Seed) -> Result<Self> {
        let (front, back) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        back.connect(target).await?;
        let port = front.local_addr()?.port();
        let lost = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let counted = Arc::clone(&lost);
        let carrying = tokio::spawn(async move {
            let (mut up, mut down) = ([0; 2048], [0; 2048]);
            let mut publisher = None;
            loop {
                let (way, datagram) = tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut up) => {
                        publisher = Some(from);
                        (0, &up[..length])
                    }
                    Ok(length) = back.recv(&mut down) => (1, &down[..length]),
                };
                if seed.draw(100) < LOST {
                    counted[way].fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // What a socket does not take is lost as well.
                let _ = match (way, publisher) {
                    (0, _) => back.send(datagram).await,
                    (_, Some(publisher)) => front.send_to(datagram, publisher).await,
                    (_, None) => Ok(0),
                };
            }
        });
        Ok(Self { port, lost, carrying })
    }

    fn lost(&self) -> [u64; 2] {
        [&self.lost[0], &self.lost[1]].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// What there is to see and to hear in a file, as hashes: pictures decoded, for containers write them differently,
/// and packets of sound.
async fn content(file: &Path) -> Result<[Vec<String>; 2]> {
    let hashes = async |how: &[&str]| {
        let file = file.display().to_string();
        let args = ["-nostdin", "-v", "error", "-i", &file].into_iter().chain(how.iter().copied());
        let said = succeed("ffmpeg", args.chain(["-f", "framehash", "-hash", "md5", "-"])).await?.text();
        let lines = said.lines().filter(|line| !line.starts_with('#'));
        let hashes = lines.filter_map(|line| line.split(',').nth(5)).map(|hash| hash.trim().to_owned());
        Ok::<Vec<String>, anyhow::Error>(hashes.collect())
    };
    let pictures = hashes(&["-map", "0:v", "-fps_mode", "passthrough"]).await?;
    Ok([pictures, hashes(&["-map", "0:a", "-c", "copy"]).await?])
}

/// The beginning of the broadcast as a transport stream, and the same again as a file of packets.
async fn source(folder: &Path) -> Result<[PathBuf; 2]> {
    let whole = broadcast::file().await?.display().to_string();
    let files = ["source.ts", "source.mp4"].map(|name| folder.join(name));
    let [ts, mp4] = [&files[0], &files[1]].map(|file| file.display().to_string());
    succeed("ffmpeg", ["-nostdin", "-v", "error", "-i", &whole, "-t", "16", "-c", "copy", &ts]).await?;
    succeed("ffmpeg", ["-nostdin", "-v", "error", "-i", &ts, "-c", "copy", "-bsf:a", "aac_adtstoasc", &mp4]).await?;
    Ok(files)
}

#[test]
fn a_feed_is_whole_although_the_network_loses_datagrams_both_ways() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        let api = server.tenant().await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "srt" } })).await?;
        let stream = made["id"].as_str().context("no id")?;
        let url = made["ingest"]["srt_url"].as_str().context("no address")?;
        let (address, query) = url.trim_start_matches("srt://").split_once('?').context("no query")?;
        let seed = Seed::new();
        let course = seed.told.clone();
        let network = Lossy::to(address, seed).await?;

        let folder = tempfile::tempdir()?;
        let [ts, mp4] = source(folder.path()).await?;
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-re", "-i"]).arg(&ts).args(["-c", "copy", "-f", "mpegts"]);
        // In microseconds: time for what is lost several times in a row.
        command.arg(format!("srt://127.0.0.1:{}?{query}&pkt_size=1316&latency=2000000", network.port));
        let said = Publisher::start(command)?.end(WHOLE).await?;
        ensure!(said.code == Some(0), "{course}: {said:?}");
        receiver.wait_for("stream.interrupted", 1, SOON).await.with_context(|| server.log_tail())?;
        assert_eq!(receiver.kinds(), ["stream.started", "stream.interrupted"], "{course}: it broke off before its end");
        let [of_publisher, of_server] = network.lost();
        ensure!(of_publisher > 20 && of_server > 5, "nothing was lost: {of_publisher} and {of_server} datagrams");

        let sent = content(&mp4).await?;
        let all = || async {
            let mut came = [Vec::new(), Vec::new()];
            for segment in segments(&server.data, stream) {
                let [pictures, sound] = content(&segment).await?;
                came[0].extend(pictures);
                came[1].extend(sound);
            }
            Ok(came.iter().all(|track| !track.is_empty()).then_some(came))
        };
        let came = wait_for("media to be stored", SOON, all).await?;
        for ((sent, came), second) in sent.iter().zip(&came).zip(SECOND) {
            // ffmpeg closes its socket without waiting for what it would have to send again: the end may be missing.
            let whole = sent.len() - second;
            ensure!(whole > 10 * second && came.len() >= whole, "{course}: {} of {} came", came.len(), sent.len());
            let wrong = (0..whole).find(|at| sent[*at] != came[*at]);
            ensure!(wrong.is_none(), "{course}: number {wrong:?} of {} is another one", sent.len());
        }
        Ok(())
    })
}
