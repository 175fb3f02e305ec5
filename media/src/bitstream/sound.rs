//! How long an access unit of sound lasts.

use crest_core::codec::{AudioCodec, AudioConfig};

use super::bits::Bits;
use super::{mp3, opus};

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Length of one access unit as samples at a rate: `(samples, rate)`.
///
/// AAC says it in its record: with spectral band replication the rate is that of the core coder, half of what is
/// heard; a record that cannot be read counts as plain AAC at the configured rate. Opus and MP3 say it in each unit;
/// one that cannot be read counts as the usual 20 ms, or as an MP3 frame at the configured rate.
pub(crate) fn frame(config: &AudioConfig, unit: &[u8]) -> (u32, u32) {
    let configured = config.sample_rate.max(1);
    match config.codec {
        AudioCodec::Aac => {
            let (samples, rate) = aac(&config.record).unwrap_or((1024, 0));
            (samples, if rate == 0 { configured } else { rate })
        }
        AudioCodec::Opus => (opus::samples(unit).unwrap_or(960), opus::RATE),
        AudioCodec::Mp3 => {
            let usual = if configured < 32_000 { 576 } else { 1152 };
            mp3::frame(unit).map_or((usual, configured), |frame| (frame.samples, frame.sample_rate))
        }
    }
}

/// Length of one access unit in ticks of `timescale`, at least one.
pub(crate) fn frame_ticks(config: &AudioConfig, unit: &[u8], timescale: u32) -> u32 {
    let (samples, rate) = frame(config, unit);
    let ticks = (u64::from(samples) * u64::from(timescale) + u64::from(rate) / 2) / u64::from(rate);
    u32::try_from(ticks).unwrap_or(samples).max(1)
}

/// What an AudioSpecificConfig says (ISO/IEC 14496-3, 1.6.2.1).
fn aac(record: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(record);
    let mut object = bits.take(5)?;
    if object == 31 {
        object = 32 + bits.take(6)?;
    }
    let rate = rate(&mut bits)?;
    bits.take(4)?; // channels
    if object == 5 || object == 29 {
        self::rate(&mut bits)?; // the rate after band replication
        bits.take(5)?;
    }
    let short = bits.flag().unwrap_or(false);
    Some((if short { 960 } else { 1024 }, rate))
}

fn rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(4)? {
        15 => bits.take(24),
        index => RATES.get(index as usize).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn config(codec: AudioCodec, record: &'static [u8], sample_rate: u32) -> AudioConfig {
        AudioConfig { codec, record: Bytes::from_static(record), sample_rate, channels: 2 }
    }

    #[test]
    fn the_core_rate_counts() {
        // AAC-LC at 44.1 kHz; HE-AAC with a 24 kHz core heard at 48 kHz; nothing readable.
        assert_eq!(frame(&config(AudioCodec::Aac, &[0x12, 0x10], 44_100), &[]), (1024, 44_100));
        let he = config(AudioCodec::Aac, &[0x2b, 0x11, 0x88, 0x00], 48_000);
        assert_eq!(frame(&he, &[]), (1024, 24_000));
        assert_eq!(frame_ticks(&he, &[], 48_000), 2048);
        assert_eq!(frame(&config(AudioCodec::Aac, &[], 32_000), &[]), (1024, 32_000));
    }

    #[test]
    fn units_say_their_own_length() {
        let opus = config(AudioCodec::Opus, &[], 48_000);
        assert_eq!(frame_ticks(&opus, &[0xf9, 0], 48_000), 1920);
        assert_eq!(frame_ticks(&opus, &[], 48_000), 960, "the usual");
        let mp3 = config(AudioCodec::Mp3, &[], 22_050);
        assert_eq!(frame(&mp3, &[0xff, 0xf3, 0x88, 0xc0]), (576, 16_000));
        assert_eq!(frame(&mp3, &[]), (576, 22_050));
    }
}
