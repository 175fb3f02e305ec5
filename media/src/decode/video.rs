//! One video decoder: a keyframe in, a picture out.

use bytes::Bytes;
use crest_core::codec::{VideoCodec, VideoConfig};
use crest_core::sample::{PICTURE_SIDE, Picture};
use crest_core::{Error, Result};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::chain::{Chain, element, filter};
use crate::mp4::entry;

/// What a decoder makes of a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// RGB, [`PICTURE_SIDE`] square; the whole picture is squeezed into it.
    Sample,
    /// JPEG, square pixels, at most so many pixels wide.
    Jpeg { width: i32 },
}

/// Decodes keyframes of one configuration. It holds no threads.
pub(crate) struct VideoDecoder {
    chain: Chain,
    h264: Option<H264>,
}

/// What must be known to start H.264 at a frame that does not reset the decoder.
struct H264 {
    /// Bytes of the length before each NAL unit.
    length_size: usize,
    /// Frames that a frame may refer to.
    references: usize,
}

impl VideoDecoder {
    pub(crate) fn new(config: &VideoConfig, output: Output) -> Result<Self> {
        crate::init()?;
        let (name, media, format) = match config.codec {
            VideoCodec::H264 => ("avdec_h264", "video/x-h264", "avc"),
            VideoCodec::H265 => ("avdec_h265", "video/x-h265", "hvc1"),
            other => return Err(Error::user(format!("{other:?} is not decoded by this version"))),
        };
        let caps = gst::Caps::builder(media)
            .field("stream-format", format)
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(config.record.clone()))
            .build();
        let decoder = element(name)?;
        decoder.set_property("max-threads", 1_i32);
        // A damaged keyframe is no picture: grey blocks would look like a cut.
        decoder.set_property("output-corrupt", false);
        decoder.set_property("discard-corrupted-frames", true);
        decoder.set_property("qos", false);
        let scale = element("videoconvertscale")?;
        scale.set_property("add-borders", false);
        let square = gst::Fraction::new(1, 1);
        let mut elements = vec![decoder, scale];
        match output {
            Output::Sample => {
                let side = i32::from(PICTURE_SIDE);
                let caps = gst::Caps::builder("video/x-raw")
                    .field("format", "RGB")
                    .field("width", side)
                    .field("height", side)
                    .field("pixel-aspect-ratio", square)
                    .build();
                elements.push(filter(&caps)?);
            }
            Output::Jpeg { width } => {
                let caps = gst::Caps::builder("video/x-raw")
                    .field("format", "I420")
                    .field("width", gst::IntRange::new(1, width))
                    .field("pixel-aspect-ratio", square)
                    .build();
                elements.push(filter(&caps)?);
                // Not `jpegenc`: where a side is no multiple of 16 it encodes whatever lies beyond the
                // picture in memory, and the same picture gives other bytes each time.
                let jpeg = element("avenc_mjpeg")?;
                jpeg.set_property_from_str("pass", "quant");
                jpeg.set_property("quantizer", 3.0_f32);
                jpeg.set_property_from_str("flags", "bitexact");
                elements.push(jpeg);
            }
        }
        let h264 = (config.codec == VideoCodec::H264).then(|| H264 {
            length_size: config.record.get(4).map_or(4, |byte| usize::from(byte & 3) + 1),
            references: entry::h264(&config.record).map_or(4, |sps| sps.references as usize),
        });
        Ok(Self { chain: Chain::new(&elements, &caps)?, h264 })
    }

    /// The picture of one keyframe as packed RGB. Only for [`Output::Sample`].
    pub(crate) fn picture(&mut self, keyframe: &Bytes) -> Result<Picture> {
        let (buffer, caps) = self.decode(keyframe)?;
        let unusable = || Error::ours("the decoder gave a picture without its format");
        let info = gst_video::VideoInfo::from_caps(caps.as_ref().ok_or_else(unusable)?).map_err(|_| unusable())?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&buffer, &info).map_err(|_| unusable())?;
        let (width, height) = (frame.width(), frame.height());
        let stride = usize::try_from(frame.plane_stride().first().copied().unwrap_or(0)).unwrap_or(0);
        let row = width as usize * 3;
        let data = frame.plane_data(0).map_err(|_| unusable())?;
        if stride < row || row == 0 {
            return Err(unusable());
        }
        let mut rgb = Vec::with_capacity(row * height as usize);
        for line in data.chunks(stride).take(height as usize) {
            rgb.extend_from_slice(line.get(..row).ok_or_else(unusable)?);
        }
        let side = |pixels: u32| u16::try_from(pixels).map_err(|_| unusable());
        Ok(Picture { width: side(width)?, height: side(height)?, rgb: Bytes::from(rgb) })
    }

    /// The picture of one keyframe as a file. Only for [`Output::Jpeg`].
    pub(crate) fn jpeg(&mut self, keyframe: &Bytes) -> Result<Vec<u8>> {
        let (buffer, _) = self.decode(keyframe)?;
        let map = buffer.map_readable().map_err(|_| Error::ours("a JPEG that cannot be read"))?;
        Ok(map.to_vec())
    }

    /// A decoder releases a picture only when later ones arrive, or when it is drained.
    fn decode(&mut self, keyframe: &Bytes) -> Result<(gst::Buffer, Option<gst::Caps>)> {
        self.chain.take();
        // Started at a recovery point instead of an IDR frame, libavcodec makes up as many frames as may be referred
        // to, and `avdec_h264` (1.22) gives it room for one frame per packet: each packet but the last fails.
        let resets = self.h264.as_ref().is_none_or(|h264| h264.resets(keyframe));
        let packets = self.h264.as_ref().filter(|_| !resets).map_or(1, |h264| h264.references + 1);
        for _ in 0..packets {
            self.chain.push(keyframe.clone())?;
        }
        self.chain.drain();
        let none = || self.chain.reason("the keyframe cannot be decoded; the feed is damaged here");
        self.chain.take().pop().ok_or_else(none)
    }
}

impl H264 {
    /// Whether an access unit holds an IDR slice, or none that can be found.
    fn resets(&self, unit: &[u8]) -> bool {
        const SLICE: u8 = 1;
        const IDR: u8 = 5;
        let mut rest = unit;
        while let Some((length, after)) = rest.split_at_checked(self.length_size) {
            let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            match after.first().map(|byte| byte & 0x1f) {
                Some(SLICE) => return false,
                Some(IDR) | None => return true,
                Some(_) => rest = after.get(length..).unwrap_or_default(),
            }
        }
        true
    }
}
