//! Bytes -> packets of 188 bytes, found again after garbage.

use mpeg2ts_reader::packet::Packet;

/// Finds where packets begin. What it returns depends on the bytes alone, not on how they were cut.
#[derive(Debug, Default)]
pub(super) struct Sync {
    held: Vec<u8>,
    /// Whether a packet has just ended here: the next one is believed without looking for the one after it.
    locked: bool,
}

impl Sync {
    /// Takes bytes and gives each whole packet to `packet`. Returns how many bytes were passed over.
    pub(super) fn push(&mut self, data: &[u8], mut packet: impl FnMut(&[u8])) -> usize {
        let held = std::mem::take(&mut self.held);
        let joined;
        let mut rest = if held.is_empty() {
            data
        } else {
            joined = [&held, data].concat();
            &joined
        };
        let mut passed = 0;
        loop {
            // Two in step begin a run.
            let needed = if self.locked { Packet::SIZE } else { Packet::SIZE + 1 };
            if rest.len() < needed {
                break;
            }
            let begins = Packet::is_sync_byte(rest[0]) && (self.locked || Packet::is_sync_byte(rest[Packet::SIZE]));
            if begins {
                let (whole, after) = rest.split_at(Packet::SIZE);
                packet(whole);
                rest = after;
            } else {
                rest = &rest[1..];
                passed += 1;
            }
            self.locked = begins;
        }
        self.held = rest.to_vec();
        passed
    }
}
