//! `video_change`: mean absolute difference of luma (ITU-R BT.601 weights) between successive decoded
//! keyframes. A cut or a new scene shows here even where little moves.

use crest_core::sample::{Picture, VideoBatch};
use crest_core::signal::Signal;

use crate::{Analyzer, Values};

/// Compares keyframes.
#[derive(Default)]
pub struct Change {
    previous: Option<Vec<u8>>,
}

fn luma(picture: &Picture) -> Vec<u8> {
    let weigh = |p: &[u8; 3]| ((299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2])) / 1000) as u8;
    picture.rgb.as_chunks::<3>().0.iter().map(weigh).collect()
}

impl Analyzer for Change {
    fn video(&mut self, batch: &VideoBatch, values: &mut Values) {
        for frame in &batch.frames {
            let Some(picture) = &frame.picture else { continue };
            let luma = luma(picture);
            // Pictures all have one size; another size means another sampler, not another scene.
            if let Some(previous) = self.previous.as_ref().filter(|p| p.len() == luma.len() && !luma.is_empty()) {
                let total: u64 = luma.iter().zip(previous).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
                values.raise(frame.pts.bucket(), Signal::VideoChange, total as f64 / luma.len() as f64);
            }
            self.previous = Some(luma);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::sample::VideoFrame;
    use crest_core::signal::{Modality, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session};

    #[test]
    fn a_cut_from_black_to_white_is_the_largest_change() {
        let frame = |at: i64, level: u8| VideoFrame {
            pts: MediaTime::from_millis(at),
            encoded_bytes: 1,
            keyframe: true,
            picture: Some(Picture { width: 2, height: 2, rgb: vec![level; 12].into() }),
        };
        let mut values = Values::default();
        Change::default().video(
            &VideoBatch {
                organization_id: OrganizationId::from_raw("org_a"),
                session: Session::new(1),
                complete_to: MediaTime::from_millis(3000),
                frames: vec![frame(0, 0), frame(1000, 0), frame(2000, 255)],
            },
            &mut values,
        );
        let changes: Vec<f64> = values
            .take(Modality::Video, MediaTime::from_millis(3000))
            .into_iter()
            .filter_map(|e| if let SignalEntry::Value { value, .. } = e { Some(value) } else { None })
            .collect();
        assert_eq!(changes, [0.0, 255.0]);
    }
}
