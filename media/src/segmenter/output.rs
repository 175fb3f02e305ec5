//! The segment file that is open, and the fragments appended to it.

use crest_core::segment::Fragment;
use crest_core::units::Span;
use crest_core::{Error, MediaTime, OrganizationId, Result, Session, StreamId, object};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::PathBuf;

use crate::mp4::fragment::{self, Sample};
use crate::mp4::init;
use crate::mp4::track::Tracks;

/// Where fragments are written.
#[derive(Debug)]
pub(super) struct Output {
    root: PathBuf,
    organization: OrganizationId,
    stream: StreamId,
    session: Session,
    next_number: u32,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    object: String,
    header_bytes: u64,
    length: u64,
    sequence: u32,
    start: MediaTime,
}

impl Output {
    pub(super) fn new(root: PathBuf, organization: OrganizationId, stream: StreamId, session: Session) -> Self {
        Self { root, organization, stream, session, next_number: 0, open: None }
    }

    /// The key of the file that is being written.
    pub(super) fn open_file(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.object.as_str())
    }

    /// What follows goes into another file.
    pub(super) fn end_file(&mut self) {
        self.open = None;
    }

    /// Ends the file if it is long enough: at a keyframe after `segment`, elsewhere after twice that.
    pub(super) fn rotate(&mut self, now: MediaTime, segment: Span, keyframe: bool) {
        let limit = i64::try_from(segment.0.as_nanos()).unwrap_or(i64::MAX);
        let limit = if keyframe { limit } else { limit.saturating_mul(2) };
        if self.open.as_ref().is_some_and(|open| now.nanos().saturating_sub(open.start.nanos()) >= limit) {
            self.end_file();
        }
    }

    /// Appends a fragment, in one write where the system allows it. After a failed write the file is left alone and the next fragment
    /// begins another one: what stands in it stays readable.
    pub(super) fn write(
        &mut self,
        tracks: &Tracks,
        runs: &[(u32, Vec<Sample>)],
        (start, end): (MediaTime, MediaTime),
        keyframe: bool,
    ) -> Result<Fragment> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(start)?,
        };
        let mut bytes = Vec::new();
        if open.length == 0 {
            bytes = init::fragmented(tracks)?;
            open.header_bytes = bytes.len() as u64;
        }
        let offset = open.length + bytes.len() as u64;
        bytes.extend_from_slice(&fragment::head(open.sequence, runs)?);
        let written = append(&mut open.file, &bytes, runs).map_err(|e| self.failed(&open.object, &e))?;
        open.length += written;
        open.sequence = open.sequence.wrapping_add(1);
        let fragment = Fragment {
            organization_id: self.organization.clone(),
            stream_id: self.stream.clone(),
            session: self.session,
            object: open.object.clone(),
            header_bytes: open.header_bytes,
            offset,
            bytes: open.length - offset,
            start,
            end,
            keyframe,
        };
        metrics::counter!("crest_segment_fragments_total").increment(1);
        metrics::counter!("crest_segment_bytes_total").increment(written);
        self.open = Some(open);
        Ok(fragment)
    }

    fn begin(&mut self, start: MediaTime) -> Result<OpenFile> {
        let folder = self.root.join(object::session_folder(&self.organization, &self.stream, self.session));
        fs::create_dir_all(&folder).map_err(|e| self.failed(&folder.display().to_string(), &e))?;
        loop {
            let object = object::segment(&self.organization, &self.stream, self.session, self.next_number);
            self.next_number = self.next_number.saturating_add(1);
            match OpenOptions::new().append(true).create_new(true).open(self.root.join(&object)) {
                Ok(file) => return Ok(OpenFile { file, object, header_bytes: 0, length: 0, sequence: 1, start }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && self.next_number < u32::MAX => {}
                Err(e) => return Err(self.failed(&object, &e)),
            }
        }
    }

    fn failed(&self, what: &str, e: &std::io::Error) -> Error {
        tracing::error!(stream_id = %self.stream, session = self.session.number(), error = %e, "segment not written");
        Error::of_file(e, format!("cannot write {what}: {e}; check the data directory's free space and permissions"))
    }
}

/// Writes `head` and the samples after it from where they lie: copied into one buffer first, a fragment of a megabyte
/// costs more in fresh pages than in writing. Returns how many bytes that were.
fn append(file: &mut File, head: &[u8], runs: &[(u32, Vec<Sample>)]) -> io::Result<u64> {
    let samples = runs.iter().flat_map(|(_, samples)| samples).map(|sample| IoSlice::new(&sample.data));
    let mut parts: Vec<IoSlice> = std::iter::once(IoSlice::new(head)).chain(samples).collect();
    parts.retain(|part| !part.is_empty());
    let length = parts.iter().map(|part| part.len() as u64).sum();
    let mut rest = parts.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}
