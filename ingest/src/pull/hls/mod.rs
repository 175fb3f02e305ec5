//! HLS: playlists are followed, their pieces fetched and taken apart, picture and sound put in one order.

pub(crate) mod ads;
mod ahead;
pub(crate) mod key;
pub(crate) mod parts;
pub(crate) mod playlist;
mod renewal;
mod track;
mod upcoming;

use crest_core::MediaTime;
use reqwest::Url;

use super::Trouble;
use super::outlet::Outlet;
use super::page::Found;
use super::source::Sources;
use playlist::{Listing, Media};
use renewal::Renewal;
use track::Track;
pub(super) use track::container;

/// Target durations for which one playlist may be a timeline behind the other.
const APART: f64 = 2.0;

/// The piece that comes next of the variant, and of the sound where it has a playlist of its own: a pull that
/// broke off goes on there.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Reached {
    main: Option<u64>,
    audio: Option<u64>,
}

/// Whether a body begins as a playlist does (RFC 8216 4.3.1.1), a byte order mark aside.
pub(super) fn is_playlist(body: &[u8]) -> bool {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).starts_with(b"#EXTM3U")
}

/// Pulls a playlist until the broadcast is over. One that was `found` on a page is looked up anew before its address
/// expires. With `only_live` one that has ended already is not taken.
pub(super) async fn run(
    sources: &Sources,
    url: &Url,
    outlet: &mut Outlet<'_>,
    reached: &mut Reached,
    found: Option<Found<'_>>,
    only_live: bool,
) -> Result<String, Trouble> {
    let playlists = listed(sources, url, outlet.audio_track()).await?;
    if only_live && playlists.iter().all(|listed| listed.media.over) {
        return Err(Trouble::Passing("the broadcast that is there is over; waiting for the next one".to_owned()));
    }
    // Where none says how many discontinuities have left it, they begin alike.
    let alike = !playlists.iter().any(|listed| listed.media.counted);
    let mut tracks = Vec::new();
    for (listed, reached) in playlists.into_iter().zip([reached.main, reached.audio]) {
        tracks.push(Track::new(sources, listed, reached, alike));
    }
    if tracks.iter().all(Track::is_recorded) {
        outlet.recorded();
    }
    let ended = follow(&mut tracks, outlet, Renewal::new(sources, found, outlet.audio_track())).await;
    reached.main = tracks.first().and_then(Track::reached);
    reached.audio = tracks.get(1).and_then(Track::reached);
    ended
}

/// A playlist of media.
pub(super) struct Listed {
    pub(super) url: Url,
    pub(super) media: Media,
    /// Which audio track of its pieces is taken, where that was chosen.
    pub(super) audio: Option<u8>,
}

/// The playlists of media that the address leads to: one, or those of the picture and of the sound.
async fn listed(sources: &Sources, url: &Url, audio: Option<u8>) -> Result<Vec<Listed>, Trouble> {
    let (at, text) = sources.http.playlist(url).await?;
    let master = match playlist::parse(&text, &at, sources.config.max_height, audio).map_err(Trouble::Final)? {
        Listing::Media(media) => return Ok(vec![Listed { url: at, media, audio }]),
        Listing::Master(master) => master,
    };
    let media_of_main = media(sources, &master.main).await?;
    let mut found = vec![Listed { url: master.main, media: media_of_main, audio: master.within }];
    if let Some(url) = master.audio {
        let media = media(sources, &url).await?;
        found.push(Listed { url, media, audio: None });
    }
    Ok(found)
}

/// A playlist that must name media: variants do not have variants.
async fn media(sources: &Sources, url: &Url) -> Result<Media, Trouble> {
    let (at, text) = sources.http.playlist(url).await?;
    match playlist::parse(&text, &at, sources.config.max_height, None).map_err(Trouble::Passing)? {
        Listing::Media(media) => Ok(media),
        Listing::Master(_) => Err(Trouble::Final("the playlist names playlists that name playlists".to_owned())),
    }
}

/// Two playlists need not list the same discontinuities: one that is a timeline behind the other for `APART` target
/// durations of its own media takes the other's, lest it be waited for without end. `apart` is which one is behind,
/// and where it was when that began.
fn level(tracks: &mut [Track<'_>], apart: &mut Option<(usize, MediaTime)>) {
    let heads = [0, 1].map(|at| tracks.get(at).filter(|track| !track.is_over()).and_then(Track::head));
    let [Some(one), Some(other)] = heads else { return *apart = None };
    if one.0 == other.0 {
        return *apart = None;
    }
    let (behind, at, timeline) = if one.0 < other.0 { (0, one.1, other.0) } else { (1, other.1, one.0) };
    let Some((_, began)) = apart.filter(|(was, _)| *was == behind) else { return *apart = Some((behind, at)) };
    if (at - began).nanos() as f64 > tracks[behind].target().as_secs_f64() * APART * 1e9 {
        tracing::info!(timeline, "picture and sound list other discontinuities; they are taken for the same");
        tracks[behind].take_timeline(timeline);
        *apart = None;
    }
}

async fn follow(
    tracks: &mut [Track<'_>],
    outlet: &mut Outlet<'_>,
    mut renewal: Renewal<'_>,
) -> Result<String, Trouble> {
    let mut apart = None;
    loop {
        level(tracks, &mut apart);
        // Of two, the one that is behind: both come in one order.
        let behind = tracks.iter_mut().filter(|track| !track.is_over()).min_by_key(|track| track.head());
        let Some(track) = behind else {
            let recorded = tracks.iter().all(Track::is_recorded);
            return Ok(if recorded { "the recording is over" } else { "the broadcast is over" }.to_owned());
        };
        let fresh = renewal.beside(track.advance()).await?;
        if let Some(fresh) = fresh
            && !renewal::go_over(tracks, fresh)
        {
            renewal.does_not_fit();
        }
        // Where there are two, nothing goes out before both have come as far.
        let reached = tracks.iter().filter(|track| !track.is_over()).map(|track| track.head()).min();
        while let Some(track) = tracks.iter_mut().filter(|track| track.first().is_some()).min_by_key(|t| t.first())
            && reached.is_none_or(|reached| track.first() <= reached)
            && let Some(item) = track.take()
        {
            if let Some(wall) = item.recorded_at {
                outlet.anchor(wall);
            }
            outlet.deliver(item.event).await?;
        }
    }
}
