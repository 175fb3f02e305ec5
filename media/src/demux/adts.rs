//! AAC with ADTS headers (ISO/IEC 14496-3, 1.A.3.2), and ID3 tags between the frames.

use crest_core::MediaTime;

use super::notes::Notes;
use super::track::Unit;
use crate::file::Kind;

/// The largest ID3 tag that is read; covers of a song are in them.
const LARGEST_TAG: usize = 4 << 20;
const TAG_HEADER: usize = 10;
const FRAME_HEADER: usize = 7;
const FRAME_SAMPLES: i64 = 1024;
/// The owner of the tag that says the time of the frame after it (RFC 8216, 3.4).
const TIME_OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";
const RATES: [i64; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Frames, each with its time: a tag's, and from there on counted in samples.
#[derive(Debug, Default)]
pub(crate) struct Adts {
    held: Vec<u8>,
    /// Where counting began, and the samples since.
    start: MediaTime,
    samples: i64,
    rate: i64,
}

/// What lies at the beginning of some bytes.
enum Found {
    Tag(usize),
    Frame { bytes: usize, rate: i64, blocks: i64 },
    More,
    Nothing,
}

impl Adts {
    /// The frames that are complete by these bytes.
    pub(super) fn push(&mut self, data: &[u8], notes: &mut Notes) -> Vec<Unit> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(data);
        let mut units = Vec::new();
        let mut at = 0;
        loop {
            let rest = &held[at..];
            match look(rest) {
                Found::Tag(bytes) if rest.len() >= bytes => {
                    if let Some(ticks) = time(&rest[..bytes]) {
                        self.start = MediaTime::from_nanos((i128::from(ticks) * 100_000 / 9) as i64);
                        self.samples = 0;
                    }
                    at += bytes;
                }
                Found::Frame { bytes, rate, blocks } if rest.len() >= bytes => {
                    if self.rate != rate {
                        (self.start, self.samples, self.rate) = (self.now(), 0, rate);
                    }
                    let pts = Some(self.now());
                    units.push(Unit { kind: Kind::Aac, pts, dts: pts, data: rest[..bytes].to_vec() });
                    self.samples += blocks * FRAME_SAMPLES;
                    at += bytes;
                }
                Found::Tag(_) | Found::Frame { .. } | Found::More => break,
                Found::Nothing => {
                    notes.add("bytes between the AAC frames are passed over");
                    at += 1;
                }
            }
        }
        self.held = held.split_off(at);
        units
    }

    /// Forgets what is not whole.
    pub(super) fn finish(&mut self) {
        self.held.clear();
    }

    fn now(&self) -> MediaTime {
        if self.rate == 0 {
            return self.start;
        }
        let nanos = i128::from(self.samples) * 1_000_000_000 / i128::from(self.rate);
        self.start + MediaTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

fn look(bytes: &[u8]) -> Found {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(b"ID3") {
        let Some(header) = bytes.first_chunk::<TAG_HEADER>() else { return Found::More };
        let size = header[6..].iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let footer = if header[5] & 0x10 != 0 { TAG_HEADER } else { 0 };
        let whole = TAG_HEADER + size + footer;
        return if whole <= LARGEST_TAG { Found::Tag(whole) } else { Found::Nothing };
    }
    let Some(header) = bytes.first_chunk::<FRAME_HEADER>() else {
        let possible = bytes.first().is_none_or(|b| *b == 0xff) && bytes.get(1).is_none_or(|b| b & 0xf6 == 0xf0);
        return if possible { Found::More } else { Found::Nothing };
    };
    let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
    let rate = RATES.get(usize::from(header[2] >> 2 & 0xf));
    match rate {
        Some(rate) if header[0] == 0xff && header[1] & 0xf6 == 0xf0 && length > FRAME_HEADER => {
            Found::Frame { bytes: length, rate: *rate, blocks: i64::from(header[6] & 3) + 1 }
        }
        _ => Found::Nothing,
    }
}

/// The time in a tag, in ticks of 90 kHz.
fn time(tag: &[u8]) -> Option<i64> {
    let at = tag.windows(TIME_OWNER.len()).position(|window| window == TIME_OWNER)? + TIME_OWNER.len();
    let ticks = u64::from_be_bytes(*tag.get(at..)?.first_chunk()?);
    i64::try_from(ticks & ((1 << 33) - 1)).ok()
}
