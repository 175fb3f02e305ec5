//! What an earlier process left here, of which nobody may be writing any more.

use crest_core::{MediaTime, Result, Session, StreamId, object};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::{Folder, Uploads};
use crate::recovery::{self, blocking, segments};

impl Uploads {
    /// Everything in these folders waits to be uploaded, whether it is indexed or not; those that are taken
    /// go from the list. Files of sessions that the store does not know become `unknown`. Of the sessions
    /// that were `fed` it is found out where they end, until `limit`.
    ///
    /// To be called before anything else of these streams is closed, so that the order stays.
    pub(crate) async fn take_left(
        self: &Arc<Self>,
        folders: &mut Vec<recovery::Folder>,
        unknown: &mut Vec<PathBuf>,
        fed: &[(StreamId, Session)],
        limit: Instant,
    ) -> Result<()> {
        // The first is taken from the end.
        folders.sort_by(|a, b| (&b.1, b.2).cmp(&(&a.1, a.2)));
        while let Some((organization, stream, session)) = folders.last().cloned() {
            let root = self.way.root.clone();
            let folder = root.join(object::session_folder(&organization, &stream, session));
            let look = move || {
                let files: Vec<_> = segments(&root, &folder)?.into_keys().collect();
                if files.is_empty() {
                    // One that is not empty for another reason stays.
                    let _ = fs::remove_dir(&folder);
                }
                Ok(files)
            };
            let files = blocking(look).await?;
            let known =
                files.is_empty() || self.way.store.sessions(&stream).await?.iter().any(|row| row.session == session);
            if !known {
                tracing::warn!(stream_id = %stream, %session,
                    "stored segments belong to no session that is known; they are removed when they are old");
                unknown.extend(files.iter().map(|object| self.way.root.join(object)));
            } else if !files.is_empty() {
                let (count, mut end) = (files.len(), None);
                if fed.contains(&(stream.clone(), session)) && Instant::now() < limit {
                    let root = self.way.root.clone();
                    end = blocking(move || end_of(&root, files)).await?;
                }
                self.add_folder(Folder { organization, stream, session, up_to: u32::MAX, end }, count);
            }
            folders.pop();
        }
        Ok(())
    }
}

/// Where the media in these files of one session ends.
fn end_of(root: &Path, mut files: Vec<String>) -> Result<Option<MediaTime>> {
    while let Some(object) = files.pop() {
        let end = crest_media::salvage(root, &object, 0)?.iter().map(|fragment| fragment.end).max();
        if end.is_some() {
            return Ok(end);
        }
    }
    Ok(None)
}
