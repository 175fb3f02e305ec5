//! Topics as somebody beside crest sees them, through Kafka's own tools.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A tool starts a Java machine and finds its way through the cluster.
const LIMIT: Duration = Duration::from_secs(60);

/// The tools, for one cluster.
#[derive(Debug, Clone)]
pub struct Kafka {
    brokers: String,
}

impl Kafka {
    /// For the cluster behind these addresses.
    pub fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned() }
    }

    /// The topics whose names begin so.
    pub async fn topics(&self, prefix: &str) -> Result<Vec<String>> {
        let said = self.tool("TopicCommand", &["--list"], "").await?;
        Ok(said.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
    }

    /// What Kafka says of a topic: partitions, configuration.
    pub async fn describe(&self, topic: &str) -> Result<String> {
        self.tool("TopicCommand", &["--describe", "--topic", topic], "").await
    }

    /// Creates a topic, with settings such as `retention.ms=1000`.
    pub async fn create(&self, topic: &str, partitions: u32, settings: &[&str]) -> Result<()> {
        let partitions = partitions.to_string();
        let mut args = vec!["--create", "--topic", topic, "--partitions", &partitions];
        settings.iter().for_each(|setting| args.extend(["--config", setting]));
        self.tool("TopicCommand", &args, "").await.map(drop)
    }

    /// Deletes a topic.
    pub async fn delete(&self, topic: &str) -> Result<()> {
        self.tool("TopicCommand", &["--delete", "--topic", topic], "").await.map(drop)
    }

    /// Appends a record of text, with headers `name:value,name:value`.
    pub async fn append(&self, topic: &str, headers: &str, key: &str, value: &str) -> Result<()> {
        let args = ["--topic", topic, "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"];
        self.tool("ConsoleProducer", &args, &format!("{headers}\t{key}\t{value}\n")).await.map(drop)
    }

    /// Every record of a topic, one a line: `headers TAB key TAB value`; bytes that are no text are lost.
    pub async fn read(&self, topic: &str) -> Result<Vec<String>> {
        let args = ["--topic", topic, "--from-beginning", "--timeout-ms", "3000", "--formatter-property"];
        let shown = ["print.key=true", "--formatter-property", "print.headers=true"];
        let said = self.tool("consumer.ConsoleConsumer", &[&args[..], &shown[..]].concat(), "").await?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    async fn tool(&self, class: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(script());
        command.args(["run", &format!("org.apache.kafka.tools.{class}"), "--bootstrap-server", &self.brokers]);
        command.env("KAFKA_JAVA_OPTIONS", "-Dlog4j2.level=off");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("deploy/dev/kafka cannot be started")?;
        let mut stdin = child.stdin.take().context("it has no standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context(class.to_owned())??;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        ensure!(output.status.success(), "{class} {args:?}: {out}{err}");
        Ok(out)
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dev/kafka")
}
