//! The sound: a murmuring stand, kicks of the ball, cheers with whistles and horns, and the hum of
//! the decoy.

use std::f64::consts::TAU;
use std::io::Write;
use std::path::Path;

use crate::demo::rng::Rng;
use crate::demo::script::{Kind, Script};

/// Samples per second, one channel.
pub const RATE: u32 = 48_000;

/// A two-pole filter pair that keeps a band of noise.
#[derive(Default)]
struct Band {
    low: [f64; 2],
    high: f64,
}

impl Band {
    fn pass(&mut self, input: f64, from_hz: f64, to_hz: f64) -> f64 {
        let (up, down) = (TAU * to_hz / f64::from(RATE), TAU * from_hz / f64::from(RATE));
        self.low[0] += (input - self.low[0]) * up.min(1.0);
        self.low[1] += (self.low[0] - self.low[1]) * up.min(1.0);
        self.high += (self.low[1] - self.high) * down.min(1.0);
        self.low[1] - self.high
    }
}

/// A sound that begins at an instant and dies away.
struct Blow {
    at: f64,
    length: f64,
    hz: f64,
    strength: f64,
    noise: bool,
}

fn gain(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

/// How strongly a moment sounds at an instant, 0..1.
fn swell(t: f64, start: f64, end: f64, rise: f64, fall: f64) -> f64 {
    ((t - start) / rise).min((end + fall - t) / fall).clamp(0.0, 1.0)
}

/// Single sounds of the whole broadcast, in order.
fn blows(script: &Script, rng: &mut Rng) -> Vec<Blow> {
    let ambience = gain(script.ambience_db);
    let mut blows = Vec::new();
    let mut t = 0.4;
    while t < script.duration_s {
        let strength = ambience * rng.range(0.6, 2.0);
        blows.push(Blow { at: t, length: 0.07, hz: rng.range(80.0, 130.0), strength, noise: false });
        t += rng.range(0.8, 2.6);
    }
    for moment in script.moments.iter().filter(|m| m.kind == Kind::Full) {
        let level = gain(script.ambience_db + moment.louder_db);
        let mut push = |at: f64, length, hz, strength, noise| {
            blows.push(Blow { at, length, hz, strength: strength * level, noise });
        };
        push(moment.start_s + 0.1, 0.35, 2900.0, 0.7, false);
        let mut at = moment.start_s;
        while at < moment.end_s {
            push(at, rng.range(0.02, 0.06), 0.0, rng.range(0.5, 3.0), true);
            if rng.unit() < 0.03 {
                push(at, rng.range(0.3, 0.7), rng.range(2500.0, 3300.0), rng.range(0.4, 0.9), false);
            }
            if rng.unit() < 0.02 {
                push(at, rng.range(0.4, 1.0), rng.range(380.0, 470.0), rng.range(0.6, 1.0), false);
            }
            at += rng.range(0.02, 0.16);
        }
    }
    blows.sort_by(|a, b| a.at.total_cmp(&b.at));
    blows
}

/// Writes the sound of a broadcast as a WAV file.
pub fn write(script: &Script, path: &Path) -> std::io::Result<()> {
    let mut rng = Rng::new(script.seed, 6);
    let blows = blows(script, &mut rng);
    let samples = (script.duration_s * f64::from(RATE)) as u32;
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    header(&mut out, samples)?;
    let (mut murmur, mut roar, mut clap) = (Band::default(), Band::default(), Band::default());
    let (mut first, mut sway, mut flutter, mut aim) = (0, 0.0, 0.0, 0.0);
    let (phase, hum_hz) = (rng.range(0.0, TAU), rng.range(90.0, 160.0));
    let ambience = gain(script.ambience_db);
    let (mut cheer, mut hum) = (0.0, 0.0);
    for n in 0..samples {
        let t = f64::from(n) / f64::from(RATE);
        if n % 480 == 0 {
            // Every 10 ms: what changes slowly.
            if n % 4800 == 0 {
                aim = rng.range(-1.0, 1.0);
            }
            flutter += (aim - flutter) * 0.12;
            sway = 1.0 + 0.18 * (t * 0.7 + phase).sin() + 0.1 * (t * 0.23).sin();
            (cheer, hum) = (0.0, 0.0);
            for moment in &script.moments {
                let level = gain(script.ambience_db + moment.louder_db);
                match moment.kind {
                    Kind::Full => cheer += level * swell(t, moment.start_s, moment.end_s, 0.7, 1.5),
                    Kind::Decoy => hum += level * swell(t, moment.start_s, moment.end_s, 1.5, 1.5),
                    Kind::Visual => {}
                }
            }
            while blows.get(first).is_some_and(|b| b.at + 1.2 < t) {
                first += 1;
            }
        }
        let noise = rng.unit() * 2.0 - 1.0;
        let mut sample = murmur.pass(noise, 180.0, 900.0) * 7.0 * ambience * sway;
        if cheer > 0.0 {
            let other = rng.unit() * 2.0 - 1.0;
            sample += roar.pass(other, 300.0, 2600.0) * 3.6 * cheer * (1.0 + 0.6 * flutter);
        }
        if hum > 0.0 {
            let tone = |k: f64| (t * hum_hz * k * TAU).sin() / k;
            sample += hum * 0.8 * (tone(1.0) + tone(2.0) + tone(4.0) + tone(7.0));
        }
        for blow in blows[first..].iter().take_while(|b| b.at <= t) {
            let since = t - blow.at;
            if since < blow.length {
                let fade = (since / 0.004).min(1.0) * (1.0 - since / blow.length);
                let trill = 1.0 + 0.02 * (since * 40.0 * TAU).sin();
                let tone = if blow.noise {
                    clap.pass(noise, 600.0, 5000.0) * 2.0
                } else {
                    (since * blow.hz * trill * TAU).sin()
                };
                sample += blow.strength * fade * tone;
            }
        }
        let level = (sample.tanh() * 32767.0) as i16;
        out.write_all(&level.to_le_bytes())?;
    }
    out.flush()
}

fn header(out: &mut impl Write, samples: u32) -> std::io::Result<()> {
    let bytes = samples * 2;
    out.write_all(b"RIFF")?;
    out.write_all(&(36 + bytes).to_le_bytes())?;
    out.write_all(b"WAVEfmt ")?;
    out.write_all(&16u32.to_le_bytes())?;
    out.write_all(&[1, 0, 1, 0])?;
    out.write_all(&RATE.to_le_bytes())?;
    out.write_all(&(RATE * 2).to_le_bytes())?;
    out.write_all(&[2, 0, 16, 0])?;
    out.write_all(b"data")?;
    out.write_all(&bytes.to_le_bytes())
}
