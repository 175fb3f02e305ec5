//! Playlists whose address expires: it is looked up anew meanwhile, and what is read goes over to the new one without
//! a break.

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::super::Trouble;
use super::super::page::Found;
use super::super::source::Sources;
use super::track::Track;
use super::{Listed, listed};

/// The playlists at a new address, and when that is looked up anew.
type Fresh = (Vec<Listed>, Instant);

/// Looks an address up again and again.
pub(super) struct Renewal<'a> {
    sources: &'a Sources,
    found: Option<Found<'a>>,
    /// The audio track that was chosen.
    audio: Option<u8>,
    looking: Option<BoxFuture<'a, Result<Fresh, Trouble>>>,
}

impl<'a> Renewal<'a> {
    /// Of an address that was not found on a page there is nothing to look up.
    pub(super) fn new(sources: &'a Sources, found: Option<Found<'a>>, audio: Option<u8>) -> Self {
        Self { sources, found, audio, looking: None }
    }

    /// Does something, and looks the address up meanwhile if it is time; returns what has been found by the end of
    /// the one.
    pub(super) async fn beside(
        &mut self,
        work: impl Future<Output = Result<(), Trouble>>,
    ) -> Result<Option<Vec<Listed>>, Trouble> {
        tokio::pin!(work);
        let mut fresh = None;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done.map(|()| fresh),
                found = self.next() => fresh = Some(found),
            }
        }
    }

    /// What was found does not fit: it is looked up again soon, for the old address expires.
    pub(super) fn does_not_fit(&mut self) {
        if let Some(found) = &mut self.found {
            found.until = Instant::now() + self.sources.config.max_pause.0;
        }
    }

    /// What is found next. Dropped and called again it goes on.
    async fn next(&mut self) -> Vec<Listed> {
        loop {
            let Some(found) = &mut self.found else { return std::future::pending().await };
            if self.looking.is_none() {
                tokio::time::sleep_until(found.until).await;
            }
            let (page, sources, audio) = (found.page, self.sources, self.audio);
            let looking = self.looking.get_or_insert_with(|| {
                Box::pin(async move {
                    let found = page.find().await?;
                    Ok((listed(sources, &found.url, audio).await?, found.until))
                })
            });
            let looked = looking.await;
            self.looking = None;
            match looked {
                Ok((playlists, until)) => {
                    found.until = until;
                    return playlists;
                }
                Err(Trouble::Passing(reason) | Trouble::Final(reason)) => {
                    found.until = Instant::now() + self.sources.config.max_pause.0;
                    tracing::warn!(reason, "the address of a pulled feed cannot be looked up anew; it is kept");
                }
            }
        }
    }
}

/// Goes over to the playlists of a new address, where all go on there, and says whether they do. Where they do not,
/// those of the old one are read as long as they are served.
pub(super) fn go_over(tracks: &mut [Track<'_>], fresh: Vec<Listed>) -> bool {
    let places: Option<Vec<u64>> =
        tracks.iter().zip(&fresh).map(|(track, listed)| track.place_in(&listed.media)).collect();
    let Some(places) = places.filter(|places| places.len() == tracks.len() && fresh.len() == tracks.len()) else {
        tracing::info!("a pulled feed does not go on at the address that was looked up anew; the old one is kept");
        return false;
    };
    for ((track, listed), place) in tracks.iter_mut().zip(fresh).zip(places) {
        track.go_over(listed.url, listed.media, place);
    }
    true
}
