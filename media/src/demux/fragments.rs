//! Fragmented MP4 as others write it: header, then fragments -> events.

use bytes::{Buf, Bytes, BytesMut};
use crest_core::codec::{MediaEvent, Packet};
use crest_core::{Error, MediaTime, Result};
use mp4_atom::{Atom, Moof, Traf};

use super::fragments_header::{TrackHeader, tracks};
use super::notes::Notes;
use crate::file::is_random_access;
use crate::mp4::track::time;

/// The longest header or index that is read.
const LONGEST_INDEX: u64 = 16 << 20;
/// The longest body of a fragment that is read.
const LONGEST_BODY: u64 = 64 << 20;
/// Samples of a fragment that are read: an hour of sound.
const MOST_SAMPLES: usize = 200_000;

/// Reads box by box; of a fragment the index waits for its body.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    held: BytesMut,
    /// Bytes of a box of no interest that are still to come.
    skip: u64,
    /// Where `held` begins.
    at: u64,
    tracks: Vec<Reading>,
    index: Option<(u64, Moof)>,
    /// The audio track that is chosen, among those that can be read.
    audio: Option<u8>,
}

#[derive(Debug)]
struct Reading {
    header: TrackHeader,
    announced: bool,
    /// Decoding time after the last sample, in ticks.
    next: i64,
    /// How far decoding must be moved forward so that nothing is presented before it, in ticks: some writers have
    /// negative offsets from decoding to presentation instead of an edit list.
    lead: i64,
}

/// A sample on its way out.
struct Placed {
    track: usize,
    packet: Packet,
}

impl Fragments {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Bytes that are no boxes: what follows cannot be found.
    pub(super) fn push(&mut self, data: &[u8], events: &mut Vec<MediaEvent>, notes: &mut Notes) -> Result<()> {
        let skipped = self.skip.min(data.len() as u64);
        self.skip -= skipped;
        self.at += skipped;
        self.held.extend_from_slice(&data[skipped as usize..]);
        while let Some((kind, header, size)) = box_header(&self.held)? {
            let longest = match &kind {
                b"moov" | b"moof" => LONGEST_INDEX,
                b"mdat" if self.index.is_some() => LONGEST_BODY,
                _ => 0,
            };
            if size > longest {
                if longest > 0 {
                    notes.add("a part of the MP4 is too long and is left out");
                    self.index = None;
                }
                let here = size.min(self.held.len() as u64);
                self.held.advance(here as usize);
                self.at += here;
                self.skip = size - here;
                if self.skip > 0 {
                    break;
                }
                continue;
            }
            if (self.held.len() as u64) < size {
                break;
            }
            let (begin, whole) = (self.at, self.held.split_to(size as usize).freeze());
            self.at += size;
            self.whole(&kind, begin, header, whole, events, notes)?;
        }
        Ok(())
    }

    /// Which audio track is read.
    pub(super) fn choose_audio(&mut self, track: Option<u8>) {
        self.audio = track;
    }

    /// Forgets what is not whole; the header holds for what follows too.
    pub(super) fn finish(&mut self) {
        (self.held, self.skip, self.at, self.index) = (BytesMut::new(), 0, 0, None);
    }

    fn whole(
        &mut self,
        kind: &[u8; 4],
        begin: u64,
        header: usize,
        whole: Bytes,
        events: &mut Vec<MediaEvent>,
        notes: &mut Notes,
    ) -> Result<()> {
        let body = whole.slice(header..);
        match kind {
            b"moov" => self.header(&body, notes)?,
            b"moof" => match Moof::decode_body(&mut &body[..]) {
                Ok(moof) => self.index = Some((begin, moof)),
                Err(e) => {
                    self.index = None;
                    notes.add(format!("a fragment's index cannot be read ({e}); the fragment is left out"));
                }
            },
            _ => {
                if let Some((start, moof)) = self.index.take() {
                    let offset = begin + header as u64 - start;
                    self.fragment(&moof, offset, &body, events, notes);
                }
            }
        }
        Ok(())
    }

    fn header(&mut self, body: &[u8], notes: &mut Notes) -> Result<()> {
        let mut before = std::mem::take(&mut self.tracks);
        for header in tracks(body, self.audio, notes)? {
            let old = before.iter().position(|old| old.header.config == header.config).map(|at| before.remove(at));
            let (announced, next, lead) = old.map_or((false, 0, 0), |old| (old.announced, old.next, old.lead));
            self.tracks.push(Reading { header, announced, next, lead });
        }
        if self.tracks.is_empty() {
            notes.add("the MP4 has no track that can be read");
        }
        Ok(())
    }

    /// Hands out a fragment whose body begins `offset` bytes after its index.
    fn fragment(&mut self, moof: &Moof, offset: u64, body: &Bytes, events: &mut Vec<MediaEvent>, notes: &mut Notes) {
        // An index of some bytes can announce samples by the thousand million.
        let samples = moof.traf.iter().flat_map(|traf| &traf.trun).map(|run| run.samples.len());
        if samples.fold(0, usize::saturating_add) > MOST_SAMPLES {
            return notes.add("a fragment of too many samples is left out");
        }
        let mut placed = Vec::new();
        // Where a run begins that does not say: after the one before it.
        let mut position = offset;
        for traf in &moof.traf {
            let track = self.tracks.iter().position(|track| track.header.id == traf.tfhd.track_id);
            let reading = track.map(|at| (at, &mut self.tracks[at]));
            if run(traf, reading, offset, &mut position, body, &mut placed).is_none() {
                notes.add("samples that lie outside of their fragment are left out");
            }
        }
        placed.sort_by_key(|placed| placed.packet.dts);
        // Packets that are a small part of the body must not keep all of it.
        let taken: usize = placed.iter().map(|placed| placed.packet.data.len()).sum();
        let apart = taken < body.len() / 2;
        for Placed { track, mut packet } in placed {
            if apart {
                packet.data = Bytes::copy_from_slice(&packet.data);
            }
            let reading = &mut self.tracks[track];
            if !std::mem::replace(&mut reading.announced, true) {
                events.push(reading.header.config.clone());
            }
            let video = reading.header.is_video();
            events.push(if video { MediaEvent::Video(packet) } else { MediaEvent::Audio(packet) });
        }
    }
}

/// Places the samples of one track. `None` where they lie outside of the body.
fn run(
    traf: &Traf,
    reading: Option<(usize, &mut Reading)>,
    offset: u64,
    position: &mut u64,
    body: &Bytes,
    placed: &mut Vec<Placed>,
) -> Option<()> {
    // Without either flag, offsets of a further track count from the end of the one before it (14496-12, 8.8.7.1).
    let chained = traf.tfhd.base_data_offset.is_none() && !traf.tfhd.default_base_is_moof && *position != offset;
    let base = if chained { *position } else { 0 };
    let (track, mut reading) = reading.unzip();
    if let Some(reading) = &mut reading {
        let offsets = traf.trun.iter().flat_map(|run| run.samples.iter()).filter_map(|sample| sample.cts);
        reading.lead = offsets.take(MOST_SAMPLES).map(|cts| cts.saturating_neg()).fold(reading.lead, i64::max);
    }
    let defaults = reading.as_ref().map(|reading| reading.header.defaults.clone()).unwrap_or_default();
    let duration = traf.tfhd.default_sample_duration.unwrap_or(defaults.default_sample_duration);
    let size = traf.tfhd.default_sample_size.unwrap_or(defaults.default_sample_size);
    let begin = traf.tfdt.as_ref().and_then(|tfdt| i64::try_from(tfdt.base_media_decode_time).ok());
    let mut dts = begin.or(reading.as_ref().map(|reading| reading.next)).unwrap_or(0);
    for run in &traf.trun {
        if let Some(offset) = run.data_offset {
            *position = base.checked_add_signed(i64::from(offset))?;
        }
        for sample in run.samples.iter() {
            let size = u64::from(sample.size.unwrap_or(size));
            let from = usize::try_from(position.checked_sub(offset)?).ok()?;
            let to = from.checked_add(usize::try_from(size).ok()?).filter(|to| *to <= body.len())?;
            *position += size;
            if placed.len() >= MOST_SAMPLES || size == 0 {
                return None;
            }
            if let (Some(track), Some(reading)) = (track, &reading) {
                placed.push(Placed { track, packet: packet(reading, dts, sample.cts, body.slice(from..to)) });
            }
            dts = dts.checked_add(i64::from(sample.duration.unwrap_or(duration)))?;
        }
    }
    if let Some(reading) = reading {
        reading.next = dts;
    }
    Some(())
}

fn packet(reading: &Reading, dts: i64, cts: Option<i64>, data: Bytes) -> Packet {
    let header = &reading.header;
    let decoded = dts.saturating_add(header.shift);
    let at = |ticks: i64| -> MediaTime { time(ticks, header.timescale) };
    let keyframe = match &header.config {
        MediaEvent::VideoConfig(config) => is_random_access(config, &data),
        _ => true,
    };
    let pts = at(decoded.saturating_add(cts.unwrap_or(0)));
    Packet { pts, dts: at(decoded.saturating_sub(reading.lead)), keyframe, data }
}

/// A box's kind, the length of its header, and its length; `None` where not all of the header is there.
fn box_header(bytes: &[u8]) -> Result<Option<([u8; 4], usize, u64)>> {
    let Some(&[s0, s1, s2, s3, k0, k1, k2, k3]) = bytes.first_chunk::<8>() else { return Ok(None) };
    let kind = [k0, k1, k2, k3];
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let (header, size) = if size == 1 {
        let Some(long) = bytes.get(8..16).and_then(|long| long.first_chunk::<8>()) else { return Ok(None) };
        (16, u64::from_be_bytes(*long))
    } else {
        (8, u64::from(size))
    };
    if size < header as u64 || !kind.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == 0xa9) {
        return Err(Error::outside("this is no fragmented MP4, or a piece of it is missing"));
    }
    Ok(Some((kind, header, size)))
}
