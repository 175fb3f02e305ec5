//! From values to scores: watermarks, idle modalities, normalisation, and weighted windows over
//! ticks.
//!
//! A tick is a bucket. It becomes *fast* known when every modality of the media that is not idle has
//! passed it, and *fully* known once chat about it has had time to arrive.

use crest_core::signal::{Modality, Signal};
use crest_core::{Bucket, MediaTime};
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::dimensions::{DimensionSet, Values, media_only};
use crate::lag::{LagEstimator, MAX_LAG};
use crate::memory::Memory;
use crate::packed;
use crate::raw::Raw;

/// A modality this far behind the foremost one is idle and holds nobody up: 4 s.
const IDLE_AFTER: i64 = 4_000_000_000;
/// Chat is there this many ticks after the media it was written beside: 1 s on its way.
const CHAT_ALLOWANCE: u64 = 2;
/// Chat that has been silent this long is idle: 2 min.
const CHAT_IDLE: u64 = 240;
/// Ticks over which chat is counted: 5 s.
const CHAT_WINDOW: u64 = 10;
/// A keyframe difference stands until the next keyframe, at most this long: 4 s.
const CHANGE_HOLD: u64 = 8;
/// Values further ahead of the last tick than this are a broken timestamp: 24 h. (Chat of a recording
/// may be posted whole before the recording is played.)
const MAX_AHEAD: u64 = 172_800;
/// A timeline that leaps further than this is not walked through tick by tick: 1 h.
const MAX_LEAP: u64 = 7200;
/// Values this far behind the present tick come too late to say anything.
const LATEST: u64 = 80;
/// The full score waits for chat no further behind the present tick than this.
const LONGEST_WAIT: u64 = LATEST - MAX_LAG as u64 - REACH;
/// Ticks that are remembered behind the present one: those whose score is still to be known.
const MEMORY: u64 = LONGEST_WAIT + REACH;
/// Ticks whose raw values are still looked at.
const RAW_MEMORY: u64 = CHAT_ALLOWANCE + CHAT_WINDOW;
/// Weights of the trailing window of the fast score, newest first.
const FAST_WINDOW: [f64; 4] = [0.4, 0.3, 0.2, 0.1];
/// Weights of the centred window of the full score.
const FULL_WINDOW: [f64; 5] = [1.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0];
/// Ticks the centred window reaches to each side.
const REACH: u64 = FULL_WINDOW.len() as u64 / 2;

/// The past of each signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baselines(Vec<Baseline>);

impl Default for Baselines {
    fn default() -> Self {
        // Range, smallest deviation that counts, deviations that read 1/2, half-life in ticks. Counts are compared as square
        // roots, which makes the spread of a Poisson count 1/2 whatever its mean.
        let of = |signal: Signal| match signal {
            Signal::AudioLoudness => Baseline::new(-70.0, 0.0, 1.5, 3.0, 1200.0),
            Signal::AudioOnset => Baseline::new(0.0, 1.0, 0.02, 3.0, 1200.0),
            Signal::VideoActivity => Baseline::new(0.0, 32.0, 0.35, 3.0, 1200.0),
            Signal::VideoChange => Baseline::new(0.0, 16.0, 0.5, 3.0, 1200.0),
            Signal::ChatRate | Signal::ChatUnique => Baseline::new(0.0, 64.0, 0.5, 8.0, 7200.0),
        };
        Self(Signal::CATALOGUE.iter().map(|i| of(i.signal)).collect())
    }
}

/// The values of one session and what is known of their progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    baselines: Baselines,
    has_media: bool,
    #[serde(with = "packed")]
    raw: Raw,
    #[serde(with = "packed")]
    normal: Memory,
    /// The last bucket with a value by which the session's length is told.
    newest: Option<Bucket>,
    audio_to: Option<MediaTime>,
    video_to: Option<MediaTime>,
    chat_newest: Option<Bucket>,
    chat_seen: Option<Bucket>,
    lag: LagEstimator,
    /// The next tick to become fast known.
    fast_next: Bucket,
    /// The next tick to become fully known.
    full_next: Bucket,
}

impl Window {
    /// A session's, with the stream's past so far. Without media, chat is the clock.
    pub fn new(baselines: Baselines, has_media: bool) -> Self {
        Self {
            baselines,
            has_media,
            raw: Raw::default(),
            normal: Memory::default(),
            newest: None,
            audio_to: None,
            video_to: None,
            chat_newest: None,
            chat_seen: None,
            lag: LagEstimator::default(),
            fast_next: Bucket::new(0),
            full_next: Bucket::new(0),
        }
    }

    /// The stream's past with this session in it.
    pub fn into_baselines(self) -> Baselines {
        self.baselines
    }

    /// The lag of chat that is assumed now, in ticks.
    pub fn lag(&self) -> u64 {
        self.lag.estimate()
    }

    /// After a restart: brings back what follows from the state.
    pub(crate) fn restored(&mut self, set: &DimensionSet) {
        self.normal.weigh_all(set);
    }

    /// Upserts a value. What chat counts in a bucket only rises: a smaller count is one that was appended
    /// again.
    pub fn value(&mut self, bucket: Bucket, signal: Signal, value: f64) {
        if bucket.index() > self.fast_next.index() + MAX_AHEAD || bucket < self.fast_next.back(LATEST) {
            return;
        }
        let is_chat = signal.modality() == Modality::Chat;
        if bucket >= self.fast_next.back(RAW_MEMORY) {
            let kept = self.raw.0[signal as usize].entry(bucket).or_insert(value);
            *kept = if is_chat { kept.max(value) } else { value };
        }
        if is_chat {
            self.chat_newest = self.chat_newest.max(Some(bucket));
        }
        if !is_chat || !self.has_media {
            self.newest = self.newest.max(Some(bucket));
        }
    }

    /// Nothing of that modality follows before `to`.
    pub fn watermark(&mut self, modality: Modality, to: MediaTime) {
        match modality {
            Modality::Audio => self.audio_to = self.audio_to.max(Some(to)),
            Modality::Video => self.video_to = self.video_to.max(Some(to)),
            Modality::Chat => {}
        }
    }

    /// The first tick that is not fast known. Modalities that are idle do not hold it up. Chat is the
    /// clock only of a session without media: it may be posted long before the media it is about.
    fn known_to(&self) -> Bucket {
        if !self.has_media {
            return self.chat_newest.map_or(Bucket::new(0), |newest| newest.back(CHAT_ALLOWANCE));
        }
        let media = [self.audio_to, self.video_to];
        let Some(foremost) = media.iter().flatten().max() else { return Bucket::new(0) };
        let active = media.iter().flatten().filter(|to| to.nanos() >= foremost.nanos() - IDLE_AFTER);
        active.min().map_or(Bucket::new(0), |to| to.bucket())
    }

    /// The last bucket with a value of the media, or of chat where there are none.
    pub fn newest(&self) -> Bucket {
        self.newest.filter(|newest| *newest >= self.fast_next.back(LATEST)).unwrap_or_default()
    }

    /// The first tick that is not fast known yet.
    pub fn fast_known(&self) -> Bucket {
        self.fast_next
    }

    /// The next tick that is fast known, with its score from the media alone (`None` where there are
    /// none).
    ///
    /// With `end`, the session's last bucket, nothing is waited for; ticks after it are walked through
    /// for the chat about what was before it.
    pub fn next_fast(&mut self, set: &DimensionSet, end: Option<Bucket>) -> Option<(Bucket, Option<f64>)> {
        let to = end.map_or_else(|| self.known_to(), |end| end.forward(1 + MAX_LAG as u64));
        self.fast_next = self.fast_next.max(to.back(MAX_LEAP));
        if self.fast_next >= to {
            return None;
        }
        let tick = self.fast_next;
        self.fast_next = tick.next();
        self.normal.reach(tick, MEMORY);
        self.normalise_media(tick);
        self.normal.weigh_media(set, tick);
        if tick.index() >= CHAT_ALLOWANCE {
            self.normalise_chat(set, tick.back(CHAT_ALLOWANCE));
        }
        self.raw.forget(self.fast_next.back(RAW_MEMORY));
        Some((tick, self.fast_score(set, tick)))
    }

    /// The next tick that is fully known, with its score. With `end`, the session's last bucket,
    /// nothing is waited for and nothing after it is scored.
    pub fn next_full(&mut self, set: &DimensionSet, end: Option<Bucket>) -> Option<(Bucket, f64)> {
        let wait = match (end, self.chat_active(self.fast_next)) {
            (Some(_), _) => 0,
            (None, true) => REACH + CHAT_ALLOWANCE + self.lag.estimate(),
            (None, false) => REACH,
        };
        let tick = self.full_next.max(self.fast_next.back(LONGEST_WAIT));
        if tick.forward(wait) >= self.fast_next || end.is_some_and(|end| tick > end) {
            return None;
        }
        self.full_next = tick.next();
        let mut score = 0.0;
        for (offset, weight) in FULL_WINDOW.iter().enumerate() {
            let Some(at) = tick.forward(offset as u64).index().checked_sub(REACH) else { continue };
            let at = Bucket::new(at);
            let all = set.mean(&self.aligned(at));
            score += weight * all.map_or(0.0, |all| set.weigh(all, self.normal.media(at)));
        }
        Some((tick, score))
    }

    /// The values that belong to a tick, chat shifted back by its lag.
    pub fn aligned(&self, tick: Bucket) -> Values {
        let mut values = self.normal.values(tick);
        let later = self.normal.values(tick.forward(self.lag.estimate()));
        for signal in [Signal::ChatRate, Signal::ChatUnique] {
            values[signal as usize] = later[signal as usize];
        }
        values
    }

    /// The values of a tick that are known at once: those of the media.
    pub fn media(&self, tick: Bucket) -> Values {
        media_only(&self.normal.values(tick))
    }

    fn fast_score(&self, set: &DimensionSet, tick: Bucket) -> Option<f64> {
        set.mean(&self.media(tick))?;
        let score = FAST_WINDOW.iter().enumerate().filter_map(|(age, weight)| {
            let media = self.normal.media(Bucket::new(tick.index().checked_sub(age as u64)?));
            Some(weight * set.weigh(media, media))
        });
        Some(score.sum())
    }

    fn normalise_media(&mut self, tick: Bucket) {
        for signal in [Signal::AudioLoudness, Signal::AudioOnset, Signal::VideoActivity] {
            if let Some(value) = self.raw.0[signal as usize].get(&tick).copied() {
                self.normalise(tick, signal, value);
            }
        }
        let changes = &self.raw.0[Signal::VideoChange as usize];
        let held = changes.range(tick.back(CHANGE_HOLD)..=tick).next_back().map(|(at, value)| (*at, *value));
        if let Some((_, value)) = held {
            self.normalise(tick, Signal::VideoChange, value.max(0.0).sqrt());
        }
    }

    fn normalise_chat(&mut self, set: &DimensionSet, tick: Bucket) {
        let rates = &self.raw.0[Signal::ChatRate as usize];
        if rates.contains_key(&tick) {
            self.chat_seen = Some(tick);
        }
        if !self.chat_active(tick) {
            return;
        }
        let from = tick.back(CHAT_WINDOW - 1);
        let seconds_per_tick = crest_core::BUCKET_NANOS as f64 / 1e9;
        let count: f64 = rates.range(from..=tick).map(|(_, rate)| rate * seconds_per_tick).sum();
        let users = self.raw.0[Signal::ChatUnique as usize].range(from..=tick).map(|(_, u)| *u).fold(0.0, f64::max);
        self.normalise(tick, Signal::ChatRate, count.max(0.0).sqrt());
        self.normalise(tick, Signal::ChatUnique, users.sqrt());
        let chat = self.normal.values(tick)[Signal::ChatRate as usize].unwrap_or(0.0);
        let (normal, lag) = (&self.normal, &mut self.lag);
        let media = (0..=MAX_LAG as u64).map(|age| normal.media(tick.back(age)));
        lag.add(chat, media.map(|media| set.weigh(media, media)));
    }

    fn normalise(&mut self, tick: Bucket, signal: Signal, value: f64) {
        let baseline = &mut self.baselines.0[signal as usize];
        let normal = baseline.normalise(value);
        if let Some(values) = self.normal.values_mut(tick) {
            values[signal as usize] = Some(normal);
        }
        baseline.add(value);
    }

    fn chat_active(&self, tick: Bucket) -> bool {
        self.chat_seen.is_some_and(|seen| seen.forward(CHAT_IDLE) >= tick)
    }
}
