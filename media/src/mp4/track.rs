//! The tracks of a file, and the conversion between session time and ticks.

use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, VideoConfig};

use crate::bitstream::opus;

/// Track id of the picture.
pub(crate) const VIDEO: u32 = 1;
/// Track id of the sound.
pub(crate) const AUDIO: u32 = 2;
/// Ticks per second of the video track and of the movie: whole milliseconds and the usual frame rates are exact.
pub(crate) const VIDEO_TIMESCALE: u32 = 90_000;

/// What a file carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tracks {
    pub video: Option<VideoConfig>,
    pub audio: Option<AudioConfig>,
}

impl Tracks {
    /// Ticks per second of the audio track: its sample rate, so that an access unit lasts whole ticks.
    pub(crate) fn audio_timescale(&self) -> u32 {
        self.audio.as_ref().map_or(48_000, audio_timescale)
    }
}

/// Ticks per second of a track of this configuration.
pub(crate) fn audio_timescale(config: &AudioConfig) -> u32 {
    match config.codec {
        AudioCodec::Opus => opus::RATE,
        AudioCodec::Aac | AudioCodec::Mp3 => config.sample_rate.max(1),
    }
}

/// One access unit on a track's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Decoding time in ticks.
    pub dts: i64,
    /// Presentation time in ticks.
    pub pts: i64,
    /// How long it lasts, in ticks.
    pub duration: u32,
    /// Whether decoding can start here.
    pub keyframe: bool,
}

const NANOS: i128 = 1_000_000_000;

/// Nearest tick to an instant.
pub(crate) fn ticks(at: MediaTime, timescale: u32) -> i64 {
    let scaled = i128::from(at.nanos()) * i128::from(timescale);
    clamp((scaled + NANOS / 2).div_euclid(NANOS))
}

/// The instant of a tick, to the nearest nanosecond.
pub(crate) fn time(ticks: i64, timescale: u32) -> MediaTime {
    let scale = i128::from(timescale.max(1));
    MediaTime::from_nanos(clamp((i128::from(ticks) * NANOS + scale / 2).div_euclid(scale)))
}

/// The same stretch on another clock.
pub(crate) fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    let from = i128::from(from.max(1));
    clamp((i128::from(ticks) * i128::from(to) + from / 2).div_euclid(from))
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_times_survive_ticks() {
        for frame in 0..1000_i64 {
            let at = MediaTime::from_nanos((frame * 1_001_000_000_000 + 15_000) / 30_000);
            assert_eq!(ticks(at, VIDEO_TIMESCALE), frame * 3003);
            assert!((time(ticks(at, VIDEO_TIMESCALE), VIDEO_TIMESCALE) - at).nanos().abs() <= 1);
        }
        assert_eq!(ticks(MediaTime::from_millis(-1), VIDEO_TIMESCALE), -90);
        assert_eq!(rescale(1024, 48_000, VIDEO_TIMESCALE), 1920);
    }
}
