//! What a server has stored of a stream, as files in its data directory.

use anyhow::Result;
use std::path::{Path, PathBuf};

use crate::harness::probe;

/// The segment files of a stream, over all sessions, in order.
pub fn segments(data: &Path, stream: &str) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => below(&path, found),
                path => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    below(&data.join("media"), &mut found);
    found.retain(|path| path.components().any(|part| part.as_os_str() == stream));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
    found.sort();
    found
}

/// Presentation times, in seconds, of a file's `v`ideo or `a`udio packets, in the order of the file.
pub async fn times(file: &Path, track: &str) -> Result<Vec<f64>> {
    let said = probe(file, track, "packet=pts_time").await?;
    Ok(said.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect())
}

/// From the first to the last.
pub fn span(times: &[f64]) -> f64 {
    let (first, last) = times.iter().fold((f64::MAX, f64::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
    (last - first).max(0.0)
}
