//! The report: one page without outside parts, beside the clips it plays.

use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;

use super::card::{Card, Found, Spread};
use super::console::clock;
use super::script::{Kind, Script};
use super::summary::{name, verdict};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1060px;padding:28px 20px;color:#1c2430;background:#f7f8fa}\
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 10px}p{margin:4px 0}.dim{color:#667}\
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}\
.figure{background:#fff;border:1px solid #dde1e8;border-radius:8px;padding:10px 16px;min-width:130px}\
.figure b{display:block;font-size:22px}.pass{color:#14803c}.fail{color:#c0282d}\
svg{display:block;width:100%;height:auto;background:#fff;border:1px solid #dde1e8;border-radius:8px}\
table{border-collapse:collapse;width:100%;background:#fff;border:1px solid #dde1e8}\
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid #eceff3}td.n,th.n{text-align:right}\
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:16px}\
figure{margin:0;background:#fff;border:1px solid #dde1e8;border-radius:8px;overflow:hidden}\
figure video{display:block;width:100%;background:#000}figcaption{padding:8px 12px}\
.whole{width:100%;max-width:640px;border-radius:8px;background:#000}";

/// Writes the page.
pub fn write(script: &Script, card: &Card, found: &[Found], path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, page(script, card, found)).with_context(|| format!("cannot write {}", path.display()))
}

fn page(script: &Script, card: &Card, found: &[Found]) -> String {
    let failures = card.failures();
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>crest demo, seed {seed}</title><style>{STYLE}</style><h1>crest demo, seed {seed}</h1>\
         <p class=\"dim\">A synthetic football broadcast of {length} was published to crest over RTMP while {viewers} \
         viewers chatted. Below: what the script had planned, what crest found without knowing it.</p>",
        seed = script.seed,
        length = clock(script.duration_s),
        viewers = script.viewers,
    );
    figures(&mut html, card, failures.is_empty());
    for failure in &failures {
        let _ = write!(html, "<p class=\"fail\">Failed: {}</p>", escape(failure));
    }
    html.push_str("<h2>Planned and found</h2>");
    timeline(&mut html, script, card, found);
    table(&mut html, card);
    html.push_str("<h2>Clips</h2><div class=\"clips\">");
    for found in found.iter().filter(|f| f.clip.is_some()) {
        clip(&mut html, card, found);
    }
    html.push_str("</div><h2>The whole broadcast</h2><video class=\"whole\" controls preload=\"none\" src=\"broadcast.mp4\"></video></html>\n");
    html
}

fn figures(html: &mut String, card: &Card, passed: bool) {
    let latency = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| format!("{:.1} s", s.median));
    let longest = |spread: Option<Spread>| spread.map_or(String::new(), |s| format!(", longest {:.1} s", s.max));
    let (class, word) = if passed { ("pass", "passed") } else { ("fail", "failed") };
    let _ = write!(
        html,
        "<div class=\"figures\"><div class=\"figure\"><b class=\"{class}\">{word}</b>verdict</div>\
         <div class=\"figure\"><b>{:.2}</b>precision</div><div class=\"figure\"><b>{:.2}</b>recall</div>\
         <div class=\"figure\"><b>{}</b>detected after a<br>moment began{}</div>\
         <div class=\"figure\"><b>{}</b>clip ready after a<br>moment ended{}</div>\
         <div class=\"figure\"><b>{}</b>webhooks verified,<br>{} refused, {} missing</div></div>",
        card.precision,
        card.recall,
        latency(card.detected()),
        longest(card.detected()),
        latency(card.ready()),
        longest(card.ready()),
        card.webhooks.events,
        card.webhooks.bad_signatures,
        card.webhooks.missing.len(),
    );
}

fn timeline(html: &mut String, script: &Script, card: &Card, found: &[Found]) {
    let (left, width) = (80.0, 930.0);
    let x = |t: f64| left + t.clamp(0.0, script.duration_s) / script.duration_s * width;
    html.push_str("<svg viewBox=\"0 0 1020 150\" font-family=\"system-ui,sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"Timeline of planned moments and found highlights\">");
    for second in (0..=script.duration_s as u64).step_by(10) {
        let at = x(second as f64);
        let _ = write!(html, "<path d=\"M{at:.1} 14V128\" stroke=\"#e6e9ee\"/>");
        if second % 20 == 0 {
            let label = format!("{}:{:02}", second / 60, second % 60);
            let _ = write!(html, "<text x=\"{at:.1}\" y=\"143\" text-anchor=\"middle\" fill=\"#667\">{label}</text>");
        }
    }
    html.push_str("<text x=\"10\" y=\"44\">planned</text><text x=\"10\" y=\"98\">found</text>");
    let mut bar = |from: f64, to: f64, y: f64, colour: &str, title: &str| {
        let size = (x(to) - x(from)).max(2.0);
        let _ = write!(
            html,
            "<rect x=\"{:.1}\" y=\"{y}\" width=\"{size:.1}\" height=\"34\" rx=\"4\" fill=\"{colour}\"><title>{}</title></rect>",
            x(from),
            escape(title)
        );
    };
    for moment in &script.moments {
        let colour = match moment.kind {
            Kind::Full => "#3565d6",
            Kind::Visual => "#7aa2f2",
            Kind::Decoy => "#c3c8d0",
        };
        let title = format!("{}: {} to {}", name(moment.kind), clock(moment.start_s), clock(moment.end_s));
        bar(moment.start_s, moment.end_s, 22.0, colour, &title);
    }
    for found in found {
        let wrong = card.wrong.iter().any(|w| w.id == found.id);
        let colour = match found.state.as_str() {
            "ready" if !wrong => "#1d9a50",
            "deleted" => "#e5e0cf",
            _ => "#cf3a3f",
        };
        let title =
            format!("{}, score {:.2}: {} to {}", found.state, found.score, clock(found.start_s), clock(found.end_s));
        bar(found.start_s, found.end_s, 76.0, colour, &title);
    }
    html.push_str(
        "</svg><p class=\"dim\">Blue: a moment; light blue: one that can only be seen; grey: the decoy. \
         Green: found rightly; red: found wrongly; sand: seen and withdrawn.</p>",
    );
}

fn table(html: &mut String, card: &Card) {
    html.push_str(
        "<table><tr><th>planned<th>on air<th>result<th>highlight<th class=\"n\">score\
         <th class=\"n\">detected after its start<th class=\"n\">ready after its end</tr>",
    );
    for row in &card.rows {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1} s"));
        let found = row.found.as_ref();
        let _ = write!(
            html,
            "<tr><td>{}<td>{} to {}<td class=\"{}\">{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
            name(row.moment.kind),
            clock(row.moment.start_s),
            clock(row.moment.end_s),
            if row.is_right() { "pass" } else { "fail" },
            verdict(row),
            found.map_or(String::new(), |f| format!("{} to {}", clock(f.start_s), clock(f.end_s))),
            found.map_or(String::new(), |f| format!("{:.2}", f.score)),
            seconds(row.detected_after()),
            seconds(row.ready_after()),
        );
    }
    html.push_str("</table>");
}

fn clip(html: &mut String, card: &Card, found: &Found) {
    let row = card.rows.iter().find(|r| r.found.as_ref().is_some_and(|f| f.id == found.id));
    let what = row.map_or("matches nothing planned", |r| name(r.moment.kind));
    let _ = write!(
        html,
        "<figure><video controls preload=\"metadata\" src=\"{}\" poster=\"{}\"></video>\
         <figcaption><b>{} to {}</b>, score {:.2}<br><span class=\"dim\">{}</span></figcaption></figure>",
        escape(found.clip.as_deref().unwrap_or_default()),
        escape(found.thumbnail.as_deref().unwrap_or_default()),
        clock(found.start_s),
        clock(found.end_s),
        found.score,
        escape(what),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
