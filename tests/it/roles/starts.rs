//! How a process starts: what is away is waited for, and said to be; what will never be there ends it.

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::harness::{Said, crest, crest_command, run, signal, wait_for};
use crate::server::{Api, KEY};
use crate::services::{Home, Kind, Own, Proxy};

const LIMIT: Duration = Duration::from_secs(60);

/// A process that may not become ready.
struct Starting {
    child: Child,
    folder: TempDir,
}

impl Starting {
    /// Starts one with these settings; `CREST_DATA_DIR` and the like are added.
    fn new(roles: &str, settings: &[(String, String)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = crest_command()
            .args(["serve", "--roles", roles])
            .env("CREST_DATA_DIR", folder.path().join("data"))
            .env("CREST_BOOTSTRAP_KEY", KEY)
            .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .env("CREST_HTTP__PUBLIC_URL", "http://crest.test")
            .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .env("CREST_SRT__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBRTC__LISTEN", "127.0.0.1:0")
            .envs(settings.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("crest cannot be started")?;
        Ok(Self { child, folder })
    }

    /// What it answers, where it says that it listens.
    async fn http(&mut self) -> Result<Api> {
        let mut lines = BufReader::new(self.child.stdout.take().context("no standard output")?).lines();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(address) = line.strip_prefix("http listening on ") {
                    return Ok(Api::new(address, Some(KEY)));
                }
            }
            bail!("it ended");
        };
        let api = tokio::time::timeout(LIMIT, told).await.context("it does not listen")?;
        // The pipe stays open.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        api.with_context(|| self.log())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Its end, which it comes to by itself or because it was asked to.
    async fn ended(mut self) -> Result<Said> {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let status = status.with_context(|| format!("it does not end: {}", self.log()))??;
        Ok(Said { code: status.code(), out: Vec::new(), err: self.log() })
    }
}

/// Replaces a setting.
fn with(settings: &[(String, String)], key: &str, value: &str) -> Vec<(String, String)> {
    let mut settings: Vec<_> = settings.iter().filter(|(name, _)| name != key).cloned().collect();
    settings.push((key.to_owned(), value.to_owned()));
    settings
}

/// Waits until it says that it waits, and why it is not ready.
async fn waits(starting: &mut Starting, what: &str) -> Result<Api> {
    let api = starting.http().await?;
    let told = || async {
        let answer = api.send(Method::GET, "/readyz", None).await?;
        ensure!(answer.status == 503, "it is ready");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        Ok(detail.contains(what).then_some(answer))
    };
    let answer = wait_for("/readyz to say what is waited for", LIMIT, told).await.with_context(|| starting.log())?;
    assert_eq!(answer.json()["code"], "not_ready");
    assert_eq!(api.send(Method::GET, "/healthz", None).await?.status, 200);
    assert_eq!(api.send(Method::GET, "/v1/streams", None).await?.json()["code"], "not_ready");
    let again = || async { Ok((starting.log().matches(&format!("waiting for {what}")).count() >= 2).then_some(())) };
    wait_for("it to say so again", LIMIT, again).await.with_context(|| starting.log())?;
    Ok(api)
}

#[test]
fn what_is_away_is_waited_for_and_used_when_it_comes() -> Result<()> {
    run(async {
        let home = Home::new()?;
        let settings = home.settings();
        let s3 = home.s3.endpoint.trim_start_matches("http://").to_owned();
        let postgres = home.database.url.rsplit('@').next().and_then(|rest| rest.split('/').next());
        let services = [
            ("CREST_DATABASE__URL", postgres.context("no address")?.to_owned(), "the database (database.url)"),
            ("CREST_STORAGE__ENDPOINT", s3, "the object storage (storage.url)"),
            ("CREST_BUS__BROKERS", home.brokers.clone(), "the bus (bus.brokers)"),
        ];
        for (key, target, what) in services {
            let proxy = Proxy::to(&target).await?;
            proxy.cut();
            let address = match key {
                "CREST_DATABASE__URL" => home.database.through(proxy.port()),
                "CREST_STORAGE__ENDPOINT" => format!("http://{}", proxy.address()),
                _ => proxy.address(),
            };
            let settings = with(&settings, key, &address);
            // Asked to stop meanwhile, it stops.
            let mut stopped = Starting::new("ingest,api", &settings)?;
            waits(&mut stopped, what).await.with_context(|| key.to_owned())?;
            signal("TERM", stopped.child.id().context("it ended")?).await?;
            let said = stopped.ended().await?;
            ensure!(said.code == Some(0), "{key}: {:?} {}", said.code, said.err);

            let mut starting = Starting::new("ingest,api", &settings)?;
            let api = waits(&mut starting, what).await.with_context(|| key.to_owned())?;
            proxy.heal();
            // Over the connection that was told before that it is not ready.
            let ready = || async { Ok((api.send(Method::GET, "/readyz", None).await?.status == 200).then_some(())) };
            wait_for("it to be ready", LIMIT, ready).await.with_context(|| starting.log())?;
            let made = api.post("/v1/streams", json!({ "name": "a", "source": { "kind": "rtmp" } })).await?;
            ensure!(made["ingest"]["rtmp_url"].is_string(), "{made}");
        }
        Ok(())
    })
}

#[test]
fn what_no_waiting_helps_with_ends_it_and_is_named_without_secrets() -> Result<()> {
    run(async {
        const WRONG: &str = "open-sesame-of-the-wrong-cave";
        let kafka = Own::start_new(Kind::Kafka, &[("KAFKA_SASL", "crest:the-right-word")]).await?;
        let home =
            Home::on(&kafka.told("brokers"), crate::services::shared_postgres()?, crate::services::shared_s3()?)?;
        let mut settings = home.settings();
        for (key, value) in [
            ("CREST_BUS__KAFKA__SECURITY_PROTOCOL", "sasl_plaintext"),
            ("CREST_BUS__KAFKA__USERNAME", "crest"),
            ("CREST_BUS__KAFKA__PASSWORD", "the-right-word"),
        ] {
            settings.push((key.to_owned(), value.to_owned()));
        }
        let right = Starting::new("api", &settings)?;
        let listening = || async { Ok(right.log().contains("crest is ready").then_some(())) };
        wait_for("it to be ready with what is right", LIMIT, listening).await.with_context(|| right.log())?;

        let stranger = home.database.url.replacen(&format!(":{}@", home.database.name), &format!(":{WRONG}@"), 1);
        let nowhere = home.database.url.rsplit_once('/').map(|(server, _)| format!("{server}/no_such_database"));
        let cases = [
            ("CREST_DATABASE__URL", stranger.as_str(), "database.url"),
            ("CREST_DATABASE__URL", nowhere.as_deref().unwrap_or_default(), "database.url"),
            ("CREST_STORAGE__SECRET_ACCESS_KEY", WRONG, "storage.secret_access_key"),
            ("CREST_STORAGE__URL", "s3://there-is-no-such-bucket", "storage.url"),
            ("CREST_BUS__KAFKA__PASSWORD", WRONG, "bus.kafka.password"),
            ("CREST_BUS__KAFKA__SASL_MECHANISM", "SCRAM-SHA-256", "bus.kafka.sasl_mechanism"),
        ];
        for (key, value, named) in cases {
            let said = Starting::new("analyze,api", &with(&settings, key, value))?.ended().await.context(named)?;
            ensure!(said.code == Some(1), "{key}: {:?} {}", said.code, said.err);
            let last = said.err.lines().last().unwrap_or_default();
            ensure!(last.contains(named), "{key}: {last}");
            ensure!(!said.err.contains(WRONG) && !said.err.contains("the-right-word"), "{key}: {}", said.err);
        }
        Ok(())
    })
}

#[test]
fn roles_that_cannot_work_apart_are_wrong_usage() -> Result<()> {
    run(async {
        for (roles, said) in [("ingest,api", "bus.kind"), ("every", "'every' is no role"), ("", "is no role")] {
            let ended = crest(["serve", "--roles", roles]).await?;
            ensure!(ended.code == Some(2) && ended.err.contains(said), "{roles}: {:?} {}", ended.code, ended.err);
        }
        let kafka = [("CREST_BUS__KIND", "kafka"), ("CREST_BUS__BROKERS", "127.0.0.1:9"), ("CREST_DATABASE__URL", "")];
        let settings: Vec<_> = kafka.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let database = with(&settings, "CREST_DATABASE__URL", "postgres://crest@127.0.0.1:9/crest");
        for (settings, named) in
            [(&settings[..1], "bus.brokers"), (&settings[..], "database.url"), (&database[..], "storage.url")]
        {
            let said = Starting::new("fuse", settings)?.ended().await?;
            ensure!(said.code == Some(2) && said.err.contains(named), "{named}: {:?} {}", said.code, said.err);
        }
        Ok(())
    })
}
