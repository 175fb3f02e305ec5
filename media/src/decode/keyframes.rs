//! Keyframes of many streams through a few decoders.

use crest_core::Result;
use crest_core::codec::{Packet, VideoConfig};
use crest_core::sample::Picture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::video::{MAX_PIXELS, Output, VideoDecoder};

/// Decoders that are kept. Streams of equal configuration share one; each holds a few megabytes.
const KEPT: usize = 8;

/// Turns keyframes into pictures in the caller's thread.
///
/// Streams may alternate: the decoders of the configurations used last are kept. After a keyframe that could not
/// be decoded, its decoder is made anew.
pub struct KeyframeDecoder {
    /// The one used last comes last.
    decoders: Vec<Kept>,
    max_pixels: u64,
}

struct Kept {
    config: Arc<VideoConfig>,
    decoder: VideoDecoder,
    used: Instant,
}

impl std::fmt::Debug for KeyframeDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyframeDecoder").field("kept", &self.decoders.len()).finish()
    }
}

impl KeyframeDecoder {
    /// Makes sure that GStreamer runs; decoders are made as they are needed.
    pub fn new() -> Result<Self> {
        Self::of_at_most(MAX_PIXELS)
    }

    /// Like [`Self::new`], for coded pictures of at most so many pixels.
    pub fn of_at_most(max_pixels: u64) -> Result<Self> {
        crate::init()?;
        Ok(Self { decoders: Vec::new(), max_pixels })
    }

    /// Decodes one keyframe to RGB, `PICTURE_SIDE` square.
    ///
    /// # Errors
    /// When the keyframe is damaged, too large or none, or the configuration cannot be used. The next call starts afresh.
    pub fn decode(&mut self, config: &Arc<VideoConfig>, keyframe: &Packet) -> Result<Picture> {
        let kept = self.decoders.iter().position(|kept| Arc::ptr_eq(&kept.config, config) || kept.config == *config);
        let (config, mut decoder) = match kept.map(|at| self.decoders.remove(at)) {
            Some(kept) => (kept.config, kept.decoder),
            None => (Arc::clone(config), VideoDecoder::of_at_most(self.max_pixels, config, Output::Sample)?),
        };
        let picture = decoder.picture(&keyframe.data)?;
        if self.decoders.len() >= KEPT {
            self.decoders.remove(0);
        }
        self.decoders.push(Kept { config, decoder, used: Instant::now() });
        Ok(picture)
    }

    /// Lets go of the decoders that were not used for so long.
    pub(crate) fn let_go(&mut self, unused: Duration) {
        self.decoders.retain(|kept| kept.used.elapsed() < unused);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FileReader;
    use crest_core::codec::MediaEvent;

    #[test]
    fn decoders_that_are_not_used_are_let_go_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in.mp4");
        let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=1", "-c:v", "libx264"];
        assert!(std::process::Command::new("ffmpeg").args(source).arg(&file).status().unwrap().success());
        let mut reader = FileReader::open(file.to_str().unwrap()).unwrap();
        let (mut config, mut keyframe) = (None, None);
        while let Some(event) = reader.next_event().unwrap() {
            match event {
                MediaEvent::VideoConfig(of) => config = Some(Arc::new(of)),
                MediaEvent::Video(packet) if packet.keyframe => keyframe = keyframe.or(Some(packet)),
                _ => {}
            }
        }
        let (config, keyframe) = (config.unwrap(), keyframe.unwrap());
        let mut decoder = KeyframeDecoder::new().unwrap();
        let picture = decoder.decode(&config, &keyframe).unwrap();
        decoder.let_go(Duration::from_secs(3600));
        assert_eq!(decoder.decoders.len(), 1);
        decoder.let_go(Duration::ZERO);
        assert_eq!(decoder.decoders.len(), 0);
        assert_eq!(decoder.decode(&config, &keyframe).unwrap(), picture);
    }
}
