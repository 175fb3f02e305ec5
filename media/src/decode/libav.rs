//! libavcodec without GStreamer: a keyframe in, a small picture out, with no copy of the large one between.
//!
//! The C beside it is compiled against the headers of the library that is installed, so that no layout of its
//! structures is written down here ([decision 015](../../../docs/decisions/015-keyframes-by-libavcodec.md)).

#![allow(unsafe_code, reason = "the libraries have an interface for C")]

use bytes::Bytes;
use crest_core::codec::{VideoCodec, VideoConfig};
use crest_core::sample::{PICTURE_SIDE, Picture};
use crest_core::{Error, Result};
use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;

/// `AVERROR_INVALIDDATA`.
const INVALID_DATA: c_int = -c_int::from_le_bytes(*b"INDA");

/// The C side's state. It belongs to one thread at a time.
#[repr(C)]
struct Raw {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn crest_keyframes_open(
        codec: *const c_char,
        record: *const u8,
        length: c_int,
        max_pixels: i64,
        side: c_int,
        out: *mut *mut Raw,
    ) -> c_int;
    fn crest_keyframes_decode(keyframes: *mut Raw, data: *const u8, length: c_int, rgb: *mut u8) -> c_int;
    fn crest_keyframes_close(keyframes: *mut Raw);
    fn crest_keyframes_reason(result: c_int, text: *mut c_char, size: usize);
}

/// Decodes keyframes of one configuration of H.264 or HEVC. It holds no threads.
pub(crate) struct Libav {
    raw: NonNull<Raw>,
}

// SAFETY: nothing in it is tied to the thread that made it, and `&mut` keeps its use to one at a time.
unsafe impl Send for Libav {}

impl Libav {
    /// A decoder for `config`; `None` for codecs that are decoded otherwise.
    pub(crate) fn new(config: &VideoConfig, max_pixels: u64) -> Result<Option<Self>> {
        let codec = match config.codec {
            VideoCodec::H264 => c"h264",
            VideoCodec::H265 => c"hevc",
            VideoCodec::Av1 | VideoCodec::Vp9 | VideoCodec::Vp8 => return Ok(None),
        };
        let too_long = |_| Error::outside("the decoder's configuration is too long; check the encoder's output");
        let length = c_int::try_from(config.record.len()).map_err(too_long)?;
        let (pixels, side) = (i64::try_from(max_pixels).unwrap_or(i64::MAX), c_int::from(PICTURE_SIDE));
        let mut raw = std::ptr::null_mut();
        // SAFETY: the name ends with a zero, `length` bytes of the record are there and are copied, `raw` is written.
        let result =
            unsafe { crest_keyframes_open(codec.as_ptr(), config.record.as_ptr(), length, pixels, side, &raw mut raw) };
        NonNull::new(raw).map(|raw| Some(Self { raw })).ok_or_else(|| failed("the decoder does not start", result))
    }

    /// The picture of one keyframe as packed RGB, [`PICTURE_SIDE`] square.
    pub(crate) fn picture(&mut self, keyframe: &Bytes) -> Result<Picture> {
        let too_large = |_| Error::outside("the keyframe is too large to be decoded");
        let length = c_int::try_from(keyframe.len()).map_err(too_large)?;
        let side = usize::from(PICTURE_SIDE);
        let mut rgb = vec![0; side * side * 3];
        // SAFETY: `length` bytes of the keyframe are there, and `rgb` has the room that `side` asks for.
        let result = unsafe { crest_keyframes_decode(self.raw.as_ptr(), keyframe.as_ptr(), length, rgb.as_mut_ptr()) };
        match result {
            0.. => {}
            INVALID_DATA => return Err(failed("the keyframe cannot be decoded; the feed is damaged here", result)),
            // Memory, or what libavcodec does not support.
            _ => return Err(failed("the keyframe cannot be decoded", result)),
        }
        Ok(Picture { width: PICTURE_SIDE, height: PICTURE_SIDE, rgb: Bytes::from(rgb) })
    }
}

impl Drop for Libav {
    fn drop(&mut self) {
        // SAFETY: it was made by `crest_keyframes_open` and is not used again.
        unsafe { crest_keyframes_close(self.raw.as_ptr()) }
    }
}

fn failed(what: &str, result: c_int) -> Error {
    let mut text = [0_u8; 128];
    // SAFETY: it writes at most so many bytes, the last of them zero.
    unsafe { crest_keyframes_reason(result, text.as_mut_ptr().cast(), text.len()) };
    let reason = CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy();
    Error { retryable: false, ..Error::outside(format!("{what}: {reason}")) }
}
