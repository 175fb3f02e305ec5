//! The packets of a track's PID -> packets of its elementary stream (H.222.0, 2.4.3.6).

use mpeg2ts_reader::packet::{ContinuityCounter, Packet};
use mpeg2ts_reader::pes::{PesContents, PesHeader, PtsDts, Timestamp};

/// The longest packet of an elementary stream that is kept: a picture at 1 Gbit/s.
const LONGEST: usize = 16 << 20;
/// Start code, stream id and length.
const HEADER: usize = 6;

/// What came out of a track's PID.
#[derive(Debug)]
pub(super) struct Pes {
    /// In ticks of 90 kHz, modulo 2^33.
    pub(super) pts: Option<u64>,
    /// In ticks of 90 kHz, modulo 2^33.
    pub(super) dts: Option<u64>,
    pub(super) data: Vec<u8>,
}

/// Collects the packets of one elementary stream.
#[derive(Debug, Default)]
pub(super) struct Collector {
    held: Vec<u8>,
    open: bool,
    last: Option<ContinuityCounter>,
    /// How often something was missing.
    pub(super) losses: u64,
}

impl Collector {
    /// What is complete by a packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>) -> Vec<Pes> {
        let mut out = Vec::new();
        let announced = packet.adaptation_field().is_some_and(|field| field.discontinuity_indicator());
        let Some(payload) = packet.payload() else { return out };
        let counter = packet.continuity_counter();
        let last = self.last.replace(counter);
        if last == Some(counter) && !announced {
            // A packet may be sent twice.
            return out;
        }
        if !announced && last.is_some_and(|last| !counter.follows(last)) {
            self.lose();
        }
        if packet.payload_unit_start_indicator() {
            out.extend(self.complete());
            self.open = true;
        }
        if !self.open {
            return out;
        }
        if self.held.len() + payload.len() > LONGEST {
            self.lose();
            return out;
        }
        self.held.extend_from_slice(payload);
        if self.expected().is_some_and(|length| self.held.len() >= length) {
            out.extend(self.complete());
        }
        out
    }

    /// What is held, as far as it came.
    pub(super) fn finish(&mut self) -> Option<Pes> {
        self.last = None;
        // A length that was announced and not reached: it was cut off.
        let cut = self.expected().is_some_and(|length| self.held.len() < length);
        if cut { None } else { self.complete() }
    }

    fn lose(&mut self) {
        self.losses += 1;
        self.held.clear();
        self.open = false;
    }

    /// The whole length where it is announced; a picture's may not be.
    fn expected(&self) -> Option<usize> {
        let length = self.held.get(4..HEADER)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        (length > 0).then_some(HEADER + length)
    }

    fn complete(&mut self) -> Option<Pes> {
        self.open = false;
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return None;
        }
        if let Some(length) = HEADER.checked_add(usize::from(u16::from_be_bytes([*held.get(4)?, *held.get(5)?])))
            && length > HEADER
        {
            held.truncate(length);
        }
        let time = |time: Result<Timestamp, _>| time.ok().map(Timestamp::value);
        let (pts, dts, payload) = match PesHeader::from_bytes(&held).map(|header| header.contents()) {
            Some(PesContents::Parsed(Some(parsed))) => match parsed.pts_dts() {
                Ok(PtsDts::PtsOnly(pts)) => (time(pts), None, parsed.payload().len()),
                Ok(PtsDts::Both { pts, dts }) => (time(pts), time(dts), parsed.payload().len()),
                Ok(_) | Err(_) => (None, None, parsed.payload().len()),
            },
            Some(PesContents::Payload(payload)) => (None, None, payload.len()),
            Some(PesContents::Parsed(None)) | None => {
                self.lose();
                return None;
            }
        };
        let data = held.split_off(held.len() - payload);
        Some(Pes { pts, dts, data })
    }
}
