//! What tests need of PyPI and npm: implementations of Standard Webhooks that are not crest's, and an ffmpeg that is
//! newer than the system's.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{own_file, succeed};
use crate::receiver::Received;

const HOW: &str = "`make test` installs them (CREST_VERIFY_PYTHON and CREST_VERIFY_NODE_MODULES say where they are)";

/// What the three say of each request, in order: `true` where the signature is right.
pub struct Verdicts {
    /// The crate `standardwebhooks`.
    pub rust: Vec<bool>,
    /// The PyPI package.
    pub python: Vec<bool>,
    /// The npm package.
    pub node: Vec<bool>,
}

impl Verdicts {
    /// Whether all three say this of every request.
    pub fn all(&self, right: bool) -> bool {
        [&self.rust, &self.python, &self.node].into_iter().flatten().all(|verdict| *verdict == right)
    }
}

/// Has every request checked by all three.
pub async fn verdicts(secret: &str, requests: &[Received]) -> Result<Verdicts> {
    let crate_ = standardwebhooks::Webhook::new(secret).context("the secret is none")?;
    let rust = requests.iter().map(|r| crate_.verify(&r.body, &r.headers).is_ok()).collect();
    let mut lines = String::new();
    for request in requests {
        let headers: serde_json::Map<_, _> =
            request.headers.keys().map(|name| (name.to_string(), request.header(name.as_str()).into())).collect();
        let body = std::str::from_utf8(&request.body)?;
        lines += &json!({ "secret": secret, "headers": headers, "body": body }).to_string();
        lines.push('\n');
    }
    let python = installed("CREST_VERIFY_PYTHON", "venv/bin/python")?;
    let modules = node_modules()?;
    let mut by_python = Command::new(python);
    by_python.arg(own_file("verify/verify.py"));
    let mut by_node = Command::new("node");
    by_node.arg(own_file("verify/verify.mjs")).arg(modules);
    Ok(Verdicts {
        rust,
        python: ask(by_python, &lines, requests.len()).await.context("the PyPI verifier")?,
        node: ask(by_node, &lines, requests.len()).await.context("the npm verifier")?,
    })
}

/// Where the npm packages are that tests talk to.
pub fn node_modules() -> Result<PathBuf> {
    installed("CREST_VERIFY_NODE_MODULES", "node_modules")
}

/// An ffmpeg that speaks Enhanced RTMP, with several tracks too: the PyPI package `imageio-ffmpeg` holds one.
pub async fn newer_ffmpeg() -> Result<PathBuf> {
    let python = installed("CREST_VERIFY_PYTHON", "venv/bin/python")?.display().to_string();
    let asked = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    Ok(PathBuf::from(succeed(&python, ["-c", asked]).await.context(HOW)?.text().trim()))
}

/// The PyPI package `yt-dlp`: distributions have it too, in versions that differ.
pub fn yt_dlp() -> Result<PathBuf> {
    Ok(installed("CREST_VERIFY_PYTHON", "venv/bin/python")?.with_file_name("yt-dlp"))
}

fn installed(variable: &str, usual: &str) -> Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/crest/verify").join(usual),
    };
    ensure!(path.exists(), "the packages of PyPI and npm that tests need are not at {}; {HOW}", path.display());
    Ok(path)
}

async fn ask(mut program: Command, lines: &str, count: usize) -> Result<Vec<bool>> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot be started; {HOW}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let lines = lines.to_owned();
    let writing = tokio::spawn(async move { stdin.write_all(lines.as_bytes()).await });
    let output = child.wait_with_output().await?;
    let _ = writing.await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed: {said} ({HOW})");
    let verdicts: Vec<bool> = String::from_utf8_lossy(&output.stdout).lines().map(|line| line == "ok").collect();
    ensure!(verdicts.len() == count, "answered {} of {count} requests", verdicts.len());
    Ok(verdicts)
}
