//! How long an AAC access unit lasts, read from the AudioSpecificConfig.

use crest_core::codec::AudioConfig;

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Length of one access unit as samples at a rate: `(samples, rate)`.
///
/// With spectral band replication the rate is that of the core coder, half of what is heard. A record that
/// cannot be read counts as plain AAC at the configured rate.
pub(crate) fn frame(config: &AudioConfig) -> (u32, u32) {
    let (samples, rate) = parse(&config.record).unwrap_or((1024, 0));
    (samples, if rate == 0 { config.sample_rate.max(1) } else { rate })
}

/// Length of one access unit in ticks of `timescale`, at least one.
pub(crate) fn frame_ticks(config: &AudioConfig, timescale: u32) -> u32 {
    let (samples, rate) = frame(config);
    let ticks = (u64::from(samples) * u64::from(timescale) + u64::from(rate) / 2) / u64::from(rate);
    u32::try_from(ticks).unwrap_or(samples).max(1)
}

fn parse(record: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits { data: record, at: 0 };
    let mut object = bits.take(5)?;
    if object == 31 {
        object = 32 + bits.take(6)?;
    }
    let rate = bits.rate()?;
    bits.take(4)?; // channels
    if object == 5 || object == 29 {
        bits.rate()?; // the rate after band replication
        bits.take(5)?;
    }
    let short = bits.take(1).unwrap_or(0) == 1;
    Some((if short { 960 } else { 1024 }, rate))
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at / 8)?;
            value = (value << 1) | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
    fn rate(&mut self) -> Option<u32> {
        match self.take(4)? {
            15 => self.take(24),
            index => RATES.get(index as usize).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use crest_core::codec::AudioCodec;

    fn config(record: &'static [u8], sample_rate: u32) -> AudioConfig {
        AudioConfig { codec: AudioCodec::Aac, record: Bytes::from_static(record), sample_rate, channels: 2 }
    }

    #[test]
    fn the_core_rate_counts() {
        // AAC-LC at 44.1 kHz; HE-AAC with a 24 kHz core heard at 48 kHz; nothing readable.
        assert_eq!(frame(&config(&[0x12, 0x10], 44_100)), (1024, 44_100));
        let he = config(&[0x2b, 0x11, 0x88, 0x00], 48_000);
        assert_eq!(frame(&he), (1024, 24_000));
        assert_eq!(frame_ticks(&he, 48_000), 2048);
        assert_eq!(frame(&config(&[], 32_000)), (1024, 32_000));
    }
}
