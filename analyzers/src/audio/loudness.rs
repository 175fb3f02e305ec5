//! `audio_loudness`: EBU R128 momentary loudness (EBU Tech 3341: K-weighted, 400 ms, ungated).

use crest_core::sample::{AUDIO_RATE, AudioWindow};
use crest_core::signal::Signal;
use ebur128::{EbuR128, Mode};

use crate::{Analyzer, Values};

/// The meter's reading for digital silence, in LUFS.
const SILENCE: f64 = -70.0;

/// Samples between two readings: 100 ms, the overlap that EBU Tech 3341 asks for at least.
const STEP: usize = AUDIO_RATE as usize / 10;

/// Measures momentary loudness.
#[derive(Default)]
pub struct Loudness {
    meter: Option<EbuR128>,
}

impl Analyzer for Loudness {
    fn audio(&mut self, window: &AudioWindow, values: &mut Values) {
        if self.meter.is_none() {
            self.meter = EbuR128::new(1, AUDIO_RATE, Mode::M).ok();
        }
        let Some(meter) = self.meter.as_mut() else { return };
        for chunk in window.samples.chunks(STEP) {
            if meter.add_frames_f32(chunk).is_err() {
                continue;
            }
            let loudness = meter.loudness_momentary().unwrap_or(SILENCE).max(SILENCE);
            values.raise(window.start.bucket(), Signal::AudioLoudness, loudness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::signal::{Modality, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session};

    fn tone(amplitude: f32, bucket: i64) -> AudioWindow {
        let samples = (0..8000).map(|n| amplitude * (n as f32 * 997.0 * std::f32::consts::TAU / 16000.0).sin());
        AudioWindow {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            start: MediaTime::from_millis(bucket * 500),
            complete_to: MediaTime::from_millis(bucket * 500 + 500),
            samples: samples.collect(),
        }
    }

    #[test]
    fn a_full_scale_tone_reads_as_the_recommendation_says() {
        // EBU Tech 3341 / ITU-R BS.1770: a 0 dBFS 997 Hz sine in one channel reads -3.01 LKFS.
        let (mut loudness, mut values) = (Loudness::default(), Values::default());
        for bucket in 0..4 {
            loudness.audio(&tone(1.0, bucket), &mut values);
        }
        loudness.audio(&tone(0.1, 10), &mut values);
        let entries = values.take(Modality::Audio, MediaTime::from_millis(10_000));
        let at = |index: u64| {
            entries.iter().find_map(|e| match e {
                SignalEntry::Value { bucket, value, .. } if bucket.index() == index => Some(*value),
                _ => None,
            })
        };
        assert!(at(3).is_some_and(|v| (v + 3.01).abs() < 0.3), "{:?}", at(3));
    }
}
