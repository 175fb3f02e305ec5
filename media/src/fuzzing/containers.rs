//! Containers taken apart: any bytes are survived, and how they are cut makes no difference.

use bytes::Bytes;
use crest_core::codec::MediaEvent;

use crate::{Container, Demuxer};

/// A byte (which container; how long the pieces are), and the bytes.
pub fn container(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let kinds = [Container::MpegTs, Container::FragmentedMp4, Container::Adts];
    let container = kinds[usize::from(kind % 3)];
    let whole = take_apart(container, data, data.len().max(1));
    let pieces = take_apart(container, data, 1 + usize::from(kind / 3) * 7);
    assert!(whole == pieces, "how the bytes are cut changes what comes out");
}

/// What comes out, up to what cannot go on.
fn take_apart(container: Container, data: &[u8], piece: usize) -> Vec<MediaEvent> {
    let mut demuxer = match Demuxer::new(container) {
        Ok(demuxer) => demuxer,
        Err(e) => panic!("{e}"),
    };
    let mut out = Vec::new();
    for piece in data.chunks(piece) {
        match demuxer.push(Bytes::copy_from_slice(piece)) {
            Ok(events) => out.extend(events),
            // Events of the piece that holds the fault are lost with it.
            Err(_) => return Vec::new(),
        }
    }
    out.extend(demuxer.finish().unwrap_or_default());
    out
}
