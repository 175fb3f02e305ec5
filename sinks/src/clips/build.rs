//! One highlight: from stored fragments to a clip and a thumbnail, and the event that tells it.

use std::path::Path;

use crest_core::event::{Event, EventType};
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::segment::Fragment;
use crest_core::store::ClipResult;
use crest_core::view::{HighlightView, Links};
use crest_core::{Error, Fault, MediaTime, Result, WallTime, object};

use super::Shared;

/// What building came to.
#[derive(Debug)]
pub(crate) enum Built {
    /// Made, as far as there is something to make it of.
    Made(ClipResult),
    /// Trying again cannot help.
    Impossible(String),
    /// There is no room for it; that is not the clip's fault, and passes.
    NoRoom(String),
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
    let clip = object::clip(&highlight.organization_id, &highlight.id);
    let thumbnail = object::thumbnail(&highlight.organization_id, &highlight.id);
    let (root, of) = (shared.root.clone(), highlight.clone());
    let work = move || cut(&root, &fragments, (from, to), &of, (clip, thumbnail));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(result)) => Ok(Built::Made(result)),
        Ok(Err(error)) if error.fault == Fault::NotFound => Ok(Built::Impossible(error.message)),
        Ok(Err(error)) if error.fault == Fault::Full => Ok(Built::NoRoom(error.message)),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(Error::ours(format!("cutting the clip ended abnormally: {error}"))),
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
