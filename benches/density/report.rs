//! The tables of `docs/performance.md`.

use std::fmt::Write as _;

use crate::server::Figures;
use crate::table::{Table, median};

/// What a feed may cost by stage, in thousandths of a core.
const BUDGET: &str = "RTMP 1, segments 1, keyframes 7.5, sound 3, analyzers 2, bus and fusion 1; together 15.5";

/// What one run of the benchmark measured, in seconds of processor time a second and feed.
#[derive(Default)]
pub struct Report {
    pub floor: Vec<f64>,
    pub decode: Vec<f64>,
    pub runs: Vec<Figures>,
}

impl Report {
    pub fn tables(&self) -> String {
        let ((floor, spread), (decode, _)) = (median(&self.floor), median(&self.decode));
        let mut out = format!(
            "Floor: {} thousandths of a core a feed, spread {:.0} %. Every frame decoded: {}, {:.1} times the floor.\n\n",
            milli(floor),
            spread * 100.0,
            milli(decode),
            decode / floor
        );
        let columns =
            ["feeds", "crest, core/1000 a feed", "against the floor", "full decode against it", "load, core/1000"];
        let mut costs = Table::new("Processor time", &columns);
        let columns =
            ["feeds", "MB a feed", "samples dropped", "within 0.5 s", "1 s", "2 s", "unread, s", "load late, s"];
        let mut bounds = Table::new("Memory, drops and delay", &columns);
        for run in &self.runs {
            let against = [run.cost / floor, decode / run.cost].map(|ratio| format!("{ratio:.2}"));
            let [floor, decode] = against;
            costs.row(vec![run.feeds.to_string(), milli(run.cost), floor, decode, milli(run.load)]);
            let [half, one, two, all] = run.delays;
            let share = |count: f64| format!("{:.2} %", count / all * 100.0);
            let (memory, unread) = (format!("{:.1}", run.memory / 1e6), format!("{:.2}", run.unread));
            let late = format!("{:.2}", run.late.as_secs_f64());
            bounds.row(vec![
                run.feeds.to_string(),
                memory,
                run.dropped.to_string(),
                share(half),
                share(one),
                share(two),
                unread,
                late,
            ]);
        }
        let _ = writeln!(out, "{costs}\n{bounds}");
        for run in &self.runs {
            let thread = |(name, cost): &(String, f64)| format!("{name} {}", milli(*cost));
            let threads: Vec<_> = run.threads.iter().filter(|(_, cost)| *cost >= 5e-5).map(thread).collect();
            let _ = writeln!(out, "{} feeds, by thread, core/1000 a feed: {}", run.feeds, threads.join(", "));
            let stages: Vec<_> = run.stages.iter().map(|(name, cost)| format!("{name} {}", milli(*cost))).collect();
            if !stages.is_empty() {
                let _ = writeln!(out, "by stage: {}\n(budget: {BUDGET})", stages.join(", "));
            }
        }
        out
    }
}

fn milli(cores: f64) -> String {
    format!("{:.2}", cores * 1000.0)
}
