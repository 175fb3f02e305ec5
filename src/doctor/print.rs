//! Findings for people and for machines.

use std::io::{IsTerminal, Write};

use super::finding::{Finding, State};

/// Columns that a line of words may fill; commands are never broken.
const WIDTH: usize = 100;
/// Where what to do begins.
const MEND: usize = 7;

/// One line for each finding, what to do below it, and the sum.
pub fn text(findings: &[Finding], out: &mut impl Write) -> std::io::Result<()> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let names = findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    for finding in findings {
        let state = match finding.state {
            State::Ok => paint("32", "ok   "),
            State::Note => paint("33", "note "),
            State::Wrong => paint("1;31", "wrong"),
        };
        let indent = 5 + 2 + names + 2;
        let mut lines = wrapped(&finding.message, WIDTH.saturating_sub(indent)).into_iter();
        writeln!(out, "{state}  {:names$}  {}", finding.check, lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(out, "{:indent$}{line}", "")?;
        }
        for line in finding.mend.iter().flat_map(|mend| mend.lines()).flat_map(with_remark) {
            let code = if line.starts_with('#') { "2" } else { "36" };
            writeln!(out, "{:MEND$}{}", "", paint(code, line))?;
        }
    }
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    let (wrong, notes) = (count(State::Wrong), count(State::Note));
    let notes = match notes {
        0 => String::new(),
        1 => ", 1 note".to_owned(),
        many => format!(", {many} notes"),
    };
    match wrong {
        0 => writeln!(out, "\n{}{notes}", paint("32", "nothing is wrong")),
        many => writeln!(out, "\n{}{notes}; mend them from the top down", paint("1;31", &format!("{many} wrong"))),
    }
}

/// A JSON list of `{"check", "state", "message", "mend"}`.
pub fn json(findings: &[Finding], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(findings)?)?;
    Ok(())
}

/// A command and the remark behind it: on one line where there is room for both.
fn with_remark(line: &str) -> Vec<&str> {
    match line.find("    # ") {
        Some(at) if MEND + line.chars().count() > WIDTH => vec![&line[..at], line[at..].trim_start()],
        _ => vec![line],
    }
}

/// Breaks words into lines.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut().filter(|l| l.is_empty() || l.chars().count() + 1 + word.len() <= width) {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
