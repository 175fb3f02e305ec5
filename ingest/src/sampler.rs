//! Packets and decoded sound -> `VideoBatch`es and `AudioWindow`s, cut at bucket boundaries. Pure:
//! a live feed and `crest process` drive the same [`Sampler`].

use crest_core::codec::Packet;
use crest_core::sample::{AUDIO_RATE, AudioWindow, Picture, VideoBatch, VideoFrame};
use crest_core::time::Bucket;
use crest_core::{MediaTime, OrganizationId, Session};
use crest_media::Pcm;

/// Length of one audio sample; a bucket is a whole number of them.
const SAMPLE: i64 = 1_000_000_000 / AUDIO_RATE as i64;
/// Sound that starts this close to where it is expected goes on there: publishers round timestamps.
const JITTER: i64 = 40_000_000;
/// Pictures of one bucket; a stream of keyframes only is not decoded in full.
const PICTURES: usize = 2;

/// Collects one session's samples.
#[derive(Debug)]
pub struct Sampler {
    organization: OrganizationId,
    session: Session,
    frames: Vec<VideoFrame>,
    bucket: Bucket,
    pictures: usize,
    last_dts: Option<MediaTime>,
    sound: Vec<f32>,
    /// Time of the first sample in `sound`, on the grid of samples.
    sound_start: i64,
}

impl Sampler {
    /// For one session; sampling may begin anywhere in it.
    pub fn new(organization: OrganizationId, session: Session) -> Self {
        Self {
            organization,
            session,
            frames: Vec::new(),
            bucket: Bucket::default(),
            pictures: 0,
            last_dts: None,
            sound: Vec::new(),
            sound_start: 0,
        }
    }

    /// Whether this packet's picture is worth decoding: a keyframe, and its bucket has few so far.
    pub fn wants_picture(&self, packet: &Packet) -> bool {
        packet.keyframe && (packet.dts.bucket() != self.bucket || self.pictures < PICTURES)
    }

    /// Takes the next video packet, in decoding order, with its picture if it was decoded. Returns
    /// the batch of the bucket before as soon as this packet's decoding time lies beyond it.
    pub fn video(&mut self, packet: &Packet, picture: Option<Picture>) -> Option<VideoBatch> {
        let bucket = packet.dts.bucket();
        let mut batch = None;
        if bucket != self.bucket {
            // Presentation never precedes decoding, and decoding times rise: nothing earlier follows.
            batch = self.cut_video(packet.dts);
            self.bucket = bucket;
        }
        self.pictures += usize::from(picture.is_some());
        self.last_dts = Some(packet.dts);
        self.frames.push(VideoFrame {
            pts: packet.pts,
            encoded_bytes: u32::try_from(packet.data.len()).unwrap_or(u32::MAX),
            keyframe: packet.keyframe,
            picture,
        });
        batch
    }

    /// Takes the next decoded sound. Returns the windows whose buckets are complete with it.
    pub fn audio(&mut self, pcm: Pcm) -> Vec<AudioWindow> {
        let mut windows = Vec::new();
        let mut samples = pcm.samples.as_slice();
        let start = grid(pcm.start.nanos());
        let ahead = start - self.sound_end();
        if self.sound.is_empty() && self.sound_start == 0 {
            self.sound_start = start;
        } else if ahead > JITTER {
            windows.extend(self.cut_audio(MediaTime::from_nanos(start)));
            self.sound_start = start;
        } else if ahead < -JITTER {
            // Heard already.
            let overlap = usize::try_from(-ahead / SAMPLE).unwrap_or(usize::MAX);
            samples = samples.get(overlap..).unwrap_or_default();
        }
        while !samples.is_empty() {
            let boundary = MediaTime::from_nanos(self.sound_start).bucket().end().nanos();
            let room = usize::try_from((boundary - self.sound_end()) / SAMPLE).unwrap_or(0);
            let (now, later) = samples.split_at(room.min(samples.len()));
            self.sound.extend_from_slice(now);
            samples = later;
            if now.len() == room {
                windows.extend(self.cut_audio(MediaTime::from_nanos(boundary)));
                self.sound_start = boundary;
            }
        }
        windows
    }

    /// Gives out what is left. The session may go on: `complete_to` claims no more than is certain.
    pub fn finish(&mut self) -> (Option<VideoBatch>, Option<AudioWindow>) {
        let after_last = self.last_dts.map_or(MediaTime::ZERO, |dts| dts + MediaTime::from_nanos(1));
        let batch = self.cut_video(after_last);
        let end = self.sound_end();
        let window = self.cut_audio(MediaTime::from_nanos(end));
        self.sound_start = end;
        (batch, window)
    }

    fn cut_video(&mut self, complete_to: MediaTime) -> Option<VideoBatch> {
        self.pictures = 0;
        if self.frames.is_empty() {
            return None;
        }
        Some(VideoBatch {
            organization_id: self.organization.clone(),
            session: self.session,
            complete_to,
            frames: std::mem::take(&mut self.frames),
        })
    }

    fn cut_audio(&mut self, complete_to: MediaTime) -> Option<AudioWindow> {
        if self.sound.is_empty() {
            return None;
        }
        Some(AudioWindow {
            organization_id: self.organization.clone(),
            session: self.session,
            start: MediaTime::from_nanos(self.sound_start),
            complete_to,
            samples: std::mem::take(&mut self.sound),
        })
    }

    fn sound_end(&self) -> i64 {
        self.sound_start.saturating_add(i64::try_from(self.sound.len()).unwrap_or(i64::MAX).saturating_mul(SAMPLE))
    }
}

/// The nearest instant on the grid of samples, not before the session's start.
fn grid(nanos: i64) -> i64 {
    nanos.max(0).saturating_add(SAMPLE / 2) / SAMPLE * SAMPLE
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
