//! AAC, Opus or MP3 -> 16 kHz mono.

use crest_core::codec::{AudioCodec, AudioConfig, Packet};
use crest_core::sample::AUDIO_RATE;
use crest_core::{Error, MediaTime, Result};
use gstreamer as gst;

use super::chain::{Chain, element, filter};
use crate::bitstream::{opus, sound};

/// Presentation times may stray this far from the count of samples before the count starts again at them.
const TOLERANCE_NANOS: i64 = 40_000_000;

/// Decoded sound: mono, 16 kHz, -1..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Pcm {
    /// Presentation time of the first sample.
    pub start: MediaTime,
    /// The samples.
    pub samples: Vec<f32>,
}

/// Decodes one audio track in the caller's thread.
///
/// Time is counted in samples from the first packet's presentation time, so that timestamps rounded by a protocol
/// make no gaps. A packet that lies more than 40 ms off the count, or that follows lost ones, starts a new count.
pub struct AudioDecoder {
    config: AudioConfig,
    chain: Option<Chain>,
    count: Option<Count>,
}

/// Where the count stands.
struct Count {
    start: MediaTime,
    /// Samples put in, and their rate.
    put_in: (u64, u32),
    /// Samples taken out.
    samples: u64,
}

impl std::fmt::Debug for AudioDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioDecoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl AudioDecoder {
    /// A decoder for one configuration.
    ///
    /// # Errors
    /// When GStreamer lacks the elements, or they refuse the configuration.
    pub fn new(config: &AudioConfig) -> Result<Self> {
        Ok(Self { config: config.clone(), chain: Some(start(config)?), count: None })
    }

    /// Decodes one packet; returns the sound that is ready by it, in order.
    ///
    /// # Errors
    /// When the packet cannot be decoded; sound goes on with the next that can.
    pub fn push(&mut self, packet: &Packet) -> Result<Vec<Pcm>> {
        let mut out = Vec::new();
        let frame = sound::frame(&self.config, &packet.data);
        if self.strays(packet.pts, frame) {
            out = self.drain()?;
        }
        let chain = match self.chain.take() {
            Some(chain) => chain,
            None => start(&self.config)?,
        };
        if let Err(e) = chain.push(packet.data.clone()) {
            self.count = None;
            return Err(e);
        }
        let (put_in, rate) = frame;
        let count = self.count.get_or_insert(Count { start: packet.pts, put_in: (0, rate), samples: 0 });
        count.put_in.0 += u64::from(put_in);
        let samples = samples(&chain);
        self.chain = Some(chain);
        out.extend(count.take(samples));
        Ok(out)
    }

    /// Returns the sound that is still held back; the next packet starts a new count.
    pub fn drain(&mut self) -> Result<Vec<Pcm>> {
        let (Some(chain), Some(mut count)) = (&self.chain, self.count.take()) else { return Ok(Vec::new()) };
        chain.drain();
        Ok(count.take(samples(chain)).into_iter().collect())
    }

    /// Whether a packet at `pts`, of so many samples at a rate, does not continue the count.
    fn strays(&self, pts: MediaTime, (samples, rate): (u32, u32)) -> bool {
        let Some(count) = &self.count else { return false };
        if count.put_in.1 != rate {
            return true;
        }
        let put_in = count.start + length(count.put_in.0, rate);
        let taken_out = count.start + length(count.samples, AUDIO_RATE);
        // What went in and did not come out was lost, beyond the little that decoder and resampler hold back.
        let held = (put_in - taken_out).nanos() - length(u64::from(samples), rate).nanos();
        (pts - put_in).nanos().abs() > TOLERANCE_NANOS || held > TOLERANCE_NANOS
    }
}

impl Count {
    fn take(&mut self, samples: Vec<f32>) -> Option<Pcm> {
        let start = self.start + length(self.samples, AUDIO_RATE);
        self.samples += samples.len() as u64;
        (!samples.is_empty()).then_some(Pcm { start, samples })
    }
}

fn length(samples: u64, rate: u32) -> MediaTime {
    let nanos = u128::from(samples) * 1_000_000_000 / u128::from(rate.max(1));
    MediaTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

fn start(config: &AudioConfig) -> Result<Chain> {
    crate::init()?;
    let (decoder, caps) = match config.codec {
        AudioCodec::Aac => (element("avdec_aac")?, aac_caps(config)),
        AudioCodec::Opus => (element("opusdec")?, opus_caps(config)?),
        AudioCodec::Mp3 => (element("avdec_mp3")?, mp3_caps(config)),
    };
    let mono = gst::Caps::builder("audio/x-raw")
        .field("format", "F32LE")
        .field("layout", "interleaved")
        .field("rate", AUDIO_RATE as i32)
        .field("channels", 1_i32)
        .build();
    let elements = [decoder, element("audioconvert")?, element("audioresample")?, filter(&mono)?];
    Chain::new(&elements, &caps)
}

fn aac_caps(config: &AudioConfig) -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4_i32)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("rate", i32::try_from(config.sample_rate).unwrap_or(0))
        .field("channels", i32::from(config.channels))
        .field("codec_data", gst::Buffer::from_slice(config.record.clone()))
        .build()
}

/// What the first packets are to be shortened by is left out: decoding may start anywhere.
fn opus_caps(config: &AudioConfig) -> Result<gst::Caps> {
    let unreadable = || Error::user("the feed's Opus configuration cannot be read; check the encoder's output");
    let layout = opus::layout(&config.record).ok_or_else(unreadable)?;
    let caps = gst::Caps::builder("audio/x-opus")
        .field("rate", opus::RATE as i32)
        .field("channels", i32::from(layout.channels))
        .field("channel-mapping-family", i32::from(layout.family))
        .field("stream-count", i32::from(layout.streams))
        .field("coupled-count", i32::from(layout.coupled));
    if layout.mapping.is_empty() {
        return Ok(caps.build());
    }
    Ok(caps.field("channel-mapping", gst::Array::new(layout.mapping.iter().map(|from| i32::from(*from)))).build())
}

fn mp3_caps(config: &AudioConfig) -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 1_i32)
        .field("layer", 3_i32)
        .field("parsed", true)
        .field("rate", i32::try_from(config.sample_rate).unwrap_or(0))
        .field("channels", i32::from(config.channels))
        .build()
}

/// The samples that have come out.
fn samples(chain: &Chain) -> Vec<f32> {
    let mut out = Vec::new();
    for (buffer, _) in chain.take() {
        if let Ok(map) = buffer.map_readable() {
            let (words, _) = map.as_chunks::<4>();
            out.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use crest_core::codec::AudioCodec;

    #[test]
    fn the_count_of_samples_keeps_to_the_source_for_eight_hours() {
        for rate in [44_100, 48_000] {
            let codec = AudioCodec::Aac;
            let config = AudioConfig { codec, record: Bytes::new(), sample_rate: rate, channels: 2 };
            let count = Count { start: MediaTime::ZERO, put_in: (0, rate), samples: 0 };
            let mut decoder = AudioDecoder { config, chain: None, count: Some(count) };
            for unit in 0..8 * 3600 * u64::from(rate) / 1024 {
                // As RTMP says it, in milliseconds.
                let real = length(unit * 1024, rate);
                let at = MediaTime::from_millis((real.nanos() + 500_000) / 1_000_000);
                assert!(!decoder.strays(at, (1024, rate)), "the count starts again at {real}");
                let Some(count) = &mut decoder.count else { return };
                count.put_in.0 += 1024;
                // What a decoder and a resampler give out, one access unit behind.
                let out = (unit * 1024 * u64::from(AUDIO_RATE) / u64::from(rate)).saturating_sub(count.samples);
                let start = count.take(vec![0.0; usize::try_from(out).unwrap_or(0)]).map(|pcm| pcm.start);
                let heard = length(unit.saturating_sub(1) * 1024, rate);
                assert!(start.is_none_or(|start| (start - heard).nanos().abs() <= 1_000_000), "{start:?} for {heard}");
            }
        }
    }
}
