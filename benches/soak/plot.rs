//! The runs as one picture: memory above, counts below; streams that come and go at the left, one
//! stream at the right.

use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

use crate::modes::{HOUR, STREAMS};
use crate::sample::{self, Row};
use crate::verdict;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
/// Around each panel: left, top, right, bottom.
const MARGIN: [f64; 4] = [62.0, 46.0, 16.0, 44.0];

/// A line of a panel: the column, what the legend calls it, its colour.
type Curve = (&'static str, &'static str, &'static str);
const MEMORY: [Curve; 2] = [("rss_kib", "resident", "#7a8793"), ("anonymous_kib", "anonymous", "#c2410c")];
const COUNTS: [Curve; 4] = [
    ("descriptors", "descriptors", "#1d4ed8"),
    ("threads", "threads", "#15803d"),
    ("stream_series", "series that name a stream", "#a21caf"),
    ("feeds_live", "feeds live", "#b0b7be"),
];

/// Draws what a folder holds, prints the verdicts, and thins the files where it is asked to.
pub fn of_folder(folder: &Path, thin: usize) -> Result<()> {
    let mut panels = Vec::new();
    for (name, title) in [(STREAMS, "streams that come and go"), (HOUR, "one stream")] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let rows = sample::read(&path)?;
        if rows.len() < 2 {
            continue;
        }
        println!("\n{title}\n\n{}", if name == STREAMS { verdict::of_streams(&rows) } else { verdict::of_hour(&rows) });
        if thin > 1 {
            sample::write(&path, &rows, thin)?;
        }
        panels.push((title, rows));
    }
    let path = folder.join("soak.svg");
    std::fs::write(&path, draw(&panels))?;
    println!("{}", path.display());
    Ok(())
}

fn draw(runs: &[(&str, Vec<Row>)]) -> String {
    let [left, top, right, bottom] = MARGIN;
    let (column, line) = (left + WIDTH + right, top + HEIGHT + bottom);
    let (width, height) = (column * runs.len() as f64, line * 2.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#24292f\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, (title, rows)) in runs.iter().enumerate() {
        let x = column * at as f64 + left;
        panel(&mut out, (x, top), &format!("{title}: memory"), "MiB", rows, &MEMORY);
        panel(&mut out, (x, line + top), &format!("{title}: what is open"), "count", rows, &COUNTS);
    }
    out += "</svg>\n";
    out
}

fn panel(out: &mut String, (x, y): (f64, f64), title: &str, unit: &str, rows: &[Row], curves: &[Curve]) {
    let end = rows.last().map_or(1.0, |row| row.t / 60.0).max(0.1);
    let values = rows.iter().flat_map(|row| curves.iter().map(|(c, ..)| verdict::shown(c, row.get(c))));
    let (time, value) = (step(end), step(values.fold(1.0, f64::max)));
    let highest = value * 5.0;
    let to_x = |minutes: f64| x + WIDTH * minutes / end;
    let to_y = |value: f64| y + HEIGHT * (1.0 - value / highest);
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{title}</text>", y - 26.0);
    shade_rounds(out, rows, y, to_x);
    for tick in 0..=5 {
        let (value, y) = (value * f64::from(tick), to_y(value * f64::from(tick)));
        let _ = writeln!(
            out,
            "<path d=\"M{x} {y:.1}h{WIDTH}\" stroke=\"#d8dee4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            x - 6.0,
            y + 4.0
        );
    }
    let mut minutes = 0.0;
    while minutes <= end {
        let at = to_x(minutes);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {:.1}v5\" stroke=\"#24292f\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minutes}</text>",
            y + HEIGHT,
            y + HEIGHT + 18.0
        );
        minutes += time;
    }
    let (middle_x, middle_y) = (x + WIDTH / 2.0, y + HEIGHT / 2.0);
    let _ = writeln!(
        out,
        "<text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">time (min)</text>\
         <text transform=\"translate({} {middle_y}) rotate(-90)\" text-anchor=\"middle\">{unit}</text>",
        y + HEIGHT + 36.0,
        x - 44.0
    );
    let mut legend = x;
    for (column, name, colour) in curves {
        let points: Vec<String> = thinned(rows)
            .map(|row| format!("{:.1},{:.1}", to_x(row.t / 60.0), to_y(verdict::shown(column, row.get(column)))))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>\
             <path d=\"M{legend} {}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            points.join(" "),
            y - 12.0,
            legend + 21.0,
            y - 8.0
        );
        legend += 44.0 + 6.6 * name.len() as f64;
    }
}

/// Grey where streams come and go, or one is live.
fn shade_rounds(out: &mut String, rows: &[Row], y: f64, to_x: impl Fn(f64) -> f64) {
    for part in rows.chunk_by(|a, b| a.phase == b.phase) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        if first.phase.starts_with("round") || first.phase == "live" {
            let (from, to) = (to_x(first.t / 60.0), to_x(last.t / 60.0));
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#f3f5f7\"/>",
                to - from
            );
        }
    }
}

/// As many rows as a panel has points to show.
fn thinned(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().step_by((rows.len() / (2 * WIDTH as usize)).max(1))
}

/// A round step, of which about five reach `highest`.
fn step(highest: f64) -> f64 {
    let power = 10f64.powf((highest / 5.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = steps.into_iter().map(|step| step * power).find(|step| step * 5.0 >= highest);
    let step = fits.unwrap_or(10.0 * power);
    (step * 1e6).round() / 1e6
}
