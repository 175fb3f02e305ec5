//! RTMP over TLS: a real ffmpeg, a certificate that is renewed, and peers that do not finish their handshakes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broadcast;
use crate::harness::{crest_command, run, succeed, wait_for};
use crate::publisher::Publisher;
use crate::server::{Api, Server};

const SOON: Duration = Duration::from_secs(20);
const FAILED: &str = "crest_rtmp_connections_failed_total";

/// A self-signed certificate and its key.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    async fn make(folder: &Path, name: &str) -> Result<Self> {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        let (subject, days) = (format!("/CN={name}"), "30");
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let (out, keyout) = (certificate.display().to_string(), key.display().to_string());
        let rest = ["-subj", &subject, "-days", days, "-out", &out, "-keyout", &keyout];
        succeed("openssl", new.iter().chain(&rest)).await?;
        Ok(Self { certificate, key })
    }
}

/// A server that takes RTMP over TLS.
struct Stage {
    server: Server,
    api: Api,
    pair: Pair,
    /// `127.0.0.1:PORT`.
    address: String,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pair = Pair::make(folder.path(), "first.example").await?;
        let (certificate, key) = (pair.certificate.display().to_string(), pair.key.display().to_string());
        let settings = [
            ("CREST_RTMP__TLS_LISTEN", "127.0.0.1:0"),
            ("CREST_RTMP__TLS_CERTIFICATE", certificate.as_str()),
            ("CREST_RTMP__TLS_KEY", key.as_str()),
            ("CREST_RTMP__TLS_RELOAD", "0s"),
            ("CREST_RTMP__HANDSHAKE", "3s"),
        ];
        let server = Server::start_with(folder.path(), &settings).await?;
        let api = server.tenant().await?;
        let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
        let url = made["ingest"]["rtmps_url"].as_str().with_context(|| format!("no rtmps_url: {made}"))?;
        let address = url.strip_prefix("rtmps://").and_then(|rest| rest.strip_suffix("/live"));
        let address = address.with_context(|| format!("another address: {url}"))?.to_owned();
        Ok(Self { server, api, pair, address, folder })
    }

    /// A stream that ffmpeg publishes to over TLS.
    async fn publish(&self) -> Result<(Publisher, String)> {
        let made = self.api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let url = format!("{}/{}", text(&made["ingest"]["rtmps_url"])?, text(&made["ingest"]["stream_key"])?);
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?;
        let path = format!("/v1/streams/{}", text(&made["id"])?);
        let live = || async { Ok((self.api.get(&path).await?["state"] == "live").then_some(())) };
        wait_for("the stream to be live", SOON, live).await.with_context(|| self.server.log_tail())?;
        Ok((publisher, path))
    }

    /// Whose certificate a client is shown.
    async fn shown(&self) -> Result<String> {
        let command =
            format!("openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -subject", self.address);
        Ok(succeed("sh", ["-c", &command]).await?.text())
    }
}

/// Reads until the peer closes; how many bytes came.
async fn closed(socket: &mut TcpStream) -> Result<usize> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(SOON, socket.read_to_end(&mut all)).await.context("it was not closed")?;
    // A reset is an end too.
    Ok(read.unwrap_or_default())
}

#[test]
fn ffmpeg_publishes_over_tls_and_a_renewed_certificate_is_shown() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let (_publisher, path) = stage.publish().await?;
        ensure!(stage.shown().await?.contains("first.example"));

        let second = Pair::make(stage.folder.path(), "second.example").await?;
        // Between one file and the other they do not fit.
        std::fs::copy(&second.certificate, &stage.pair.certificate)?;
        ensure!(stage.shown().await?.contains("first.example"), "what does not fit is not shown");
        stage.server.logged("rtmp.tls_key: the key in").await?;
        std::fs::copy(&second.key, &stage.pair.key)?;
        ensure!(stage.shown().await?.contains("second.example"), "the renewed one is");
        assert_eq!(stage.api.get(&path).await?["state"], "live", "whoever is connected notices nothing");
        Ok(())
    })
}

#[test]
fn whoever_does_not_shake_hands_is_closed_in_time_and_harms_nobody() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let (_publisher, path) = stage.publish().await?;
        // Plain RTMP on the port for TLS.
        let mut plain = TcpStream::connect(&stage.address).await?;
        plain.write_all(&[3; 1537]).await?;
        closed(&mut plain).await?;
        stage.server.logged("rtmp.tls_listen takes rtmps:// alone").await?;
        // TLS on the plain port.
        let port = stage.server.rtmp.strip_prefix("rtmp://").and_then(|rest| rest.strip_suffix("/live"));
        let mut secure = TcpStream::connect(port.context("no RTMP address")?).await?;
        secure.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await?;
        assert_eq!(closed(&mut secure).await?, 0);
        stage.server.logged("rtmps:// goes to rtmp.tls_listen").await?;
        // Nothing at all, and the beginning of a handshake that never ends.
        let mut silent = TcpStream::connect(&stage.address).await?;
        let mut half = TcpStream::connect(&stage.address).await?;
        half.write_all(&[0x16, 3, 1, 2, 0]).await?;
        closed(&mut silent).await?;
        closed(&mut half).await?;
        stage.server.logged("(rtmp.handshake)").await?;
        let counted = || async { Ok((stage.api.counter(FAILED).await? >= 4.0).then_some(())) };
        wait_for("all four to be counted", SOON, counted).await?;
        assert_eq!(stage.api.get(&path).await?["state"], "live");
        Ok(())
    })
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_the_start() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (one, two) = (Pair::make(folder.path(), "one").await?, Pair::make(folder.path(), "two").await?);
        let (certificate, key, other) = (Some(&one.certificate), Some(&one.key), Some(&two.key));
        let nowhere = folder.path().join("nowhere.pem");
        let text = std::fs::read_to_string(&one.key)?;
        let secret = text.lines().nth(1).context("an empty key")?;
        for (certificate, key, said) in [
            (None, key, "rtmp.tls_certificate is not"),
            (certificate, None, "rtmp.tls_key is not"),
            (Some(&nowhere), key, "rtmp.tls_certificate: "),
            (key, key, "there is no certificate in"),
            (certificate, certificate, "there is no private key in"),
            (certificate, other, "does not fit the first certificate"),
        ] {
            let mut command = crest_command();
            command.arg("serve").env("CREST_DATA_DIR", folder.path().join("data"));
            command.env("CREST_HTTP__LISTEN", "127.0.0.1:0").env("CREST_RTMP__LISTEN", "127.0.0.1:0");
            command.env("CREST_RTMP__TLS_LISTEN", "127.0.0.1:0");
            for (name, path) in [("CREST_RTMP__TLS_CERTIFICATE", certificate), ("CREST_RTMP__TLS_KEY", key)] {
                if let Some(path) = path {
                    command.env(name, path);
                }
            }
            let ended = tokio::time::timeout(SOON, command.kill_on_drop(true).output()).await;
            let ended = ended.context("it was not refused")??;
            let error = String::from_utf8_lossy(&ended.stderr).into_owned();
            ensure!(ended.status.code() == Some(1) && error.contains(said), "{said}: {error}");
            ensure!(!error.contains(secret), "the key is shown: {error}");
        }
        Ok(())
    })
}
