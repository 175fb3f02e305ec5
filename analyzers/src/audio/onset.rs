//! `audio_onset`: spectral flux, the half-wave rectified rise of log-compressed band magnitudes
//! between frames (Böck, Krebs, Schedl: "Evaluating the online capabilities of onset detection
//! methods", ISMIR 2012), with 24 bands spaced like a mel filter bank.

use crest_core::sample::{AUDIO_RATE, AudioWindow};
use crest_core::signal::Signal;
use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};
use std::sync::Arc;

use crate::{Analyzer, Values};

/// Samples in a frame: 64 ms.
const FRAME: usize = 1024;
/// Samples from frame to frame: 32 ms.
const HOP: usize = 512;
/// Bands.
const BANDS: usize = 24;
/// Compression: magnitudes well below 1/`GAMMA` of full scale hardly count.
const GAMMA: f32 = 100.0;

/// Measures spectral flux.
pub struct Onset {
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    /// First bin of each band, and the end of the last.
    edges: [usize; BANDS + 1],
    buffer: Vec<f32>,
    previous: Option<[f32; BANDS]>,
    input: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
}

impl Default for Onset {
    fn default() -> Self {
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(FRAME);
        let hann =
            (0..FRAME).map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / FRAME as f32).cos()).collect::<Vec<_>>();
        let mel = |hz: f32| 1127.0 * (1.0 + hz / 700.0).ln();
        let hz = |mel: f32| 700.0 * ((mel / 1127.0).exp() - 1.0);
        let (low, high) = (mel(60.0), mel(AUDIO_RATE as f32 / 2.0));
        let mut edges = [0; BANDS + 1];
        for (index, edge) in edges.iter_mut().enumerate() {
            let at = hz(low + (high - low) * index as f32 / BANDS as f32);
            *edge = (at * FRAME as f32 / AUDIO_RATE as f32).round() as usize;
        }
        for index in 1..=BANDS {
            edges[index] = edges[index].max(edges[index - 1] + 1).min(FRAME / 2 + 1);
        }
        let (input, spectrum) = (fft.make_input_vec(), fft.make_output_vec());
        Self { fft, hann, edges, buffer: Vec::with_capacity(FRAME * 2), previous: None, input, spectrum }
    }
}

impl Onset {
    fn bands(&mut self) -> Option<[f32; BANDS]> {
        for ((slot, sample), weight) in self.input.iter_mut().zip(&self.buffer).zip(&self.hann) {
            *slot = sample * weight;
        }
        self.fft.process(&mut self.input, &mut self.spectrum).ok()?;
        let mut bands = [0.0; BANDS];
        for (band, edge) in bands.iter_mut().zip(self.edges.windows(2)) {
            let bins = &self.spectrum[edge[0]..edge[1]];
            let magnitude = bins.iter().map(|c| c.norm()).sum::<f32>() / bins.len() as f32 / (FRAME as f32 / 4.0);
            *band = (1.0 + GAMMA * magnitude).log10();
        }
        Some(bands)
    }
}

impl Analyzer for Onset {
    fn audio(&mut self, window: &AudioWindow, values: &mut Values) {
        self.buffer.extend(window.samples.iter().map(|s| if s.is_finite() { *s } else { 0.0 }));
        let mut strongest: Option<f32> = None;
        while self.buffer.len() >= FRAME {
            if let Some(bands) = self.bands() {
                if let Some(previous) = self.previous {
                    let rise = bands.iter().zip(previous).map(|(now, before)| (now - before).max(0.0)).sum::<f32>();
                    strongest = Some(strongest.unwrap_or(0.0).max(rise / BANDS as f32));
                }
                self.previous = Some(bands);
            }
            self.buffer.drain(..HOP);
        }
        if let Some(strongest) = strongest {
            values.raise(window.start.bucket(), Signal::AudioOnset, f64::from(strongest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::signal::{Modality, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session};

    #[test]
    fn a_burst_stands_out_from_a_steady_tone() {
        let (mut onset, mut values) = (Onset::default(), Values::default());
        for bucket in 0..8i64 {
            let samples = (0..8000).map(|n| {
                let n = n as i64 + bucket * 8000;
                let tone = 0.2 * (n as f32 * 440.0 * std::f32::consts::TAU / 16000.0).sin();
                // A click train of pseudo-noise in the middle of bucket 5.
                let burst =
                    if bucket == 5 && n % 8000 > 4000 { ((n * 7919 % 2003) as f32 / 1001.0 - 1.0) * 0.5 } else { 0.0 };
                tone + burst
            });
            let window = AudioWindow {
                organization_id: OrganizationId::from_raw("org_a"),
                session: Session::new(1),
                start: MediaTime::from_millis(bucket * 500),
                complete_to: MediaTime::from_millis(bucket * 500 + 500),
                samples: samples.collect(),
            };
            onset.audio(&window, &mut values);
        }
        let entries = values.take(Modality::Audio, MediaTime::from_millis(10_000));
        let at = |index: u64| {
            entries
                .iter()
                .find_map(|e| match e {
                    SignalEntry::Value { bucket, value, .. } if bucket.index() == index => Some(*value),
                    _ => None,
                })
                .unwrap_or(f64::NAN)
        };
        assert!(at(5) > 5.0 * at(3).max(0.01), "burst {} steady {}", at(5), at(3));
    }
}
