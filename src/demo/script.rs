//! The script of a broadcast: what happens when, drawn from the seed. Only the synthesis, the chat
//! and the score card know it; crest does not.

use super::rng::Rng;

/// Longest broadcast, in tenths of a second.
const LONGEST: u64 = 1400;
/// Quiet play at the beginning, at least: fusion learns there what is usual.
const QUIET: u64 = 250;
/// Quiet play between two events, at least.
const GAP: u64 = 100;
/// Quiet play at the end, at least.
const TAIL: u64 = 100;
/// Shortest and longest event.
const LENGTH: (u64, u64) = (50, 100);

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Crowd noise, cuts, faster motion, and chat reacts.
    Full,
    /// Cuts and faster motion; sound and chat stay quiet.
    Visual,
    /// A loud steady hum and nothing else: not worth keeping.
    Decoy,
}

/// Something that happens in the broadcast.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// What it is.
    pub kind: Kind,
    /// Its first instant, in seconds of the broadcast.
    pub start_s: f64,
    /// Its last instant.
    pub end_s: f64,
    /// How far its sound rises above the ambience, in decibels.
    pub louder_db: f64,
    /// How long after its start chat begins to react, in seconds.
    pub lag_s: f64,
    /// Messages per second at the height of the reaction.
    pub chat_peak: f64,
}

impl Moment {
    /// Whether crest should find it.
    pub fn wanted(&self) -> bool {
        self.kind != Kind::Decoy
    }

    /// Whether there are cuts and fast motion.
    pub fn is_seen(&self) -> bool {
        self.kind != Kind::Decoy
    }
}

/// A broadcast.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// What it was drawn from.
    pub seed: u64,
    /// Its length.
    pub duration_s: f64,
    /// Level of the ambience, in dB of full scale.
    pub ambience_db: f64,
    /// Viewers who chat.
    pub viewers: u64,
    /// Messages per second while nothing happens.
    pub chat_base: f64,
    /// What happens, in order, without overlap.
    pub moments: Vec<Moment>,
}

impl Script {
    /// The script of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let wanted = rng.between(4, 6);
        let mut kinds = vec![Kind::Full; wanted as usize - 1];
        kinds.extend([Kind::Visual, Kind::Decoy]);
        rng.shuffle(&mut kinds);

        let (events, gaps) = (kinds.len() as u64, kinds.len() as u64 - 1);
        let longest = ((LONGEST - QUIET - TAIL - GAP * gaps) / events).min(LENGTH.1);
        let lengths: Vec<u64> = kinds.iter().map(|_| rng.between(LENGTH.0, longest)).collect();
        let least = QUIET + TAIL + GAP * gaps + lengths.iter().sum::<u64>();

        // What is left of the longest broadcast, or a part of it, goes to the pauses.
        let spare = rng.between(0, LONGEST - least);
        let weights: Vec<u64> = (0..events + 1).map(|_| rng.between(1, 100)).collect();
        let total: u64 = weights.iter().sum();
        let extra = |pause: usize| weights.get(pause).map_or(0, |w| spare * w / total);

        let lag = rng.range(3.0, 8.0);
        let viewers = rng.between(60, 400);
        let mut now = QUIET + extra(0);
        let mut moments = Vec::new();
        for (index, (kind, length)) in kinds.into_iter().zip(lengths).enumerate() {
            let start_s = now as f64 / 10.0;
            moments.push(Moment {
                kind,
                start_s,
                end_s: start_s + length as f64 / 10.0,
                louder_db: if kind == Kind::Visual { 0.0 } else { rng.range(13.0, 23.0) },
                lag_s: (lag + rng.range(-0.7, 0.7)).clamp(3.0, 8.0),
                chat_peak: if kind == Kind::Full { rng.range(0.04, 0.08) * viewers as f64 + 5.0 } else { 0.0 },
            });
            now += length + GAP + extra(index + 1);
        }
        Self {
            seed,
            duration_s: (now - GAP + TAIL) as f64 / 10.0,
            ambience_db: rng.range(-42.0, -36.0),
            viewers,
            chat_base: rng.range(0.6, 2.0),
            moments,
        }
    }

    /// The moments that crest should find.
    pub fn wanted(&self) -> impl Iterator<Item = &Moment> {
        self.moments.iter().filter(|m| m.wanted())
    }

    /// Where the wanted moments lie, as `crest eval` takes labels.
    pub fn labels(&self) -> Vec<(f64, f64)> {
        self.wanted().map(|m| (m.start_s, m.end_s)).collect()
    }

    /// How lively the picture is at an instant, 0..1: a quick rise, a slower fall.
    pub fn liveliness(&self, t: f64) -> f64 {
        let of = |m: &Moment| ((t - m.start_s) / 0.4).min((m.end_s + 0.8 - t) / 0.8).clamp(0.0, 1.0);
        self.moments.iter().filter(|m| m.is_seen()).map(of).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_script_and_another_seed_another() {
        for seed in 0..200 {
            assert_eq!(Script::of(seed), Script::of(seed));
            assert_ne!(Script::of(seed).moments, Script::of(seed + 1).moments);
        }
    }

    #[test]
    fn every_script_keeps_its_promises() {
        for seed in 0..200 {
            let script = Script::of(seed);
            let count = |kind| script.moments.iter().filter(|m| m.kind == kind).count();
            assert!((4..=6).contains(&script.wanted().count()), "seed {seed}");
            assert_eq!((count(Kind::Visual), count(Kind::Decoy)), (1, 1), "seed {seed}");
            assert!((99.9..=140.1).contains(&script.duration_s), "seed {seed}: {} s", script.duration_s);
            assert!(script.moments[0].start_s >= 25.0, "seed {seed}");
            assert!(script.moments.iter().all(|m| (4.9..=10.1).contains(&(m.end_s - m.start_s))), "seed {seed}");
            assert!(script.moments.iter().all(|m| (3.0..=8.0).contains(&m.lag_s)), "seed {seed}");
            let gaps = script.moments.windows(2).map(|w| w[1].start_s - w[0].end_s);
            assert!(gaps.into_iter().all(|gap| gap >= 9.95), "seed {seed}");
            assert!(script.moments.last().is_some_and(|m| m.end_s + 9.95 <= script.duration_s), "seed {seed}");
        }
    }

    #[test]
    fn scripts_differ_in_order_number_and_length() {
        let scripts: Vec<Script> = (0..200).map(Script::of).collect();
        let some = |what: &dyn Fn(&Script) -> bool| scripts.iter().filter(|s| what(s)).count() > 10;
        assert!(some(&|s| s.moments[0].kind == Kind::Decoy) && some(&|s| s.moments[0].kind == Kind::Visual));
        assert!(some(&|s| s.moments.len() == 5) && some(&|s| s.moments.len() == 7));
        assert!(some(&|s| s.duration_s < 122.0) && some(&|s| s.duration_s > 130.0));
    }
}
