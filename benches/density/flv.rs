//! An FLV file as the RTMP messages that publish it: the two are the same but for the framing.

use anyhow::{Context, Result, ensure};
use std::path::Path;

use crate::rtmp::{self, AUDIO, VIDEO};

/// What a publisher sends of a file.
pub struct Feed {
    /// Sent once: the decoders' configurations.
    pub configs: Vec<Message>,
    /// Sent over and over, in order; times count from 0.
    pub media: Vec<Message>,
    /// What one round adds to the times, in milliseconds.
    pub round: u32,
}

/// A message in chunks, but for its first header.
pub struct Message {
    /// Milliseconds.
    pub time: u32,
    pub kind: u8,
    /// Bytes without the headers of chunks.
    pub length: usize,
    /// With the headers of all chunks but the first.
    pub chunks: Vec<u8>,
}

/// Reads a file that ffmpeg wrote: H.264 and AAC, beginning with a keyframe.
pub fn read(path: &Path) -> Result<Feed> {
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(file.starts_with(b"FLV\x01"), "{} is no FLV file", path.display());
    let (mut configs, mut media) = (Vec::new(), Vec::new());
    // The file's header, and the length of the tag before the first.
    let mut rest = file.get(9 + 4..).unwrap_or_default();
    while let Some((&[kind, a, b, c, t2, t1, t0, t3, ..], after)) = rest.split_first_chunk::<11>() {
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let Some((body, next)) = after.split_at_checked(length) else { break };
        rest = next.get(4..).unwrap_or_default();
        let time = u32::from_be_bytes([t3, t2, t1, t0]);
        let message = || Message { time, kind, length, chunks: rtmp::chunks(kind, body) };
        match (kind, body) {
            // The second byte says whether a tag configures (0), carries media (1), or ends a sequence (2).
            (AUDIO | VIDEO, [_, 0, ..]) => configs.push(message()),
            (AUDIO | VIDEO, [_, 1, ..]) => media.push(message()),
            _ => {}
        }
    }
    let last = media.last().with_context(|| format!("{} has no media", path.display()))?.time;
    let video = media.iter().filter(|message| message.kind == VIDEO);
    let frames = u32::try_from(video.count()).unwrap_or(u32::MAX).max(2);
    // One frame after the last.
    Ok(Feed { configs, media, round: last + last / (frames - 1) })
}
