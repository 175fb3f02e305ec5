//! What is known of the latest ticks: their normalised values, and what their media alone come to.

use crest_core::Bucket;
use std::collections::VecDeque;

use crate::dimensions::{DimensionSet, SIGNALS, Values, media_only};
use crate::packed::{Packed, Packer, Unpacker};

/// The latest ticks up to the one that was reached, without gaps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    first: Bucket,
    values: VecDeque<Values>,
    /// The mean over the media of each, 0 where there are none. It does not change once the tick is fast known,
    /// and is asked for dozens of times.
    media: VecDeque<f64>,
}

impl Memory {
    /// Goes on to `tick`, and forgets all but the latest `keep`.
    pub(crate) fn reach(&mut self, tick: Bucket, keep: u64) {
        let oldest = tick.next().back(keep);
        while self.first < oldest && self.values.pop_front().is_some() {
            self.media.pop_front();
            self.first = self.first.next();
        }
        self.first = self.first.max(oldest);
        while self.first.forward(self.values.len() as u64) <= tick {
            self.values.push_back([None; SIGNALS]);
            self.media.push_back(0.0);
        }
    }

    /// The values of a tick; none where it is forgotten or yet to come.
    pub(crate) fn values(&self, tick: Bucket) -> Values {
        self.index(tick).and_then(|index| self.values.get(index)).copied().unwrap_or_default()
    }

    /// To set values of a tick that is remembered.
    pub(crate) fn values_mut(&mut self, tick: Bucket) -> Option<&mut Values> {
        self.index(tick).and_then(|index| self.values.get_mut(index))
    }

    /// The mean over the media of a tick, 0 where there are none.
    pub(crate) fn media(&self, tick: Bucket) -> f64 {
        self.index(tick).and_then(|index| self.media.get(index)).copied().unwrap_or_default()
    }

    /// Every value of the tick's media is there.
    pub(crate) fn weigh_media(&mut self, set: &DimensionSet, tick: Bucket) {
        let mean = set.mean(&media_only(&self.values(tick))).unwrap_or_default();
        if let Some(media) = self.index(tick).and_then(|index| self.media.get_mut(index)) {
            *media = mean;
        }
    }

    /// After unpacking: what follows from the values is not packed.
    pub(crate) fn weigh_all(&mut self, set: &DimensionSet) {
        (0..self.values.len() as u64).for_each(|index| self.weigh_media(set, self.first.forward(index)));
    }

    fn index(&self, tick: Bucket) -> Option<usize> {
        usize::try_from(tick.index().checked_sub(self.first.index())?).ok()
    }
}

impl Packed for Memory {
    fn pack(&self, packer: &mut Packer) {
        packer.whole(self.first.index());
        packer.whole(self.values.len() as u64);
        for values in &self.values {
            let there = values.iter().rev().fold(0, |there, value| there << 1 | u64::from(value.is_some()));
            packer.whole(there);
            values.iter().flatten().for_each(|value| packer.number(*value));
        }
    }

    fn unpack(unpacker: &mut Unpacker) -> Option<Self> {
        let mut memory = Self { first: Bucket::new(unpacker.whole()?), ..Self::default() };
        for _ in 0..unpacker.whole()? {
            let (there, mut values) = (unpacker.whole()?, [None; SIGNALS]);
            for (_, value) in values.iter_mut().enumerate().filter(|(signal, _)| there >> signal & 1 == 1) {
                *value = Some(unpacker.number()?);
            }
            memory.values.push_back(values);
            memory.media.push_back(0.0);
        }
        Some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_each_other_and_the_oldest_go() {
        let (mut memory, set) = (Memory::default(), DimensionSet::default());
        for tick in [0, 1, 5, 6, 900] {
            memory.reach(Bucket::new(tick), 4);
            memory.values_mut(Bucket::new(tick)).into_iter().for_each(|values| values[0] = Some(tick as f64 / 1000.0));
            memory.weigh_media(&set, Bucket::new(tick));
            assert_eq!(memory.values(Bucket::new(tick))[0], Some(tick as f64 / 1000.0));
            assert!(memory.values.len() <= 4 && memory.values.len() == memory.media.len());
            if tick == 6 {
                assert_eq!(memory.values(Bucket::new(5))[0], Some(0.005));
                assert_eq!(memory.values(Bucket::new(4))[0], None);
            }
        }
        assert_eq!((memory.values(Bucket::new(6))[0], memory.values(Bucket::new(901))[0]), (None, None));
        assert!(memory.values_mut(Bucket::new(897)).is_some() && memory.values_mut(Bucket::new(896)).is_none());
        assert!((memory.media(Bucket::new(900)) - 0.9).abs() < 1e-12);
        assert_eq!(memory.media(Bucket::new(899)), 0.0);
    }
}
