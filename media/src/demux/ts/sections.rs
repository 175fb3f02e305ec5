//! The packets of a table's PID -> whole sections with a right checksum (H.222.0, 2.4.4).

use mpeg2ts_reader::mpegts_crc;
use mpeg2ts_reader::packet::{ContinuityCounter, Packet};

/// `table_id` and `section_length`.
const HEADER: usize = 3;
/// The header that every section of ours has, before what it is about.
const SYNTAX: usize = 5;
const CHECKSUM: usize = 4;
/// The longest section of a program's tables.
const LONGEST: usize = 1024;

/// A section whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section(Vec<u8>);

impl Section {
    pub(super) fn table(&self) -> u8 {
        self.0[0]
    }
    /// The program that a map is of.
    pub(super) fn extension(&self) -> u16 {
        u16::from_be_bytes([self.0[HEADER], self.0[HEADER + 1]])
    }
    /// Whether it holds now, not later.
    pub(super) fn is_current(&self) -> bool {
        self.0[HEADER + 2] & 1 == 1
    }
    /// Between header and checksum.
    pub(super) fn body(&self) -> &[u8] {
        &self.0[HEADER + SYNTAX..self.0.len() - CHECKSUM]
    }
}

/// Collects the sections of one PID.
#[derive(Debug, Default)]
pub(super) struct Sections {
    held: Vec<u8>,
    last: Option<ContinuityCounter>,
}

impl Sections {
    /// The sections that are complete by a packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>) -> Vec<Section> {
        let mut found = Vec::new();
        let Some(payload) = packet.payload() else { return found };
        let counter = packet.continuity_counter();
        if self.last.replace(counter).is_some_and(|last| !counter.follows(last)) {
            self.held.clear();
        }
        if packet.payload_unit_start_indicator() {
            let Some((pointer, rest)) = payload.split_first() else { return found };
            let Some((end, begin)) = rest.split_at_checked(usize::from(*pointer)) else { return found };
            if !self.held.is_empty() {
                self.held.extend_from_slice(end);
                self.take(&mut found);
            }
            self.held = begin.to_vec();
        } else if !self.held.is_empty() {
            self.held.extend_from_slice(payload);
        }
        self.take(&mut found);
        found
    }

    /// Takes whole sections from what is held; after them only stuffing follows, or the beginning of one.
    fn take(&mut self, found: &mut Vec<Section>) {
        while let [table, high, low, ..] = self.held[..] {
            let length = HEADER + (usize::from(high & 0x0f) << 8 | usize::from(low));
            if table == 0xff || !(HEADER + SYNTAX + CHECKSUM..=LONGEST).contains(&length) {
                self.held.clear();
                return;
            }
            if self.held.len() < length {
                return;
            }
            let rest = self.held.split_off(length);
            let section = std::mem::replace(&mut self.held, rest);
            if mpegts_crc::sum32(&section) == 0 {
                found.push(Section(section));
            }
        }
    }
}
