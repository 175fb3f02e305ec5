//! Samples: what analyzers see and hear of a feed.

use arrow_array::types::{Float32Type, Int64Type, UInt16Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Int64Array, UInt16Array, UInt32Array};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::OrganizationId;
use crate::ipc;
use crate::time::{MediaTime, Session};

/// Sample rate of every audio window, in hertz.
pub const AUDIO_RATE: u32 = 16_000;

/// Width and height of every sampled picture, in pixels.
pub const PICTURE_SIDE: u16 = 224;

/// A decoded picture: `height * width * 3` bytes, RGB, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// The pixels.
    pub rgb: Bytes,
}

/// One encoded frame, and its picture where it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFrame {
    /// Presentation time.
    pub pts: MediaTime,
    /// Encoded size.
    pub encoded_bytes: u32,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// The picture, `PICTURE_SIDE` square, where one was decoded.
    pub picture: Option<Picture>,
}

/// The frames of one stretch of a session, in decoding order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoBatch {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The session.
    pub session: Session,
    /// No frame with an earlier presentation time follows.
    pub complete_to: MediaTime,
    /// The frames.
    pub frames: Vec<VideoFrame>,
}

impl VideoBatch {
    /// As the payload of `media.video`. The first row carries `complete_to` and no frame.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let head = std::iter::once(self.complete_to.nanos());
        let pts: Int64Array = head.chain(self.frames.iter().map(|f| f.pts.nanos())).collect();
        let bytes: UInt32Array =
            std::iter::once(None).chain(self.frames.iter().map(|f| Some(f.encoded_bytes))).collect();
        let keyframe: BooleanArray =
            std::iter::once(None).chain(self.frames.iter().map(|f| Some(f.keyframe))).collect();
        let pictures = || std::iter::once(None).chain(self.frames.iter().map(|f| f.picture.as_ref()));
        let width: UInt16Array = pictures().map(|p| p.map(|p| p.width)).collect();
        let height: UInt16Array = pictures().map(|p| p.map(|p| p.height)).collect();
        let rgb: BinaryArray = pictures().map(|p| p.map(|p| p.rgb.as_ref())).collect();
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        ipc::encode(
            &self.organization_id,
            self.session,
            vec![
                (field("pts_ns", DataType::Int64), Arc::new(pts) as ArrayRef),
                (field("encoded_bytes", DataType::UInt32), Arc::new(bytes)),
                (field("keyframe", DataType::Boolean), Arc::new(keyframe)),
                (field("width", DataType::UInt16), Arc::new(width)),
                (field("height", DataType::UInt16), Arc::new(height)),
                (field("rgb", DataType::Binary), Arc::new(rgb)),
            ],
        )
    }

    /// From the payload of `media.video`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let decoded = ipc::decode(payload)?;
        let pts = decoded.primitive::<Int64Type>("pts_ns")?;
        let bytes = decoded.primitive::<UInt32Type>("encoded_bytes")?;
        let keyframe = decoded.boolean("keyframe")?;
        let width = decoded.primitive::<UInt16Type>("width")?;
        let height = decoded.primitive::<UInt16Type>("height")?;
        let rgb = decoded.binary("rgb")?;
        if decoded.batch.num_rows() == 0 {
            return Err(Error::outside("a media.video record without its first row"));
        }
        let mut frames = Vec::with_capacity(decoded.batch.num_rows() - 1);
        for row in 1..decoded.batch.num_rows() {
            let picture = match (ipc::cell(width, row), ipc::cell(height, row), rgb.is_valid(row)) {
                (Some(width), Some(height), true) => {
                    let pixels = rgb.value(row);
                    if pixels.len() != usize::from(width) * usize::from(height) * 3 {
                        return Err(Error::outside("a picture whose size does not fit its pixels"));
                    }
                    Some(Picture { width, height, rgb: Bytes::copy_from_slice(pixels) })
                }
                _ => None,
            };
            frames.push(VideoFrame {
                pts: MediaTime::from_nanos(pts.value(row)),
                encoded_bytes: ipc::cell(bytes, row).unwrap_or(0),
                keyframe: keyframe.is_valid(row) && keyframe.value(row),
                picture,
            });
        }
        Ok(Self {
            organization_id: decoded.organization.clone(),
            session: decoded.session,
            complete_to: MediaTime::from_nanos(pts.value(0)),
            frames,
        })
    }
}

/// A stretch of sound: mono, [`AUDIO_RATE`], -1..1. Never crosses a bucket boundary.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioWindow {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The session.
    pub session: Session,
    /// Presentation time of the first sample.
    pub start: MediaTime,
    /// No sound with an earlier presentation time follows.
    pub complete_to: MediaTime,
    /// The samples.
    pub samples: Vec<f32>,
}

impl AudioWindow {
    /// As the payload of `media.audio`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        // One row per sample would cost an index each; times ride in two leading rows instead.
        let times: Int64Array = [Some(self.start.nanos()), Some(self.complete_to.nanos())]
            .into_iter()
            .chain(std::iter::repeat_n(None, self.samples.len()))
            .collect();
        let samples: Float32Array = [None, None].into_iter().chain(self.samples.iter().map(|s| Some(*s))).collect();
        ipc::encode(
            &self.organization_id,
            self.session,
            vec![
                (Field::new("time_ns", DataType::Int64, true), Arc::new(times) as ArrayRef),
                (Field::new("sample", DataType::Float32, true), Arc::new(samples)),
            ],
        )
    }

    /// From the payload of `media.audio`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let decoded = ipc::decode(payload)?;
        let times = decoded.primitive::<Int64Type>("time_ns")?;
        let samples = decoded.primitive::<Float32Type>("sample")?;
        if decoded.batch.num_rows() < 2 {
            return Err(Error::outside("a media.audio record without its leading rows"));
        }
        Ok(Self {
            organization_id: decoded.organization.clone(),
            session: decoded.session,
            start: MediaTime::from_nanos(times.value(0)),
            complete_to: MediaTime::from_nanos(times.value(1)),
            samples: samples.values()[2..].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_the_bus() -> Result<()> {
        let org = OrganizationId::from_raw("org_a");
        let video = VideoBatch {
            organization_id: org.clone(),
            session: Session::new(3),
            complete_to: MediaTime::from_millis(500),
            frames: vec![
                VideoFrame {
                    pts: MediaTime::ZERO,
                    encoded_bytes: 900,
                    keyframe: true,
                    picture: Some(Picture { width: 2, height: 1, rgb: Bytes::from_static(&[1, 2, 3, 4, 5, 6]) }),
                },
                VideoFrame { pts: MediaTime::from_millis(16), encoded_bytes: 30, keyframe: false, picture: None },
            ],
        };
        assert_eq!(VideoBatch::decode(&video.encode()?)?, video);
        let audio = AudioWindow {
            organization_id: org,
            session: Session::new(3),
            start: MediaTime::from_millis(20),
            complete_to: MediaTime::from_millis(40),
            samples: vec![0.5, -0.25],
        };
        assert_eq!(AudioWindow::decode(&audio.encode()?)?, audio);
        assert!(AudioWindow::decode(b"not arrow").is_err());
        assert!(VideoBatch::decode(&audio.encode()?).is_err());
        Ok(())
    }
}
