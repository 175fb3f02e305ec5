//! The director: which camera is on air when.

use crate::demo::rng::Rng;
use crate::demo::script::Script;

/// A camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Camera {
    /// The whole pitch from the main stand.
    Wide,
    /// The whole pitch from the opposite side, nearer.
    Opposite,
    /// Players at full size.
    Close,
    /// The audience.
    Crowd,
}

/// A stretch seen through one camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shot {
    /// Its first instant.
    pub from_s: f64,
    /// The camera.
    pub camera: Camera,
}

/// Quiet play stays this far from anything that happens before the director dares a calm cut.
const CALM: f64 = 3.0;

/// The shots of a broadcast, in order. Whatever can be seen happening is cut quickly; quiet play is
/// mostly one long shot, with a calm change of the camera here and there.
pub fn shots(script: &Script) -> Vec<Shot> {
    let mut rng = Rng::new(script.seed, 3);
    let mut shots = vec![Shot { from_s: 0.0, camera: Camera::Wide }];
    let mut free_from = 0.0;
    for moment in &script.moments {
        calm(&mut rng, free_from + CALM, moment.start_s - CALM, &mut shots);
        free_from = moment.end_s;
        if !moment.is_seen() {
            continue;
        }
        let mut at = moment.start_s + rng.range(0.0, 0.3);
        let mut last = Camera::Wide;
        while at < moment.end_s - 0.5 {
            let others = [Camera::Opposite, Camera::Close, Camera::Close, Camera::Crowd, Camera::Wide];
            let camera = others[rng.index(others.len())];
            if camera != last {
                shots.push(Shot { from_s: at, camera });
                last = camera;
                at += rng.range(0.9, 1.9);
            }
        }
        shots.push(Shot { from_s: moment.end_s, camera: Camera::Wide });
    }
    calm(&mut rng, free_from + CALM, script.duration_s - CALM, &mut shots);
    shots
}

/// At most one calm change within a stretch of quiet play, and back.
fn calm(rng: &mut Rng, from_s: f64, to_s: f64, shots: &mut Vec<Shot>) {
    let length = rng.range(4.0, 7.0);
    if to_s - from_s < length || rng.unit() < 0.5 {
        return;
    }
    let at = rng.range(from_s, to_s - length);
    shots.push(Shot { from_s: at, camera: Camera::Opposite });
    shots.push(Shot { from_s: at + length, camera: Camera::Wide });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_cut_fast_and_the_decoy_not_at_all() {
        for seed in 0..200 {
            let script = Script::of(seed);
            let shots = shots(&script);
            assert!(shots.windows(2).all(|w| w[0].from_s < w[1].from_s), "seed {seed}");
            for moment in &script.moments {
                let within = |s: &&Shot| s.from_s >= moment.start_s && s.from_s < moment.end_s;
                let cuts = shots.iter().filter(within).count();
                if moment.is_seen() { assert!(cuts >= 3, "seed {seed}") } else { assert_eq!(cuts, 0, "seed {seed}") }
            }
        }
    }
}
