//! HLS: playlists are followed, their pieces fetched and taken apart, picture and sound put in one order.

pub(crate) mod ads;
pub(crate) mod playlist;
mod track;

use reqwest::Url;
use tokio::time::Instant;

use super::Trouble;
use super::outlet::Outlet;
use super::source::Sources;
use playlist::{Listing, Media};
pub(super) use track::container;
use track::{Step, Track};

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

/// Pulls a playlist until the broadcast is over. `until` a playlist may be used without looking it up again.
pub(super) async fn run(
    sources: &Sources,
    url: &Url,
    outlet: &mut Outlet<'_>,
    reached: &mut Reached,
    until: Option<Instant>,
) -> Result<String, Trouble> {
    let mut tracks = begin(sources, url, outlet.audio_track(), reached).await?;
    if tracks.iter().all(Track::is_recorded) {
        outlet.recorded();
    }
    let ended = follow(&mut tracks, outlet, until).await;
    reached.main = tracks.first().and_then(Track::reached);
    reached.audio = tracks.get(1).and_then(Track::reached);
    ended
}

/// The tracks of what the address lists: one, or picture and sound apart.
async fn begin<'a>(
    sources: &'a Sources,
    url: &Url,
    audio: Option<u8>,
    reached: &Reached,
) -> Result<Vec<Track<'a>>, Trouble> {
    let height = sources.config.max_height;
    let (at, text) = sources.http.playlist(url).await?;
    let master = match playlist::parse(&text, &at, height, audio).map_err(Trouble::Final)? {
        Listing::Media(media) => return Ok(vec![Track::new(sources, at, media, audio, reached.main)]),
        Listing::Master(master) => master,
    };
    let main = media(sources, &master.main).await?;
    let mut tracks = vec![Track::new(sources, master.main, main, master.within, reached.main)];
    if let Some(audio) = master.audio {
        let apart = media(sources, &audio).await?;
        tracks.push(Track::new(sources, audio, apart, None, reached.audio));
    }
    Ok(tracks)
}

/// A playlist that must name media: variants do not have variants.
async fn media(sources: &Sources, url: &Url) -> Result<Media, Trouble> {
    let (at, text) = sources.http.playlist(url).await?;
    match playlist::parse(&text, &at, sources.config.max_height, None).map_err(Trouble::Passing)? {
        Listing::Media(media) => Ok(media),
        Listing::Master(_) => Err(Trouble::Final("the playlist names playlists that name playlists".to_owned())),
    }
}

async fn follow(tracks: &mut [Track<'_>], outlet: &mut Outlet<'_>, until: Option<Instant>) -> Result<String, Trouble> {
    loop {
        // Of two, the one that is behind: both come in one order.
        let behind = tracks.iter_mut().filter(|track| !track.is_over()).min_by_key(|track| track.head());
        let Some(track) = behind else {
            let recorded = tracks.iter().all(Track::is_recorded);
            return Ok(if recorded { "the recording is over" } else { "the broadcast is over" }.to_owned());
        };
        if track.advance().await? == Step::Reload && until.is_some_and(|until| Instant::now() >= until) {
            return Err(Trouble::Passing("its address is looked up again (pull.resolve_again)".to_owned()));
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
