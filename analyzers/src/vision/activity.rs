//! `video_activity`: how much the encoder had to say about inter frames. Motion and detail at full
//! frame rate without decoding anything.

use crest_core::Bucket;
use crest_core::sample::VideoBatch;
use crest_core::signal::Signal;
use std::collections::BTreeMap;

use crate::{Analyzer, Values};

/// Buckets per second of media.
const BUCKETS_PER_SECOND: f64 = 1e9 / crest_core::BUCKET_NANOS as f64;

/// Measures the encoded size of inter frames. Stateless: a batch holds whole buckets.
pub struct Activity;

#[derive(Default, Clone, Copy)]
struct Tally {
    frames: u64,
    inter_frames: u64,
    inter_bytes: u64,
}

impl Analyzer for Activity {
    fn video(&mut self, batch: &VideoBatch, values: &mut Values) {
        let mut tallies: BTreeMap<Bucket, Tally> = BTreeMap::new();
        for frame in &batch.frames {
            let tally = tallies.entry(frame.pts.bucket()).or_default();
            tally.frames += 1;
            if !frame.keyframe {
                tally.inter_frames += 1;
                tally.inter_bytes += u64::from(frame.encoded_bytes);
            }
        }
        for (bucket, tally) in tallies {
            // Keyframes are large whatever happens, so each counts as an average inter frame. With
            // B-frames the rim of a batch spills into the neighbouring bucket: too few to tell.
            if tally.inter_frames >= 3 {
                let per_frame = tally.inter_bytes as f64 / tally.inter_frames as f64;
                let per_second = per_frame * tally.frames as f64 * BUCKETS_PER_SECOND;
                values.raise(bucket, Signal::VideoActivity, (1.0 + per_second).log2());
            }
        }
    }
}
