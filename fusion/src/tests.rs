//! Fusion as a whole: synthetic logs in, decisions out.

use super::*;
use crest_core::highlight::HighlightState;
use crest_core::signal::{Modality, Signal};
use crest_core::{Bucket, MediaTime, WallTime};
use proptest::prelude::*;

/// What a synthetic broadcast does in one bucket.
#[derive(Clone, Copy, Default)]
struct Moment {
    loud: bool,
    lively: bool,
    picture: bool,
    chat: bool,
}

struct Broadcast {
    seconds: u64,
    audio: bool,
    video: bool,
    chat: bool,
    moments: Vec<(u64, u64, Moment)>,
}

const ALL: Moment = Moment { loud: true, lively: true, picture: true, chat: true };
const LAG: u64 = 10;

impl Broadcast {
    fn log(&self) -> Vec<SignalBatch> {
        let batch = |entries| SignalBatch {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            entries,
        };
        let mut log =
            vec![batch(vec![SignalEntry::SessionStart { wall: WallTime(0), media: self.audio || self.video }])];
        let at = |t: u64| {
            let hit = |m: &&(u64, u64, Moment)| t >= m.0 * 2 && t < m.1 * 2;
            self.moments.iter().find(hit).map_or(Moment::default(), |m| m.2)
        };
        for t in 0..self.seconds * 2 {
            let (bucket, noise) = (Bucket::new(t), ((t * 7919) % 13) as f64 / 13.0);
            let value = |signal, value| SignalEntry::Value { bucket, signal, value };
            let pick = |yes: bool, high: f64, low: f64| if yes { high } else { low };
            if self.audio {
                let now = at(t);
                log.push(batch(vec![
                    value(Signal::AudioLoudness, pick(now.loud, -12.0, -32.0) + noise * 2.0),
                    value(Signal::AudioOnset, pick(now.lively, 0.3, 0.05) + noise * 0.02),
                    SignalEntry::Watermark { modality: Modality::Audio, to: bucket.end() },
                ]));
            }
            if self.video {
                let moving = at(t).picture;
                let mut entries = vec![value(Signal::VideoActivity, pick(moving, 20.0, 16.0) + noise * 0.5)];
                if t % 4 == 0 || moving {
                    entries.push(value(Signal::VideoChange, pick(moving, 60.0, 4.0) + noise));
                }
                entries.push(SignalEntry::Watermark { modality: Modality::Video, to: bucket.end() });
                log.push(batch(entries));
            }
            if self.chat {
                let excited = at(t.saturating_sub(LAG)).chat;
                let rate = pick(excited, 20.0, 2.0);
                if excited || t % 2 == 0 {
                    log.push(batch(vec![value(Signal::ChatRate, rate), value(Signal::ChatUnique, rate)]));
                }
            }
        }
        log.push(batch(vec![SignalEntry::SessionEnd { at: MediaTime::from_millis(self.seconds as i64 * 1000) }]));
        log
    }
}

fn fresh() -> StreamFusion {
    StreamFusion::new(OrganizationId::from_raw("org_a"), StreamId::from_raw("str_a"), DimensionSet::default())
}

fn decide(log: &[SignalBatch]) -> Vec<Decision> {
    let mut fusion = fresh();
    log.iter().flat_map(|b| fusion.apply(b).decisions).collect()
}

fn finals(decisions: &[Decision]) -> Vec<(f64, f64)> {
    let span = |d: &Decision| match d {
        Decision::Finalized { highlight } => Some((highlight.start.secs_f64(), highlight.end.secs_f64())),
        _ => None,
    };
    decisions.iter().filter_map(span).collect()
}

fn covers(spans: &[(f64, f64)], planned: &[(u64, u64)]) -> bool {
    let overlap = |s: &(f64, f64), p: &(u64, u64)| s.0 < p.1 as f64 && p.0 as f64 <= s.1;
    spans.len() == planned.len() && spans.iter().zip(planned).all(|(s, p)| overlap(s, p))
}

fn game(audio: bool, video: bool, chat: bool) -> Broadcast {
    let moments = vec![(60, 68, ALL), (100, 106, ALL), (150, 160, ALL)];
    Broadcast { seconds: 200, audio, video, chat, moments }
}

#[test]
fn finds_the_moments_with_any_modalities_that_are_there() {
    for (audio, video, chat) in [
        (true, true, true),
        (true, true, false),
        (false, true, false),
        (true, false, true),
        (false, false, true),
        (true, false, false),
    ] {
        let decisions = decide(&game(audio, video, chat).log());
        let found = finals(&decisions);
        assert!(
            covers(&found, &[(60, 68), (100, 106), (150, 160)]),
            "audio {audio} video {video} chat {chat}: {found:?}"
        );
    }
}

#[test]
fn what_is_only_loud_is_not_a_highlight_and_what_is_only_seen_is() {
    let only = |loud, picture| Moment { loud, lively: false, picture, chat: false };
    for chat in [true, false] {
        let mut broadcast = game(true, true, chat);
        broadcast.moments = vec![(60, 68, ALL), (100, 110, only(true, false)), (140, 148, only(false, true))];
        let found = finals(&decide(&broadcast.log()));
        assert!(covers(&found, &[(60, 68), (140, 148)]), "chat {chat}: {found:?}");
    }
}

#[test]
fn detected_comes_first_and_ends_once_in_effect() {
    let decisions = decide(&game(true, true, true).log());
    let mut state = std::collections::BTreeMap::new();
    for decision in &decisions {
        let highlight = decision.highlight();
        match state.insert(highlight.id.clone(), highlight.state) {
            None => assert_eq!(highlight.state, HighlightState::Provisional),
            Some(before) => assert!(before.can_become(highlight.state), "{before:?} -> {:?}", highlight.state),
        }
    }
    assert!(state.values().all(|s| matches!(s, HighlightState::Final | HighlightState::Deleted)));
}

#[test]
fn a_provisional_is_raised_before_chat_has_spoken() {
    let log = game(true, true, true).log();
    let mut fusion = fresh();
    for batch in &log {
        for decision in fusion.apply(batch).decisions {
            let reached = batch.entries.iter().find_map(|e| match e {
                SignalEntry::Watermark { to, .. } => Some(to.secs_f64()),
                _ => None,
            });
            if let (Decision::Detected { .. }, Some(reached)) = (&decision, reached) {
                assert!(reached < 60.0 + LAG as f64 / 2.0, "first detected at {reached} s");
                return;
            }
        }
    }
    panic!("nothing detected");
}

#[test]
fn a_modality_that_falls_silent_holds_nobody_up() {
    let mut log = game(true, true, false).log();
    for batch in &mut log {
        let late = |e: &SignalEntry| match e {
            SignalEntry::Value { bucket, signal, .. } => bucket.index() > 80 && signal.modality() == Modality::Audio,
            SignalEntry::Watermark { modality, to } => *modality == Modality::Audio && to.secs_f64() > 40.0,
            _ => false,
        };
        batch.entries.retain(|e| !late(e));
    }
    assert!(covers(&finals(&decide(&log)), &[(60, 68), (100, 106), (150, 160)]));
}

#[test]
fn a_mark_is_a_highlight_unless_one_covers_it() {
    let mut log = game(true, true, true).log();
    let mark = |s: i64| SignalEntry::Mark { at: MediaTime::from_millis(s * 1000) };
    log[3].entries.extend([mark(30), mark(63)]);
    let kinds: Vec<_> = decide(&log)
        .into_iter()
        .filter_map(|d| if let Decision::Finalized { highlight } = d { Some(highlight.kind) } else { None })
        .collect();
    assert_eq!(kinds.iter().filter(|k| *k == "marker").count(), 1);
    assert_eq!(kinds.len(), 4);
}

#[test]
fn a_timestamp_far_ahead_costs_little() {
    let mut log = game(true, true, true).log();
    let far = MediaTime::from_nanos(i64::MAX);
    log[5].entries.push(SignalEntry::Value { bucket: far.bucket(), signal: Signal::ChatRate, value: 9.0 });
    log.push(SignalBatch {
        entries: vec![SignalEntry::Watermark { modality: Modality::Video, to: far }],
        ..log[0].clone()
    });
    assert_eq!(finals(&decide(&log)).len(), 3);
}

#[test]
fn chat_posted_long_before_its_media_does_not_move_the_clock() {
    let mut log = game(true, true, false).log();
    let ahead = SignalEntry::Value { bucket: Bucket::new(79_200), signal: Signal::ChatRate, value: 2.0 };
    log[0].entries.push(ahead);
    assert!(covers(&finals(&decide(&log)), &[(60, 68), (100, 106), (150, 160)]));
}

#[test]
fn a_mark_after_the_end_marks_the_end() {
    let mut log = game(true, true, true).log();
    log[3].entries.push(SignalEntry::Mark { at: MediaTime::from_millis(3_000_000) });
    let found = finals(&decide(&log));
    assert!(covers(&found, &[(60, 68), (100, 106), (150, 160), (190, 200)]), "{found:?}");
}

#[test]
fn what_arrives_before_the_start_of_its_session_counts() {
    let log = game(true, true, true).log();
    let mark = SignalEntry::Mark { at: MediaTime::from_millis(30_000) };
    let early = SignalBatch { entries: vec![mark], ..log[0].clone() };
    let marked: Vec<SignalBatch> = std::iter::once(early.clone()).chain(log.iter().cloned()).collect();
    assert_eq!(finals(&decide(&marked)).len(), 4);
    // A mark counts after the end of its session too, a value does not.
    let late: Vec<SignalBatch> = log.iter().cloned().chain([early]).collect();
    assert_eq!(finals(&decide(&late)).len(), 4);
    let value = SignalEntry::Value { bucket: Bucket::new(60), signal: Signal::AudioLoudness, value: 0.0 };
    let late: Vec<SignalBatch> =
        log.iter().cloned().chain([SignalBatch { entries: vec![value], ..log[0].clone() }]).collect();
    assert_eq!(finals(&decide(&late)).len(), 3);
}

#[test]
fn a_mark_counts_although_its_publisher_came_back_several_times_since() {
    let session = |number, entries| SignalBatch {
        session: Session::new(number),
        entries,
        ..game(true, true, true).log()[0].clone()
    };
    let start = || SignalEntry::SessionStart { wall: WallTime(0), media: true };
    let mut log = game(true, true, true).log();
    log.extend((2..=9).map(|number| session(number, vec![start()])));
    let mark = vec![SignalEntry::Mark { at: MediaTime::from_millis(30_000) }];
    let of_first = |log: &[SignalBatch]| {
        let decisions = decide(log);
        let first = |d: &&Decision| d.highlight().session == Session::new(1) && matches!(d, Decision::Finalized { .. });
        decisions.iter().filter(first).count()
    };
    let marked = |log: &[SignalBatch]| log.iter().cloned().chain([session(1, mark.clone())]).collect::<Vec<_>>();
    assert_eq!(of_first(&marked(&log)), 4);
    // So many are remembered, and no more.
    log.push(session(10, vec![start()]));
    assert_eq!(of_first(&marked(&log)), 3);
}

#[test]
fn the_next_session_ends_the_one_before_and_keeps_its_past() {
    let mut log = game(true, true, true).log();
    log.pop();
    let second: Vec<_> = log.iter().cloned().map(|b| SignalBatch { session: Session::new(2), ..b }).collect();
    let late = log[10].clone();
    log.extend(second);
    log.push(late);
    let decisions = decide(&log);
    assert!(decisions.iter().any(|d| d.highlight().session == Session::new(2)));
    let of_first = |d: &&Decision| d.highlight().session == Session::new(1) && matches!(d, Decision::Finalized { .. });
    assert_eq!(decisions.iter().filter(of_first).count(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whole, or stopped and restored anywhere: the same decisions, byte for byte.
    #[test]
    fn whole_equals_restored(cuts in prop::collection::vec(0usize..900, 0..6)) {
        let log = game(true, true, true).log();
        let whole = serde_json::to_string(&decide(&log)).unwrap();
        let mut fusion = fresh();
        let mut decisions = Vec::new();
        for (index, batch) in log.iter().enumerate() {
            if cuts.contains(&index) {
                fusion = StreamFusion::restore(&fusion.snapshot().unwrap()).unwrap();
            }
            decisions.extend(fusion.apply(batch).decisions);
        }
        prop_assert_eq!(whole, serde_json::to_string(&decisions).unwrap());
    }
}
