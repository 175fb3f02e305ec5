//! An event as a line for people: when, what happened, to what, where to look.

use jiff::{Timestamp, Zoned};
use serde_json::Value;

/// The line for the body of a webhook. Times are local; `now` says which zone, and whether the day
/// need be named.
pub(super) fn line(event: &Value, now: &Zoned) -> String {
    let data = &event["data"];
    let text = |name: &str| data[name].as_str().filter(|text| !text.is_empty());
    let mut parts = vec![
        time(event["timestamp"].as_str().unwrap_or_default(), now),
        format!("{:<19}", event["type"].as_str().unwrap_or("?")),
    ];
    if let (Some(start), Some(end)) = (data["start_s"].as_f64(), data["end_s"].as_f64()) {
        parts.push(format!("{} {}-{}", text("type").unwrap_or("highlight"), clock(start), clock(end)));
    } else if let Some(stream) = text("stream_id") {
        parts.push(stream.to_owned());
        if let Some(session) = data["session"].as_u64() {
            parts.push(format!("session {session}"));
        }
    }
    if let Some(score) = data["score"].as_f64() {
        parts.push(format!("score {score:.2}"));
    }
    parts.extend(text("reason").map(|reason| format!("({reason})")));
    parts.extend(text("clip_url").or(text("url")).map(str::to_owned));
    // Nothing that an event carries may steer the terminal.
    parts.join("  ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn time(timestamp: &str, now: &Zoned) -> String {
    let Ok(at) = timestamp.parse::<Timestamp>() else { return timestamp.to_owned() };
    let at = at.to_zoned(now.time_zone().clone());
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

/// Media seconds as `12:34` or `1:02:03`.
fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Zoned {
        "2026-11-21T20:00:00+01:00[Europe/Vienna]".parse().unwrap()
    }

    #[test]
    fn a_highlight_says_when_what_how_good_and_where() {
        let data = json!({"id": "hl_1", "type": "goal", "start_s": 734.2, "end_s": 3723.0, "score": 0.816,
            "url": "http://c/v1/highlights/hl_1", "clip_url": "http://c/v1/highlights/hl_1/clip", "reason": null});
        let event = json!({"type": "highlight.ready", "timestamp": "2026-11-21T18:12:05.123Z", "data": data});
        assert_eq!(
            line(&event, &now()),
            "19:12:05  highlight.ready      goal 12:14-1:02:03  score 0.82  http://c/v1/highlights/hl_1/clip"
        );
    }

    #[test]
    fn a_stream_says_what_became_of_it_and_nothing_steers_the_terminal() {
        let data = json!({"stream_id": "str_1", "session": 2, "reason": "\u{1b}[31mgone\n", "url": "http://c/x"});
        let event = json!({"type": "stream.interrupted", "timestamp": "2026-11-19T23:59:59Z", "data": data});
        let line = line(&event, &now());
        assert!(line.starts_with("2026-11-20 00:59:59  stream.interrupted   str_1  session 2  ("), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn what_it_does_not_know_it_still_shows() {
        assert!(line(&json!({"type": "later.type", "data": 5}), &now()).contains("later.type"));
        line(&json!([]), &now());
    }
}
