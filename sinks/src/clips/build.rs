//! One highlight: from stored fragments to a clip and a thumbnail, and the event that tells it.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use crest_core::event::{Event, EventType};
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::segment::Fragment;
use crest_core::store::ClipResult;
use crest_core::view::{HighlightView, Links};
use crest_core::{Error, Fault, MediaTime, Result, WallTime, object};

use super::Shared;
use super::scratch::{self, Scratch};

/// How long fetching media, and storing the thumbnail and the clip, may take each.
const TRANSFER: Duration = Duration::from_secs(30);

/// What building came to.
#[derive(Debug)]
pub(crate) enum Built {
    /// Made, as far as there is something to make it of.
    Made(ClipResult),
    /// Trying again cannot help.
    Impossible(String),
    /// There is no room for it; that is not the clip's fault, and passes.
    NoRoom(String),
    /// The home of finished files cannot be used; neither is that the clip's fault.
    Away(Error),
}

/// The stretch that the clip of a highlight shows.
pub(crate) fn stretch(shared: &Shared, stored: &StoredHighlight) -> (MediaTime, MediaTime) {
    let padding =
        |span: crest_core::units::Span| MediaTime::from_nanos(i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX));
    let from = stored.highlight.start.saturating_sub(padding(shared.config.before));
    let to = stored.highlight.end + padding(shared.config.after);
    (from, to)
}

/// Cuts the clip and takes the thumbnail. Doing so again writes the same files.
pub(crate) async fn build(shared: &Shared, stored: &StoredHighlight) -> Result<Built> {
    let highlight = &stored.highlight;
    let (from, to) = stretch(shared, stored);
    let fragments = shared.store.fragments(&highlight.stream_id, highlight.session, from, to).await?;
    if fragments.is_empty() {
        let any = shared.store.stored_to(&highlight.stream_id, highlight.session).await?;
        let at = |time: MediaTime| stored.session_started_at.plus_millis(time.nanos() / 1_000_000);
        if shared.space.was_short(at(from), at(to)) {
            return Ok(Built::Impossible(format!(
                "no media is stored between {from} and {to}: the server's disk was full at that time"
            )));
        }
        return Ok(match any {
            // Chat alone is an input too: the highlight is ready, without a clip.
            None => Built::Made(ClipResult {
                clip: None,
                thumbnail: None,
                clip_start: highlight.start,
                clip_duration: MediaTime::ZERO,
            }),
            Some(end) => Built::Impossible(format!(
                "no media is stored between {from} and {to} (the session's ends at {end}): it never arrived or was \
                 removed"
            )),
        });
    }
    let bytes = fragments.iter().map(|fragment| fragment.bytes).sum();
    if !shared.space.fits(bytes) {
        return Ok(Built::NoRoom(format!("waits for room on the server's disk, for at most {bytes} bytes")));
    }
    if shared.objects.folder().is_some() {
        return make(shared, &shared.root, fragments, (from, to), highlight).await;
    }
    let (bytes, most) = (scratch::fetched_bytes(&fragments), shared.config.scratch);
    if bytes > most.as_u64() {
        return Ok(Built::Impossible(format!(
            "the clip needs {} of stored media, and clips.scratch is {most}; give it more",
            ByteSize(bytes)
        )));
    }
    let scratch = Scratch::make(&shared.root).await?;
    if let Err(error) = in_time("fetching its media", scratch.fetch(&shared.objects, &fragments)).await {
        return elsewhere(shared, error).await;
    }
    make(shared, scratch.path(), fragments, (from, to), highlight).await
}

/// Makes the files below `root`, where the media lies under its keys, and stores them.
async fn make(
    shared: &Shared,
    root: &Path,
    fragments: Vec<Fragment>,
    (from, to): (MediaTime, MediaTime),
    highlight: &Highlight,
) -> Result<Built> {
    let clip = object::clip(&highlight.organization_id, &highlight.id);
    let thumbnail = object::thumbnail(&highlight.organization_id, &highlight.id);
    let (folder, of) = (root.to_owned(), highlight.clone());
    let work = move || cut(&folder, &fragments, (from, to), &of, (clip, thumbnail));
    let result = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) if error.fault == Fault::NotFound => return Ok(Built::Impossible(error.message)),
        Ok(Err(error)) if error.fault == Fault::Full => return Ok(Built::NoRoom(error.message)),
        Ok(Err(error)) => return Err(error),
        Err(error) => return Err(Error::ours(format!("cutting the clip ended abnormally: {error}"))),
    };
    for key in [&result.thumbnail, &result.clip].into_iter().flatten() {
        if let Err(error) = in_time("storing it", shared.objects.put_file(key, &root.join(key))).await {
            return elsewhere(shared, error).await;
        }
    }
    Ok(Built::Made(result))
}

/// Bounds what goes to or from the home of finished files.
async fn in_time<T>(doing: &str, transfer: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(TRANSFER, transfer).await {
        Ok(done) => done,
        Err(_) => Err(Error::outside(format!("{doing} took longer than {TRANSFER:?}"))),
    }
}

/// What a transfer that failed means for the clip.
async fn elsewhere(shared: &Shared, error: Error) -> Result<Built> {
    match error.fault {
        Fault::Full => Ok(Built::NoRoom(error.message)),
        Fault::Outside => Ok(Built::Away(error)),
        // Settings may be mended as well as the way; what is refused although they are right may not.
        Fault::User if shared.objects.ping().await.is_err() => Ok(Built::Away(error)),
        _ => Err(error),
    }
}

/// Blocking: reads, decodes and writes.
fn cut(
    root: &Path,
    fragments: &[Fragment],
    (from, to): (MediaTime, MediaTime),
    highlight: &Highlight,
    (clip, thumbnail): (String, String),
) -> Result<ClipResult> {
    let cut = crest_media::cut(root, fragments, from, to, &root.join(&clip))?;
    if cut.end <= cut.start {
        return Err(Error::outside(format!("the stored media between {from} and {to} yields an empty clip")));
    }
    let at = highlight.peak.clamp(cut.start, cut.end);
    let pictured = crest_media::thumbnail(root, fragments, at, &root.join(&thumbnail)).unwrap_or_else(|error| {
        // A clip without its picture is worth more than none.
        tracing::warn!(highlight_id = %highlight.id, stream_id = %highlight.stream_id,
            session = highlight.session.number(), %error, "no thumbnail could be made");
        false
    });
    Ok(ClipResult {
        clip: Some(clip),
        thumbnail: pictured.then_some(thumbnail),
        clip_start: cut.start,
        clip_duration: cut.end - cut.start,
    })
}

/// `highlight.ready`: what `result` makes of the highlight.
pub(crate) fn ready(stored: &StoredHighlight, result: &ClipResult, links: &Links, now: WallTime) -> Event {
    let mut stored = stored.clone();
    stored.highlight.state = HighlightState::Ready;
    stored.highlight.reason = None;
    stored.clip_start = result.clip.is_some().then_some(result.clip_start);
    stored.clip_duration = result.clip.is_some().then_some(result.clip_duration);
    stored.clip = result.clip.clone();
    stored.thumbnail = result.thumbnail.clone();
    tell(stored, EventType::HighlightReady, links, now)
}

/// `highlight.failed`, for `reason`.
pub(crate) fn failed(stored: &StoredHighlight, reason: &str, links: &Links, now: WallTime) -> Event {
    let mut stored = stored.clone();
    stored.highlight.state = HighlightState::Failed;
    stored.highlight.reason = Some(reason.to_owned());
    tell(stored, EventType::HighlightFailed, links, now)
}

fn tell(mut stored: StoredHighlight, event_type: EventType, links: &Links, now: WallTime) -> Event {
    stored.highlight.revision = stored.highlight.revision.saturating_add(1);
    HighlightView::of_stored(&stored, links).event(&stored.highlight.organization_id, event_type, now)
}
