//! What every test stands on: one runtime, conditions with limits, child programs.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::runtime::Runtime;

/// What is shared between tests lives on this runtime; tests are threads that wait for it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // The only TLS provider that is linked; reqwest wants one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime for the tests")
});

/// Runs a test.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

/// Asks again and again until there is an answer. An error of the last question is told.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut question: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + limit;
    loop {
        let answer = question().await;
        if let Ok(Some(answer)) = answer {
            return Ok(answer);
        }
        if Instant::now() > end {
            let waited = format!("waited {} s for {what}", limit.as_secs());
            return match answer {
                Err(error) => Err(error.context(waited)),
                Ok(_) => bail!("{waited}, and it did not come"),
            };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Said {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs a program to its end, at most `limit`.
pub async fn program<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>, limit: Duration) -> Result<Said> {
    let mut command = Command::new(name);
    command.args(args);
    finish(command, limit).await.with_context(|| format!("running {name}"))
}

/// Runs a program and insists that it succeeds.
pub async fn succeed<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Result<Said> {
    let said = program(name, args, Duration::from_secs(120)).await?;
    if said.code != Some(0) {
        bail!("{name} ended with {:?}: {}", said.code, said.err.trim());
    }
    Ok(said)
}

/// Runs the real `crest` with these arguments, at most two minutes.
pub async fn crest<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Said> {
    let mut command = crest_command();
    command.args(args);
    finish(command, Duration::from_secs(120)).await.context("running crest")
}

/// The real `crest`.
pub fn crest_command() -> Command {
    untouched(Command::new(env!("CARGO_BIN_EXE_crest")))
}

/// Without settings of another crest on this machine.
pub fn untouched(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CREST_")) {
        command.env_remove(name);
    }
    command
}

async fn finish(mut command: Command, limit: Duration) -> Result<Said> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(limit, command.output()).await else {
        bail!("it did not end within {} s", limit.as_secs());
    };
    let output = output.context("it cannot be started; `make setup` installs what the tests need")?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said { code: output.status.code(), out: output.stdout, err })
}

/// Sends a signal, `STOP` for one, to a process that this test started.
pub async fn signal(name: &str, pid: u32) -> Result<()> {
    succeed("sh", ["-c", &format!("kill -{name} {pid}")]).await.map(drop)
}

/// A file of the test suite.
pub fn own_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name)
}

/// What the first video or audio stream of a file is: `key` to value, as ffprobe tells it.
pub async fn probe(file: &Path, kind: &str, keys: &str) -> Result<String> {
    let args = ["-v", "error", "-select_streams", kind, "-show_entries", keys, "-of", "csv=p=0"];
    let args = args.iter().map(OsStr::new).chain([file.as_os_str()]);
    Ok(succeed("ffprobe", args).await?.text().trim().to_owned())
}

/// Decodes a whole file and insists that the decoders have nothing to complain about.
pub async fn decodes_silently(file: &Path) -> Result<()> {
    let args = [OsStr::new("-v"), "error".as_ref(), "-xerror".as_ref(), "-i".as_ref(), file.as_os_str()];
    let said = succeed("ffmpeg", args.into_iter().chain(["-f", "null", "-"].map(OsStr::new))).await?;
    if !said.err.trim().is_empty() {
        bail!("decoding {} complains: {}", file.display(), said.err.trim());
    }
    Ok(())
}
