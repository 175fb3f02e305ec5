//! Files: they are fetched first and read from the disk, for what is needed to read them may stand at their end,
//! and no server holds a connection for as long as they play. MPEG-TS without end is read as it arrives.

use bytes::Bytes;
use crest_core::Fault;
use crest_core::codec::MediaEvent;
use crest_media::{Container, Demuxer, FileReader};
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Trouble;
use super::hls::container;
use super::http::Body;
use super::outlet::Outlet;
use super::source::Sources;
use super::turns::Rate;

/// Events that are read ahead of their time.
const AHEAD: usize = 64;
/// How many times `pull.timeout` a file's rate is averaged over.
const WINDOW: u32 = 3;
/// Where reading a recording has come to its end.
const OVER: &str = "the file is over";

/// Reads what a server sends; the first bytes have been taken from it already. How long it `waited` for its turn is
/// added there.
pub(super) async fn run(
    sources: &Sources,
    url: &Url,
    (body, first): (Body, Bytes),
    outlet: &mut Outlet<'_>,
    waited: &mut Duration,
) -> Result<String, Trouble> {
    if body.length().is_none() && matches!(container(&first), Some(Container::MpegTs)) {
        return stream(body, first, outlet).await;
    }
    check_size(sources, &body)?;
    let file = match sources.fetching.take(outlet.organization()) {
        Some(_turn) => fetch(sources, body, first, outlet).await?,
        None => {
            // Who waits does not hold a connection meanwhile.
            drop((body, first));
            let (_turn, took) = sources.fetching.wait(outlet.organization(), outlet.progress()).await;
            *waited += took;
            let (body, first) = sources.http.begin(url).await?;
            check_size(sources, &body)?;
            fetch(sources, body, first, outlet).await?
        }
    };
    read(file.path().to_owned(), outlet).await
}

/// Reads a file of the folder that the operator has named for it.
pub(super) async fn run_local(sources: &Sources, url: &Url, outlet: &mut Outlet<'_>) -> Result<String, Trouble> {
    let refused = |reason: &str| Err(Trouble::Final(reason.to_owned()));
    let Some(folder) = &sources.config.files else {
        return refused("files of the server are not read; the operator can permit a folder with pull.files");
    };
    let folder = std::fs::canonicalize(folder);
    let path = url.to_file_path().ok().map(std::fs::canonicalize);
    match (folder, path) {
        // Links are followed first: what counts is where the file lies.
        (Ok(folder), Some(Ok(path))) if path.starts_with(&folder) => read(path, outlet).await,
        _ => refused("there is no such file in the folder that may be read (pull.files)"),
    }
}

/// MPEG-TS as it arrives.
async fn stream(mut body: Body, first: Bytes, outlet: &mut Outlet<'_>) -> Result<String, Trouble> {
    let unreadable = |error: crest_core::Error| Trouble::Passing(format!("it cannot be read: {}", error.message));
    let mut demuxer = Demuxer::new(Container::MpegTs).map_err(unreadable)?;
    demuxer.choose_audio(outlet.audio_track());
    let mut chunk = Some(first);
    while let Some(bytes) = chunk {
        for event in demuxer.push(bytes).map_err(unreadable)? {
            outlet.deliver(event).await?;
        }
        chunk = body.next().await?;
    }
    for event in demuxer.finish().map_err(unreadable)? {
        outlet.deliver(event).await?;
    }
    Err(Trouble::Passing("the server ended the stream".to_owned()))
}

fn too_large(sources: &Sources) -> Trouble {
    Trouble::Final(format!("the file is larger than {} (pull.max_file)", sources.config.max_file))
}

/// What says that it is too large need not wait to be fetched.
fn check_size(sources: &Sources, body: &Body) -> Result<(), Trouble> {
    let fits = body.length().is_none_or(|length| length <= sources.config.max_file.as_u64());
    fits.then_some(()).ok_or_else(|| too_large(sources))
}

/// Fetches a file whole.
async fn fetch(
    sources: &Sources,
    mut body: Body,
    first: Bytes,
    outlet: &Outlet<'_>,
) -> Result<tempfile::NamedTempFile, Trouble> {
    let config = &sources.config;
    let mut rate = Rate::new(config.min_rate.as_u64(), config.timeout.0 * WINDOW);
    let unkept = |error: std::io::Error| Trouble::Passing(format!("the file cannot be kept while it is read: {error}"));
    std::fs::create_dir_all(&sources.scratch).map_err(unkept)?;
    let file = tempfile::Builder::new().prefix("pull-").tempfile_in(&sources.scratch).map_err(unkept)?;
    let mut out = tokio::fs::File::from_std(file.as_file().try_clone().map_err(unkept)?);
    let (mut chunk, mut size) = (Some(first), 0u64);
    while let Some(bytes) = chunk {
        size += bytes.len() as u64;
        if size > config.max_file.as_u64() {
            return Err(too_large(sources));
        }
        if !outlet.has_room() {
            return Err(Trouble::Passing("the server's disk is full".to_owned()));
        }
        outlet.progress().touch();
        out.write_all(&bytes).await.map_err(unkept)?;
        // What this machine's disk takes is not the server's time.
        let asked = Instant::now();
        chunk = body.next().await?;
        if !rate.keeps_up(chunk.as_ref().map_or(0, Bytes::len), asked.elapsed()) && chunk.is_some() {
            let least = config.min_rate;
            return Err(Trouble::Passing(format!("the file comes at less than {least} a second (pull.min_rate)")));
        }
    }
    out.flush().await.map_err(unkept)?;
    Ok(file)
}

/// Reads a file of the disk, as fast as it plays.
async fn read(path: PathBuf, outlet: &mut Outlet<'_>) -> Result<String, Trouble> {
    outlet.recorded();
    let (events, mut ready) = mpsc::channel(AHEAD);
    let audio = outlet.audio_track();
    // Ends when its channel does.
    let reading = tokio::task::spawn_blocking(move || read_into(&path, audio, &events));
    while let Some(event) = ready.recv().await {
        outlet.deliver(event).await?;
    }
    let notes = match reading.await {
        Ok(Ok(notes)) => notes,
        Ok(Err(error)) if error.fault == Fault::User => return Err(Trouble::Final(error.message)),
        Ok(Err(error)) => return Err(Trouble::Passing(error.message)),
        Err(error) => return Err(Trouble::Passing(format!("reading the file ended abnormally: {error}"))),
    };
    for note in &notes {
        tracing::info!(note, "something of a file is left out");
    }
    outlet.has_given().then(|| OVER.to_owned()).ok_or_else(|| Trouble::Final(no_media(&notes)))
}

fn read_into(path: &Path, audio: Option<u8>, events: &mpsc::Sender<MediaEvent>) -> crest_core::Result<Vec<String>> {
    // Its own name means nothing to whoever named the address.
    let named = |error: crest_core::Error| {
        let message = error.message.replace(&path.display().to_string(), "the file");
        crest_core::Error { message, ..error }
    };
    let mut reader = FileReader::open_with(&path.display().to_string(), audio).map_err(named)?;
    while let Some(event) = reader.next_event().map_err(named)? {
        if events.blocking_send(event).is_err() {
            break;
        }
    }
    Ok(reader.notes())
}

fn no_media(notes: &[String]) -> String {
    let why = notes.first().map_or(String::new(), |note| format!(": {note}"));
    format!("what is there has no picture or sound that can be read{why}")
}
