//! Values as they stand in the log, by bucket.

use crest_core::Bucket;
use std::collections::BTreeMap;

use crate::dimensions::SIGNALS;
use crate::packed::{Packed, Packer, Unpacker};

/// The latest values of each signal, and those that are ahead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raw(pub(crate) [BTreeMap<Bucket, f64>; SIGNALS]);

impl Raw {
    /// Forgets what is before `oldest`.
    pub(crate) fn forget(&mut self, oldest: Bucket) {
        for values in &mut self.0 {
            while values.first_entry().filter(|first| *first.key() < oldest).map(|first| first.remove()).is_some() {}
        }
    }
}

impl Packed for Raw {
    fn pack(&self, packer: &mut Packer) {
        for values in &self.0 {
            packer.whole(values.len() as u64);
            let mut before = 0;
            for (bucket, value) in values {
                packer.whole(bucket.index() - before);
                packer.number(*value);
                before = bucket.index();
            }
        }
    }

    fn unpack(unpacker: &mut Unpacker) -> Option<Self> {
        let mut raw = Self::default();
        for values in &mut raw.0 {
            let mut bucket = 0u64;
            for _ in 0..unpacker.whole()? {
                bucket = bucket.checked_add(unpacker.whole()?)?;
                values.insert(Bucket::new(bucket), unpacker.number()?);
            }
        }
        Some(raw)
    }
}
