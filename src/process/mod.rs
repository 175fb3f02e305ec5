//! `crest process`: a file, a chat log or both through the same analyzers and the same fusion as a
//! live feed, as fast as they can be read. One thread, in media order, so that the same input yields
//! the same bytes.

mod chat;
mod media;
mod output;
mod pipeline;
mod report;
mod signals;

use anyhow::Context;
use crest_core::{Error, MediaTime};
use crest_fusion::DimensionSet;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

use media::MediaRun;
use pipeline::Pipeline;

use crate::usage::Usage;

/// What is to be processed.
#[derive(Debug)]
pub struct Request {
    /// A file or an http(s) address.
    pub input: Option<String>,
    /// The folder for the results.
    pub out: PathBuf,
    /// Chat as JSON lines.
    pub chat: Option<PathBuf>,
    /// A dimension set as JSON.
    pub dimensions: Option<PathBuf>,
    /// Which audio track of the file is read, counted from 0.
    pub audio_track: Option<u8>,
}

/// Runs the request and writes the results.
pub fn run(request: &Request) -> anyhow::Result<()> {
    if request.input.is_none() && request.chat.is_none() {
        return Err(Usage("nothing to process: name a file, or chat with --chat FILE".to_owned()).into());
    }
    let set = dimensions(request.dimensions.as_deref())?;
    let messages = request.chat.as_deref().map(chat::read).transpose()?.unwrap_or_default();
    std::fs::create_dir_all(&request.out)
        .with_context(|| format!("cannot create the output folder {}", request.out.display()))?;
    let mut pipeline = Pipeline::new(set, messages, request.input.is_some());

    let mut run = match &request.input {
        Some(input) => {
            let mut run = MediaRun::open(input, request.audio_track, &request.out)?;
            let bar = bar(run.duration());
            run.read(&mut pipeline, &bar)?;
            bar.finish_and_clear();
            Some(run)
        }
        None => None,
    };
    let media_end = run.as_ref().map_or(MediaTime::ZERO, MediaRun::end);
    let results = pipeline.finish(media_end);

    let input = request.input.clone().or_else(|| request.chat.as_ref().map(|p| p.display().to_string()));
    let mut report = output::Report::new(input.unwrap_or_default(), &results);
    if let Some(run) = &mut run {
        run.cut(&mut report, &results, &request.out)?;
    }
    signals::write(&results, &request.out.join("signals.parquet"))?;
    report::write(&report, &results, &request.out)?;
    // Last, and whole or not at all: where it is, everything that it names is.
    report.write(&request.out)?;

    for note in run.iter().flat_map(MediaRun::notes) {
        eprintln!("note: {note}");
    }
    output::print(&report, &request.out);
    Ok(())
}

fn dimensions(path: Option<&Path>) -> anyhow::Result<DimensionSet> {
    let Some(path) = path else { return Ok(DimensionSet::default()) };
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let set: DimensionSet = serde_json::from_slice(&text)
        .map_err(|e| Error::user(format!("{} is not a dimension set: {e}", path.display())))?;
    set.check().map_err(|e| Error::user(format!("{}: {e}", path.display())))?;
    Ok(set)
}

/// Progress in milliseconds of media; a spinner where the length is not known.
fn bar(duration: Option<MediaTime>) -> ProgressBar {
    let bar = match duration {
        Some(duration) => ProgressBar::new(u64::try_from(duration.nanos() / 1_000_000).unwrap_or(0)),
        None => ProgressBar::new_spinner(),
    };
    let template = "{msg} [{bar:40}] {percent:>3} %  {elapsed} elapsed, {eta} to go";
    if let (Some(_), Ok(style)) = (duration, ProgressStyle::with_template(template)) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message("analysing");
    bar
}
