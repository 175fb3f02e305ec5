//! `crest doctor`: each finding is caused, and the real program is asked.

mod data;
mod disk;
mod machine;
mod server;
mod services;
mod shown;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

use crate::harness::{crest_command, program};

const LIMIT: Duration = Duration::from_secs(120);

/// A machine to look at: a folder of its own and ports that are free, whatever else runs.
pub struct Patient {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    wrapper: Vec<String>,
}

/// What the doctor said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub findings: Vec<Value>,
    pub err: String,
}

impl Patient {
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let patient = Self { folder, settings: Vec::new(), wrapper: Vec::new() };
        let data = patient.data().display().to_string();
        Ok(patient
            .with("CREST_DATA_DIR", data)
            .with("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .with("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .with("CREST_SRT__LISTEN", "127.0.0.1:0")
            .with("CREST_WEBRTC__LISTEN", "127.0.0.1:0"))
    }

    /// A folder of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data directory, which is not there yet.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// With an environment variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.settings.retain(|(set, _)| set != name);
        self.settings.push((name.to_owned(), value));
        self
    }

    /// Run by another program, which gets the command behind its own arguments.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// In a mount namespace of its own, after `script`. Mounting takes root; the program is root there.
    pub fn after_mounting(self, script: &str) -> Self {
        let script = format!("set -e; {script}; exec \"$@\"");
        match is_root() {
            true => self.under(&["unshare", "--mount", "sh", "-c", &script, "sh"]),
            false => self.under(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]),
        }
    }

    /// The command with these arguments behind `crest doctor`.
    pub fn command(&self, args: &[&OsStr]) -> Command {
        let crest = crest_command();
        let program = crest.as_std().get_program().to_owned();
        let mut words = self.wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg("doctor").args(args);
        for (name, _) in crest.as_std().get_envs() {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Asks the doctor.
    pub async fn ask(&self) -> Result<Said> {
        self.ask_with(&[]).await
    }

    /// Asks the doctor with these arguments besides.
    pub async fn ask_with(&self, args: &[&OsStr]) -> Result<Said> {
        let args: Vec<&OsStr> = args.iter().copied().chain(["--format".as_ref(), "json".as_ref()]).collect();
        let output = tokio::time::timeout(LIMIT, self.command(&args).output()).await.context("it did not end")??;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let findings = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{:?} said {} {err}", output.status, String::from_utf8_lossy(&output.stdout)))?;
        Ok(Said { code: output.status.code(), findings, err })
    }
}

impl Said {
    fn find(&self, check: &str) -> Result<&Value> {
        self.findings.iter().find(|f| f["check"] == check).with_context(|| format!("no {check} in {self:?}"))
    }

    /// A check with its state, whose message and mend have these words in them.
    fn has(&self, check: &str, state: &str, message: &str, mend: &str) -> Result<()> {
        let found = self.find(check)?;
        ensure!(found["state"] == state, "not {state}: {found}");
        ensure!(found["message"].as_str().is_some_and(|text| text.contains(message)), "no '{message}' in {found}");
        ensure!(found["mend"].as_str().unwrap_or_default().contains(mend), "no '{mend}' in {found}");
        ensure!(
            (state == "ok") == found["mend"].is_null(),
            "what to do is said where something is to be done: {found}"
        );
        Ok(())
    }

    /// All is well with a check.
    pub fn ok(&self, check: &str, message: &str) -> Result<()> {
        self.has(check, "ok", message, "")
    }

    /// It is worth a note.
    pub fn note(&self, check: &str, message: &str, mend: &str) -> Result<()> {
        self.has(check, "note", message, mend)
    }

    /// It is wrong, and the doctor fails for it.
    pub fn wrong(&self, check: &str, message: &str, mend: &str) -> Result<()> {
        self.has(check, "wrong", message, mend)?;
        ensure!(self.code == Some(1), "something is wrong, but it ended with {:?}", self.code);
        Ok(())
    }

    /// Nothing is wrong.
    pub fn well(&self) -> Result<()> {
        let wrong: Vec<_> = self.findings.iter().filter(|f| f["state"] == "wrong").collect();
        ensure!(wrong.is_empty() && self.code == Some(0), "{:?}: {wrong:?} {}", self.code, self.err);
        Ok(())
    }
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A file or folder: path, mode, time of change in seconds and nanoseconds, content.
type Entry = (PathBuf, u32, i64, i64, Vec<u8>);

/// Every file and folder below `folder`.
pub fn picture(folder: &Path) -> Result<Vec<Entry>> {
    use std::os::unix::fs::MetadataExt;
    let (mut seen, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = todo.pop() {
        let found = path.symlink_metadata()?;
        let content = if found.is_file() { std::fs::read(&path)? } else { Vec::new() };
        if found.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        seen.push((path, found.mode(), found.mtime(), found.mtime_nsec(), content));
    }
    seen.sort();
    Ok(seen)
}

/// Changes a database behind crest's back.
pub async fn sql(file: &Path, statement: &str) -> Result<()> {
    const SCRIPT: &str =
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.close()";
    let said =
        program("python3", ["-c".as_ref(), SCRIPT.as_ref(), file.as_os_str(), statement.as_ref()], LIMIT).await?;
    if said.code != Some(0) {
        bail!("{statement}: {}", said.err);
    }
    Ok(())
}
