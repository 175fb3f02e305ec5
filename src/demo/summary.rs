//! The words before and after: what is going to happen, and how it went.

use std::path::Path;

use super::card::{Card, Row, Spread};
use super::console::{Console, Tint, clock};
use super::script::{Kind, Script};

/// What a moment is called.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "moment",
        Kind::Visual => "moment, seen only",
        Kind::Decoy => "decoy",
    }
}

/// What became of a moment, in a word.
pub fn verdict(row: &Row) -> &'static str {
    match (row.moment.wanted(), row.found.is_some()) {
        (true, true) => "found",
        (true, false) => "missed",
        (false, true) => "fell for it",
        (false, false) => "left alone",
    }
}

/// Says what is going to happen.
pub fn heading(console: &Console, script: &Script) {
    let seconds = script.duration_s.round() as u64;
    let wanted = script.wanted().count();
    console.line(console.paint(Tint::Bold, &format!("crest demo, seed {}", script.seed)));
    console.line("");
    console.line(format!(
        "A football match that never happened is about to be broadcast to crest over RTMP, for {}:{:02},\n\
         while {} viewers chat about it. It holds {wanted} moments worth keeping (one of them can only be seen)\n\
         and a decoy (loud, but dull). crest is not told: it watches, listens and reads along. Each moment\n\
         should come back as a signed webhook seconds after it began, and soon after its end as a clip.",
        seconds / 60,
        seconds % 60,
        script.viewers,
    ));
    console.line("");
}

/// Prints how it went; `true` where the demo passed.
pub fn print(console: &Console, card: &Card, out: &Path) -> bool {
    console.line("");
    let head = format!(
        "{:<19} {:<19} {:<12} {:<19} {:>5} {:>12} {:>12}",
        "planned", "on air", "", "found at", "score", "detected", "ready"
    );
    console.line(console.paint(Tint::Bold, &head));
    for row in &card.rows {
        let planned = format!("{} - {}", clock(row.moment.start_s), clock(row.moment.end_s));
        let tint = if row.is_right() { Tint::Green } else { Tint::Red };
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1} s"));
        let (at, score) = row.found.as_ref().map_or((String::new(), String::new()), |f| {
            (format!("{} - {}", clock(f.start_s), clock(f.end_s)), format!("{:.2}", f.score))
        });
        console.line(format!(
            "{:<19} {planned:<19} {} {at:<19} {score:>5} {:>12} {:>12}",
            name(row.moment.kind),
            console.paint(tint, &format!("{:<12}", verdict(row))),
            seconds(row.detected_after()),
            seconds(row.ready_after()),
        ));
    }
    for wrong in &card.wrong {
        let at = format!("{} - {}", clock(wrong.start_s), clock(wrong.end_s));
        let tag = console.paint(Tint::Red, &format!("{:<12}", "false"));
        console.line(format!("{:<19} {:<19} {tag} {at:<19} {:>5.2}", "nothing", "", wrong.score));
    }
    console.line("");
    figures(console, card);
    console.line("");
    console.line(format!("clips      {}", out.join("clips").display()));
    console.line(format!("report     {}", out.join("report.html").display()));
    console.line(format!("broadcast  {}", out.join("broadcast.mp4").display()));
    console.line("");
    let failures = card.failures();
    for failure in &failures {
        console.line(console.paint(Tint::Red, &format!("failed: {failure}")));
    }
    if failures.is_empty() {
        console.line(console.paint(Tint::Green, "passed"));
    }
    failures.is_empty()
}

fn figures(console: &Console, card: &Card) {
    let wanted = card.rows.iter().filter(|r| r.moment.wanted());
    let right = wanted.clone().filter(|r| r.found.is_some()).count();
    console.line(format!(
        "precision  {:.2} ({right} of {} highlights are right)",
        card.precision,
        right + card.wrong.len()
    ));
    console.line(format!("recall     {:.2} ({right} of {} moments were found)", card.recall, wanted.count()));
    let latency = |spread: Option<Spread>| {
        spread.map_or("-".to_owned(), |s| format!("median {:.1} s, longest {:.1} s", s.median, s.max))
    };
    console.line(format!("detected   {} after a moment began", latency(card.detected())));
    console.line(format!("ready      {} after a moment ended", latency(card.ready())));
    console.line(format!(
        "webhooks   {} received, {} with a bad signature, {} repeated, {} missing",
        card.webhooks.events,
        card.webhooks.bad_signatures,
        card.webhooks.repeated,
        card.webhooks.missing.len()
    ));
}
