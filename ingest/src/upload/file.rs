//! One file: uploaded, indexed, told of, and removed here.

use crest_core::bus::Record;
use crest_core::crash::{Stage, around};
use crest_core::topic::Topic;
use crest_core::{Error, Fault, Result, object};
use std::collections::BTreeSet;
use std::path::Path;

use super::lanes::{Closed, Folder, number};
use super::{Uploads, waiting};
use crate::recovery::{blocking, segments};

/// What became of a file.
pub(super) enum Outcome {
    /// It is uploaded, indexed and gone from here.
    Done,
    /// It stays where it is: nobody knows what it belongs to.
    Left,
}

impl Uploads {
    /// Uploads what lies in a folder, in order.
    pub(super) async fn search(&self, folder: &Folder) -> Result<()> {
        let mut left = BTreeSet::new();
        loop {
            let (root, wanted) = (self.way.root.clone(), folder.clone());
            let files = blocking(move || files_of(&root, &wanted)).await?;
            let files: Vec<_> = files.into_iter().filter(|file| !left.contains(file)).collect();
            if files.is_empty() {
                // Of an earlier process, and nobody else's: an empty folder has no use. One that is not
                // empty stays.
                if folder.up_to == u32::MAX {
                    let _ = tokio::fs::remove_dir(self.way.root.join(path_of(folder))).await;
                }
                return Ok(());
            }
            for object in files {
                let (root, name) = (self.way.root.clone(), object.clone());
                let fragments = blocking(move || crest_media::salvage(&root, &name, 0)).await?;
                if fragments.is_empty() {
                    tracing::info!(object, "a segment that was begun and holds nothing whole is removed");
                    remove(&self.way.root.join(&object)).await?;
                } else if let Outcome::Left = self.insist(&Closed { object: object.clone(), fragments, at: None }).await
                {
                    left.insert(object);
                }
                waiting(-1.0);
            }
        }
    }

    /// Uploads and indexes a file, however long that takes.
    pub(super) async fn insist(&self, closed: &Closed) -> Outcome {
        let path = self.way.root.join(&closed.object);
        let upload = || async {
            let _permit = self.permits.acquire().await.map_err(|e| Error::ours(e.to_string()))?;
            self.way.objects.put_file(&closed.object, &path).await
        };
        // Wrong credentials may be mended, too, and the file is not lost meanwhile.
        let hopeless = |error: &Error| error.fault == Fault::NotFound && !path.exists();
        let what = "segments cannot be uploaded and wait in the data directory";
        if let Err(gone) = self.until_it_works(what, hopeless, upload).await {
            lost("not_on_disk", closed.fragments.len());
            tracing::error!(object = closed.object, error = %gone, "a segment is gone before it could be uploaded");
            return Outcome::Done;
        }
        for fragment in &closed.fragments {
            let index = || around(Stage::Fragment, self.way.store.add_fragment(fragment));
            let hopeless = |error: &Error| !error.retryable;
            if let Err(error) = self.until_it_works("uploaded segments cannot be indexed", hopeless, index).await {
                if error.fault == Fault::NotFound {
                    return self.unknown(closed, &error).await;
                }
                lost("index", 1);
                tracing::error!(object = closed.object, %error, "an uploaded fragment cannot be indexed");
                continue;
            }
            let record = Record::new(Topic::MediaSegments, fragment.stream_id.clone(), fragment.encode());
            let tell = || self.way.bus.append(Topic::MediaSegments, vec![record.clone()]);
            if let Err(error) = self.until_it_works("uploaded segments cannot be told of", hopeless, tell).await {
                tracing::error!(object = closed.object, %error, "an uploaded segment was not told of");
            }
        }
        if let Some(at) = closed.at {
            metrics::histogram!("crest_upload_seconds").record(at.elapsed().as_secs_f64());
        }
        if let Err(error) = remove(&path).await {
            tracing::warn!(object = closed.object, %error, "an uploaded segment could not be removed from the data directory");
            return Outcome::Left;
        }
        Outcome::Done
    }

    /// A file that belongs to nothing the store knows: it is not left where nobody would find it again.
    async fn unknown(&self, closed: &Closed, error: &Error) -> Outcome {
        lost("index", closed.fragments.len());
        tracing::error!(object = closed.object, %error, "an uploaded segment cannot be indexed; it stays in the data directory");
        if let Err(error) = self.way.objects.delete(&closed.object).await {
            tracing::warn!(object = closed.object, %error, "an uploaded segment that is not indexed could not be removed");
        }
        Outcome::Left
    }
}

fn lost(cause: &'static str, fragments: usize) {
    metrics::counter!("crest_fragments_lost_total", "cause" => cause).increment(fragments as u64);
}

/// The files of a folder up to the last that is closed, in order.
fn files_of(root: &Path, folder: &Folder) -> Result<Vec<String>> {
    let files = segments(root, &root.join(path_of(folder)))?;
    Ok(files.into_keys().filter(|object| number(object) <= folder.up_to).collect())
}

fn path_of(folder: &Folder) -> String {
    object::session_folder(&folder.organization, &folder.stream, folder.session)
}

async fn remove(path: &Path) -> Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::of_file(&e, format!("{}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}
