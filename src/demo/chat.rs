//! The audience: what viewers write and when, and its posting in real time.

use anyhow::Context;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::api::Api;
use super::rng::Rng;
use super::script::Script;

/// How often what has been written is posted.
const EVERY: Duration = Duration::from_millis(200);
/// Messages the stream has not taken after this long are given up.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Time in which a reaction falls to a third.
const DECAY_S: f64 = 3.0;
/// Time in which a reaction rises.
const RISE_S: f64 = 0.6;
/// A step of the drawing of messages.
const STEP_S: f64 = 0.1;

const SMALL_TALK: [&str; 12] = [
    "hello from the south stand",
    "nice pass",
    "who is number 7?",
    "press higher!",
    "slow start tbh",
    "anyone else watching at work",
    "good tempo",
    "ref is fine so far",
    "tactics board time",
    "come on",
    "midfield looks tired",
    "first time here, hi",
];

const CHEERS: [&str; 12] = [
    "GOOOOAL",
    "WHAT WAS THAT",
    "no way!!!",
    "POG",
    "clip it",
    "LETS GOOO",
    "unreal",
    "did you SEE that",
    "omg omg omg",
    "!!!!!",
    "top corner!!",
    "the crowd is insane",
];

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it is written, in seconds of the broadcast.
    pub at_s: f64,
    /// By whom.
    pub user: String,
    /// What.
    pub text: &'static str,
}

/// Everything that is written, in order.
pub fn lines(script: &Script) -> Vec<Line> {
    let mut rng = Rng::new(script.seed, 2);
    let mut lines = Vec::new();
    for step in 0..(script.duration_s / STEP_S) as u64 {
        let from = step as f64 * STEP_S;
        let reaction: f64 = script
            .moments
            .iter()
            .map(|m| {
                let since = from - m.start_s - m.lag_s;
                if since < 0.0 { 0.0 } else { m.chat_peak * (since / RISE_S).min(1.0) * (-since / DECAY_S).exp() }
            })
            .sum();
        for (rate, texts) in [(script.chat_base, &SMALL_TALK), (reaction, &CHEERS)] {
            for _ in 0..poisson(&mut rng, rate * STEP_S) {
                lines.push(Line {
                    at_s: from + rng.unit() * STEP_S,
                    user: format!("viewer{}", rng.between(1, script.viewers)),
                    text: texts[rng.index(texts.len())],
                });
            }
        }
    }
    lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    lines
}

fn poisson(rng: &mut Rng, mean: f64) -> u32 {
    let (limit, mut product, mut count) = ((-mean).exp(), rng.unit(), 0);
    while product > limit && count < 1000 {
        product *= rng.unit();
        count += 1;
    }
    count
}

/// Keeps the chat beside the broadcast, as `crest process --chat` reads it.
pub fn write(lines: &[Line], path: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(
            text,
            "{}",
            json!({"t": (line.at_s * 1000.0).round() / 1000.0, "user": line.user, "text": line.text})
        );
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Posts the lines as their time comes; `zero` is the instant at which the broadcast began. Returns
/// how many the stream did not take.
pub async fn post(api: Api, stream: String, lines: Vec<Line>, zero: Instant) -> anyhow::Result<usize> {
    let wall_zero = SystemTime::now().checked_sub(zero.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut next, mut waiting_since, mut lost) = (0, None::<Instant>, 0);
    while next < lines.len() {
        tokio::time::sleep(EVERY).await;
        let now = zero.elapsed().as_secs_f64();
        let due = lines[next..].iter().take_while(|l| l.at_s <= now).take(500).count();
        if due == 0 {
            continue;
        }
        let messages: Vec<_> = lines[next..next + due]
            .iter()
            .map(
                |l| json!({"at": rfc3339(wall_zero + Duration::from_secs_f64(l.at_s)), "user": l.user, "text": l.text}),
            )
            .collect();
        match api.post(&format!("/v1/streams/{stream}/chat"), &json!({"messages": messages})).await {
            Ok(_) => (next, waiting_since) = (next + due, None),
            Err(e) => {
                let since = *waiting_since.get_or_insert_with(Instant::now);
                if e.is_final() && since.elapsed() > GIVE_UP {
                    return Err(anyhow::Error::new(e).context("the stream takes no chat"));
                }
                if since.elapsed() > GIVE_UP {
                    (next, waiting_since, lost) = (next + due, None, lost + due);
                }
            }
        }
    }
    Ok(lost)
}

fn rfc3339(at: SystemTime) -> String {
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    crest_core::WallTime(i64::try_from(millis).unwrap_or(i64::MAX)).rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::script::Kind;

    #[test]
    fn chat_reacts_late_to_what_is_worth_it_and_to_nothing_else() {
        for seed in 0..50 {
            let script = Script::of(seed);
            let lines = lines(&script);
            let within = |from: f64, to: f64| {
                lines.iter().filter(|l| l.at_s >= from && l.at_s < to && CHEERS.contains(&l.text)).count()
            };
            for moment in &script.moments {
                let reaction = moment.start_s + moment.lag_s;
                match moment.kind {
                    Kind::Full => assert!(within(reaction, reaction + 5.0) > 10, "seed {seed}"),
                    Kind::Visual | Kind::Decoy => assert_eq!(moment.chat_peak, 0.0),
                }
            }
            assert_eq!(within(0.0, script.moments[0].start_s), 0, "seed {seed}");
        }
    }
}
