//! What a check comes to.

use serde::Serialize;

/// Whether something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing.
    Ok,
    /// Nothing that crest needs; worth knowing.
    Note,
    /// crest does not work, or not safely, until it is mended.
    Wrong,
}

/// One line of what was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same name in each version.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What to do: commands to paste, remarks behind `#`. `None` where nothing is to be done.
    pub mend: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), mend: None }
    }
    /// Worth knowing.
    pub fn note(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Note, message: message.into(), mend: Some(mend.into()) }
    }
    /// To be mended.
    pub fn wrong(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Wrong, message: message.into(), mend: Some(mend.into()) }
    }
}

/// A command that only root may run, as this user has to write it.
pub fn as_root(command: impl std::fmt::Display) -> String {
    if rustix::process::geteuid().is_root() { command.to_string() } else { format!("sudo {command}") }
}

/// A path as a shell takes it.
pub fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Bytes, in the units that settings are written in.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}
