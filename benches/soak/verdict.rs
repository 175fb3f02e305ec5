//! What follows from the figures, in ratios: they hold on any machine.

use std::fmt::Write as _;

use crate::fit::{line, median};
use crate::sample::Row;

/// What must come back, with the unit it is told in.
const WATCHED: [(&str, &str); 6] = [
    ("anonymous_kib", "MiB"),
    ("rss_kib", "MiB"),
    ("threads", ""),
    ("descriptors", ""),
    ("series", ""),
    ("stream_series", ""),
];

/// A value in the unit that people read.
pub fn shown(column: &str, value: f64) -> f64 {
    if column.ends_with("_kib") { value / 1024.0 } else { value }
}

/// The second half of a phase: what was begun before has settled.
fn settled<'a>(rows: &'a [Row], phase: &str) -> &'a [Row] {
    let first = rows.iter().position(|row| row.phase == phase).unwrap_or(0);
    let length = rows[first..].iter().take_while(|row| row.phase == phase).count();
    &rows[first + length / 2..first + length]
}

/// What is held at each rest, and what each round of streams left behind.
pub fn of_streams(rows: &[Row]) -> String {
    let mut phases: Vec<&str> = rows.iter().map(|row| row.phase.as_str()).collect();
    phases.dedup();
    phases.retain(|phase| *phase == "start" || phase.starts_with("rest"));
    let mut out = String::from("| at rest |");
    phases.iter().for_each(|phase| out += &format!(" {phase} |"));
    out += " last : first rest | per stream of the last round |\n|---|";
    out += &"---|".repeat(phases.len() + 2);
    out.push('\n');
    let streams = |phase: &str| median(settled(rows, phase).iter().map(|row| row.get("streams_over")));
    for (column, unit) in WATCHED {
        let held = |phase: &&str| median(settled(rows, phase).iter().map(|row| row.get(column)));
        let values: Vec<f64> = phases.iter().map(held).collect();
        let _ = write!(out, "| {} {unit} |", column.trim_end_matches("_kib"));
        values.iter().for_each(|value| out += &format!(" {:.1} |", shown(column, *value)));
        let ([_, first, ..], [.., before, last]) = (values.as_slice(), values.as_slice()) else {
            out += " | |\n";
            continue;
        };
        let count = phases.len();
        let each = (last - before) / (streams(phases[count - 1]) - streams(phases[count - 2]));
        let _ = writeln!(out, " {} | {} |", ratio(*last, *first), told(column, each));
    }
    out
}

/// How fast each thing grows in the second half of the time that the stream was live.
pub fn of_hour(rows: &[Row]) -> String {
    let half = settled(rows, "live");
    let minutes = half.last().zip(half.first()).map_or(0.0, |(last, first)| (last.t - first.t) / 60.0);
    let mut out = format!("| over the last {minutes:.0} min | median | growth per hour | growth per hour : median |\n");
    out += "|---|---|---|---|\n";
    for (column, unit) in WATCHED {
        let points: Vec<(f64, f64)> = half.iter().map(|row| (row.t / 3600.0, row.get(column))).collect();
        let (middle, growth) = (median(points.iter().map(|(_, value)| *value)), line(&points).slope);
        let name = column.trim_end_matches("_kib");
        let _ = writeln!(
            out,
            "| {name} {unit} | {:.1} | {:+.2} | {} |",
            shown(column, middle),
            shown(column, growth),
            ratio(growth, middle)
        );
    }
    out
}

fn ratio(one: f64, other: f64) -> String {
    if other == 0.0 {
        if one == 0.0 { "none".to_owned() } else { "from none".to_owned() }
    } else {
        format!("{:.3}", one / other)
    }
}

fn told(column: &str, value: f64) -> String {
    if column.ends_with("_kib") { format!("{value:+.2} KiB") } else { format!("{value:+.3}") }
}
