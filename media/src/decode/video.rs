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
use super::libav::Libav;
use crate::bitstream::{av1, vpx};
use crate::coded::{Announced, PictureHeaders};
use crate::mp4::entry;

/// The largest picture that is decoded where nothing else is asked for, in coded pixels: 8K has 33 million, and
/// needs some 50 MB a frame.
pub(crate) const MAX_PIXELS: u64 = 40_000_000;

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
    way: Way,
    headers: PictureHeaders,
    max_pixels: u64,
}

/// How a picture is made.
enum Way {
    /// Samples of H.264 and HEVC, which nearly all feeds are: without the detours that GStreamer makes.
    Libav(Libav),
    /// Everything else.
    Elements(Chain, Start),
}

/// What a codec needs so that decoding starts at a keyframe.
enum Start {
    /// H.264.
    Picture(H264),
    /// AV1: the open bitstream units of the configuration record, for keyframes that come without a sequence header.
    Sequence(Bytes),
    /// VP9 and VP8: whether this is a keyframe, since these decoders make a picture of anything.
    Checked(fn(&[u8]) -> Option<vpx::Keyframe>),
    Plain,
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
        Self::of_at_most(MAX_PIXELS, config, output)
    }

    /// Like [`Self::new`], for coded pictures of at most so many pixels. What is larger is refused from its
    /// headers: the decoder reserves memory for all of it before it sees that nothing is there.
    pub(crate) fn of_at_most(max_pixels: u64, config: &VideoConfig, output: Output) -> Result<Self> {
        crate::init()?;
        let headers = PictureHeaders::of(config);
        admit(headers.announced(), max_pixels)?;
        if output == Output::Sample
            && let Some(libav) = Libav::new(config, max_pixels)?
        {
            return Ok(Self { way: Way::Libav(libav), headers, max_pixels });
        }
        let (decoder, caps) = decoder(config)?;
        // A damaged keyframe is no picture: grey blocks would look like a cut.
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
        let start = match config.codec {
            VideoCodec::H264 => Start::Picture(H264 {
                length_size: config.record.get(4).map_or(4, |byte| usize::from(byte & 3) + 1),
                references: entry::h264(&config.record).map_or(4, |sps| sps.references as usize),
            }),
            VideoCodec::H265 => Start::Plain,
            VideoCodec::Av1 => Start::Sequence(av1::units_of(&config.record)),
            VideoCodec::Vp9 => Start::Checked(vpx::vp9),
            VideoCodec::Vp8 => Start::Checked(vpx::vp8),
        };
        Ok(Self { way: Way::Elements(Chain::new(&elements, &caps)?, start), headers, max_pixels })
    }

    /// The picture of one keyframe as packed RGB. Only for [`Output::Sample`].
    pub(crate) fn picture(&mut self, keyframe: &Bytes) -> Result<Picture> {
        // Parameter sets may come along with the picture, and count for it.
        admit(self.headers.within(keyframe), self.max_pixels)?;
        let (chain, start) = match &mut self.way {
            Way::Libav(libav) => return libav.picture(keyframe),
            Way::Elements(chain, start) => (chain, start),
        };
        let (buffer, caps) = decode(chain, start, keyframe)?;
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
        admit(self.headers.within(keyframe), self.max_pixels)?;
        let Way::Elements(chain, start) = &self.way else {
            return Err(Error::ours("a decoder of samples was asked for a file"));
        };
        let (buffer, _) = decode(chain, start, keyframe)?;
        let map = buffer.map_readable().map_err(|_| Error::ours("a JPEG that cannot be read"))?;
        Ok(map.to_vec())
    }
}

/// A decoder releases a picture only when later ones arrive, or when it is drained.
fn decode(chain: &Chain, start: &Start, keyframe: &Bytes) -> Result<(gst::Buffer, Option<gst::Caps>)> {
    chain.take();
    let none = || chain.reason("the keyframe cannot be decoded; the feed is damaged here");
    let (mut packets, mut unit) = (1, keyframe.clone());
    match start {
        Start::Picture(h264) => packets = h264.packets(keyframe),
        Start::Sequence(units) if av1::sequence(keyframe).is_none() => unit = [&units[..], keyframe].concat().into(),
        Start::Checked(keyframe_of) if keyframe_of(keyframe).is_none() => return Err(none()),
        Start::Sequence(_) | Start::Checked(_) | Start::Plain => {}
    }
    for _ in 0..packets {
        chain.push(unit.clone())?;
    }
    chain.drain();
    chain.take().pop().ok_or_else(none)
}

/// The decoder of a configuration, and what it is to be told of it.
fn decoder(config: &VideoConfig) -> Result<(gst::Element, gst::Caps)> {
    let record = || gst::Buffer::from_slice(config.record.clone());
    let libav = |decoder: gst::Element, media: &str, format: &str| {
        decoder.set_property("max-threads", 1_i32);
        decoder.set_property("output-corrupt", false);
        let caps = gst::Caps::builder(media).field("stream-format", format).field("alignment", "au");
        Ok((decoder, caps.field("codec_data", record()).build()))
    };
    let vpx = |decoder: gst::Element, media: &str| {
        decoder.set_property("threads", 1_u32);
        Ok((decoder, gst::Caps::builder(media).build()))
    };
    match config.codec {
        VideoCodec::H264 => libav(element("avdec_h264")?, "video/x-h264", "avc"),
        VideoCodec::H265 => libav(element("avdec_h265")?, "video/x-h265", "hvc1"),
        VideoCodec::Av1 => {
            let caps = gst::Caps::builder("video/x-av1").field("stream-format", "obu-stream").field("alignment", "tu");
            Ok((element("av1dec")?, caps.build()))
        }
        VideoCodec::Vp9 => vpx(element("vp9dec")?, "video/x-vp9"),
        VideoCodec::Vp8 => vpx(element("vp8dec")?, "video/x-vp8"),
    }
}

/// Refuses what announces too large a picture, or what a decoder may read otherwise than it was read here.
fn admit(announced: Announced, max_pixels: u64) -> Result<()> {
    let refused = |reason: String| Err(Error { retryable: false, ..Error::outside(reason) });
    match announced {
        Announced::Size { width, height } if u64::from(width) * u64::from(height) > max_pixels => refused(format!(
            "a picture of {width} x {height} is not decoded: it has more than {max_pixels} pixels (decoder.max_pixels)"
        )),
        Announced::Unreadable => refused("the picture's headers cannot be read; check the encoder's output".to_owned()),
        Announced::Size { .. } | Announced::Nothing => Ok(()),
    }
}

impl H264 {
    /// How often a keyframe is given to the decoder.
    fn packets(&self, keyframe: &Bytes) -> usize {
        // Started at a recovery point instead of an IDR frame, libavcodec makes up as many frames as may be referred
        // to, and `avdec_h264` (1.22) gives it room for one frame per packet: each packet but the last fails.
        if self.resets(keyframe) { 1 } else { self.references + 1 }
    }

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
