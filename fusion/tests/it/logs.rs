//! Signals logs from seeds: such as the analyzers append them, and such as nobody would.

use crest_core::signal::{Modality, Signal, SignalBatch, SignalEntry};
use crest_core::{Bucket, MediaTime, OrganizationId, Session, WallTime};
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Around `mean`, three times `spread` to each side at most.
    fn around(&mut self, mean: f64, spread: f64) -> f64 {
        mean + (self.unit() + self.unit() + self.unit() - 1.5) * 2.0 * spread
    }
}

/// Who appended a record: each of them appends its own in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// Ingest: starts and ends.
    Lifecycle,
    /// Analyzers of pictures.
    Video,
    /// Analyzers of sound.
    Audio,
    /// Analyzers of chat.
    Chat,
    /// Marks.
    Marks,
}

/// A record of the log and who appended it.
pub type Written = (Writer, SignalBatch);

/// What a session consists of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its length.
    pub seconds: u64,
    /// Whether there is sound.
    pub audio: bool,
    /// Whether there are pictures.
    pub video: bool,
    /// Messages a second while nothing happens; 0 for no chat.
    pub chat: f64,
    /// Whether people mark moments.
    pub marks: bool,
}

impl Shape {
    /// Everything there is.
    pub const WHOLE: Self = Self { seconds: 600, audio: true, video: true, chat: 2.0, marks: true };
}

/// A record of one session.
pub fn batch(session: u32, entries: Vec<SignalEntry>) -> SignalBatch {
    SignalBatch {
        organization_id: OrganizationId::from_raw("org_3f9c2ab07d51"),
        session: Session::new(session),
        entries,
    }
}

/// A session as a live feed leaves it in the log: a record per bucket of pictures (the watermark is the
/// next picture's time), one per bucket of sound, one per chat message with the counts so far.
pub fn live(seed: u64, session: u32, shape: Shape) -> Vec<Written> {
    let mut rng = Rng::new(seed ^ u64::from(session) << 32);
    let start = SignalEntry::SessionStart { wall: WallTime(1_795_000_000_000), media: shape.audio || shape.video };
    let mut log = vec![(Writer::Lifecycle, batch(session, vec![start]))];
    let mut moment_from = 20 + rng.below(40);
    let mut moment_to = moment_from;
    let mut reaction = Vec::new();
    for tick in 0..shape.seconds * 2 {
        if tick >= moment_to + 40 && rng.once_in(60) {
            moment_from = tick;
            moment_to = tick + 4 + rng.below(30);
            reaction.push((moment_from + 11, moment_to + 17));
        }
        let moment = (moment_from..moment_to).contains(&tick);
        let excited = reaction.iter().any(|(from, to)| (*from..*to).contains(&tick));
        let bucket = Bucket::new(tick);
        if shape.video {
            log.push((Writer::Video, batch(session, video(&mut rng, bucket, moment))));
        }
        if shape.audio {
            log.push((Writer::Audio, batch(session, audio(&mut rng, bucket, moment))));
        }
        let messages = rng.around(shape.chat / 2.0 * if excited { 6.0 } else { 1.0 }, shape.chat / 4.0);
        for count in 1..=messages.round().max(0.0) as u64 {
            let value = |signal, value| SignalEntry::Value { bucket, signal, value };
            let users = (count + if excited { 30 } else { 4 }) as f64;
            let counts = vec![value(Signal::ChatRate, count as f64 * 2.0), value(Signal::ChatUnique, users)];
            log.push((Writer::Chat, batch(session, counts)));
        }
        if shape.marks && rng.once_in(200) {
            let at = bucket.start().saturating_sub(MediaTime::from_millis(rng.below(3000) as i64));
            log.push((Writer::Marks, batch(session, vec![SignalEntry::Mark { at }])));
        }
    }
    let at = MediaTime::from_millis(shape.seconds as i64 * 1000);
    log.push((Writer::Lifecycle, batch(session, vec![SignalEntry::SessionEnd { at }])));
    log
}

fn video(rng: &mut Rng, bucket: Bucket, moment: bool) -> Vec<SignalEntry> {
    let value = |signal, value| SignalEntry::Value { bucket, signal, value };
    let mut entries = vec![value(Signal::VideoActivity, rng.around(if moment { 19.5 } else { 17.0 }, 0.4).max(0.0))];
    if bucket.index().is_multiple_of(4) || (moment && rng.once_in(2)) {
        entries.push(value(Signal::VideoChange, rng.around(if moment { 55.0 } else { 6.0 }, 2.0).max(0.0)));
    }
    let to = bucket.end() + MediaTime::from_nanos(rng.below(33_000_000) as i64);
    entries.push(SignalEntry::Watermark { modality: Modality::Video, to });
    entries
}

fn audio(rng: &mut Rng, bucket: Bucket, moment: bool) -> Vec<SignalEntry> {
    let value = |signal, value| SignalEntry::Value { bucket, signal, value };
    vec![
        value(Signal::AudioLoudness, rng.around(if moment { -12.0 } else { -28.0 }, 1.5)),
        value(Signal::AudioOnset, rng.around(if moment { 0.35 } else { 0.08 }, 0.02).max(0.0)),
        SignalEntry::Watermark { modality: Modality::Audio, to: bucket.end() },
    ]
}

/// Sessions of one stream that follow each other, of shapes that the seed chooses.
pub fn broadcast(seed: u64) -> Vec<Written> {
    let mut rng = Rng::new(seed);
    let mut log = Vec::new();
    for session in 1..=1 + rng.below(3) as u32 {
        let (audio, video) = (!rng.once_in(4), !rng.once_in(4));
        let chat = if rng.once_in(4) { 0.0 } else { 0.5 + rng.unit() * 6.0 };
        let shape = Shape { seconds: 60 + rng.below(400), audio, video, chat, marks: rng.once_in(2) };
        let mut records = live(rng.bits(), session, shape);
        if rng.once_in(3) {
            // It broke off.
            records.pop();
        }
        if rng.once_in(3) {
            // Its sound fell silent.
            let from = records.len() / 2;
            let mut index = 0;
            records.retain(|(writer, _)| {
                index += 1;
                index < from || *writer != Writer::Audio
            });
        }
        log.extend(records);
    }
    log
}

/// A log in which anything may stand: late and early entries, leaps, sessions that begin before the one
/// before ended. As always, what chat counts in a bucket only rises; no two marks fall into one bucket, and none
/// comes after the end of its session.
pub fn wild(seed: u64, records: u64) -> Vec<Written> {
    let mut rng = Rng::new(seed);
    let mut log = Vec::new();
    let (mut session, mut now, mut is_over) = (1u32, 0u64, false);
    let mut counts: BTreeMap<(u32, u64, Signal), f64> = BTreeMap::new();
    let mut marked: BTreeSet<(u32, u64)> = BTreeSet::new();
    for _ in 0..records {
        if rng.once_in(3) {
            now += 1;
        }
        if rng.once_in(150) {
            now += rng.below(40);
        }
        if rng.once_in(1500) {
            now += rng.below(20_000);
        }
        let mut entries = Vec::new();
        let of = if rng.once_in(60) { (session + rng.below(3) as u32).saturating_sub(1).max(1) } else { session };
        for _ in 0..1 + rng.below(4) {
            let tick = match rng.below(40) {
                0 => now + rng.below(200),
                1 => now.saturating_sub(rng.below(200)),
                _ => (now + rng.below(3)).saturating_sub(rng.below(12)),
            };
            let bucket = Bucket::new(tick);
            entries.push(match rng.below(16) {
                0..=7 => {
                    let signal = Signal::CATALOGUE[rng.below(6) as usize].signal;
                    let high = rng.once_in(4);
                    let value = match signal {
                        Signal::AudioLoudness => rng.around(if high { -10.0 } else { -30.0 }, 3.0),
                        Signal::AudioOnset => rng.around(if high { 0.5 } else { 0.1 }, 0.05),
                        Signal::VideoActivity => rng.around(if high { 21.0 } else { 16.0 }, 1.0),
                        Signal::VideoChange => rng.around(if high { 60.0 } else { 5.0 }, 4.0),
                        Signal::ChatRate | Signal::ChatUnique => {
                            let count = counts.entry((of, tick, signal)).or_default();
                            *count += (1 + rng.below(if high { 40 } else { 3 })) as f64;
                            *count
                        }
                    };
                    SignalEntry::Value { bucket, signal, value }
                }
                8..=13 => {
                    let modality = Modality::ALL[rng.below(3) as usize];
                    SignalEntry::Watermark { modality, to: bucket.start() }
                }
                14 if rng.once_in(6) && of == session && tick <= now && !is_over && marked.insert((of, tick)) => {
                    SignalEntry::Mark { at: bucket.start() }
                }
                _ => SignalEntry::Value { bucket, signal: Signal::VideoActivity, value: 17.0 + rng.unit() },
            });
        }
        if session == 1 && log.is_empty() || rng.once_in(900) {
            let media = !rng.once_in(4);
            if !log.is_empty() {
                (session, now, is_over) = (session + 1, 0, false);
            }
            let start = SignalEntry::SessionStart { wall: WallTime(rng.below(1 << 40) as i64), media };
            log.push((Writer::Lifecycle, batch(session, vec![start])));
        } else if rng.once_in(900) {
            let at = Bucket::new(now).start();
            log.push((Writer::Lifecycle, batch(session, vec![SignalEntry::SessionEnd { at }])));
            is_over = true;
        }
        log.push((Writer::Video, batch(of, entries)));
    }
    log
}
