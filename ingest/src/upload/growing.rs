//! Fragments on their way from the segmenter to the uploads.

use crest_core::segment::Fragment;
use std::time::Instant;

use super::Closed;

/// What a feed has closed fragments of and not handed over yet: files that may still grow.
#[derive(Debug, Default)]
pub(crate) struct Growing(Vec<Fragment>);

impl Growing {
    /// Takes fragments that closed; returns the files that are closed with them, for good: all but `open`.
    pub(crate) fn take(&mut self, fragments: Vec<Fragment>, open: Option<&str>) -> Vec<Closed> {
        self.0.extend(fragments);
        let mut closed: Vec<Closed> = Vec::new();
        let at = Some(Instant::now());
        let whole = self.0.iter().position(|f| Some(f.object.as_str()) == open).unwrap_or(self.0.len());
        for fragment in self.0.drain(..whole) {
            match closed.last_mut().filter(|file| file.object == fragment.object) {
                Some(file) => file.fragments.push(fragment),
                None => closed.push(Closed { object: fragment.object.clone(), fragments: vec![fragment], at }),
            }
        }
        closed
    }
}
