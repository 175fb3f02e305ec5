//! The marks of a session that have been decided. A mark may be appended twice by a retry, long after the first
//! was decided: it counts once.

use crest_core::MediaTime;
use std::collections::VecDeque;

use crate::packed::{Packed, Packer, Unpacker};

/// Marks that are remembered; those that were decided first are forgotten first.
const MAX_MARKS: usize = 7200;

/// Instants that were marked, and whether each became a highlight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks(VecDeque<(MediaTime, bool)>);

impl Marks {
    /// Whether a mark of that instant was decided, or one of its bucket became a highlight: there is one for
    /// each bucket.
    pub(crate) fn knows(&self, at: MediaTime) -> bool {
        self.0.iter().any(|(known, told)| *known == at || (*told && known.bucket() == at.bucket()))
    }

    /// Remembers a mark.
    pub(crate) fn add(&mut self, at: MediaTime, told: bool) {
        if self.0.len() >= MAX_MARKS {
            self.0.pop_front();
        }
        self.0.push_back((at, told));
    }
}

impl Packed for Marks {
    fn pack(&self, packer: &mut Packer) {
        packer.whole(self.0.len() as u64);
        for (at, told) in &self.0 {
            packer.whole(at.nanos().cast_unsigned());
            packer.whole(u64::from(*told));
        }
    }

    fn unpack(unpacker: &mut Unpacker) -> Option<Self> {
        let mut marks = Self::default();
        for _ in 0..unpacker.whole()? {
            marks.0.push_back((MediaTime::from_nanos(unpacker.whole()?.cast_signed()), unpacker.whole()? == 1));
        }
        Some(marks)
    }
}
