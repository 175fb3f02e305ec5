//! `crest process` against ffmpeg, which decodes the same keyframes and sound and does nothing with them.

use anyhow::Result;
use std::path::Path;
use tokio::process::Command;

use crate::Common;
use crate::media;
use crate::reference::{cost, keyframes};
use crate::table::{Table, median};

/// Processes a file of so many minutes.
pub async fn run(common: &Common, feed: &Path, minutes: u32) -> Result<Table> {
    let file = media::looped(feed, minutes * 60, "mp4").await?;
    let (mut ffmpeg, mut crest) = (Vec::new(), Vec::new());
    for round in 0..common.rounds {
        eprintln!("a file of {minutes} min, round {}", round + 1);
        ffmpeg.push(keyframes(&file).await?);
        let out = tempfile::tempdir()?;
        let mut command = Command::new(&common.crest);
        command.arg("process").arg(&file).arg("--out").arg(out.path());
        crest.push(cost(command).await?);
    }
    let columns = ["", "processor time, s", "spread", "against ffmpeg"];
    let mut table = Table::new(format!("A file of {minutes} min"), &columns);
    let reference = median(&ffmpeg).0;
    for (name, costs) in [("ffmpeg -skip_frame nokey", ffmpeg), ("crest process", crest)] {
        let (cost, spread) = median(&costs);
        let spread = format!("{:.0} %", spread * 100.0);
        table.row(vec![name.to_owned(), format!("{cost:.1}"), spread, format!("{:.2}", cost / reference)]);
    }
    Ok(table)
}
