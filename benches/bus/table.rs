//! Medians, and tables as `docs/benchmarks/bus.md` has them.

use std::fmt;

/// A table with its heading.
pub struct Table {
    heading: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heading: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { heading: heading.into(), columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        eprintln!("  {}", cells.join("  "));
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n| {} |", self.heading, self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// The median, and how far apart the lowest and the highest are in parts of it.
pub fn median(figures: &[f64]) -> (f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(median) = sorted.get(sorted.len() / 2).copied() else { return (f64::NAN, f64::NAN) };
    let spread = sorted.last().zip(sorted.first()).map_or(0.0, |(high, low)| (high - low) / median);
    (median, spread)
}

/// A number with its thousands apart.
pub fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.max(0.0));
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds of processor time: of this process, of the children that it has waited for.
pub fn processor_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may have spaces in it: user and system time are the 12th and 13th, then the children's.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    ((ticks(11) + ticks(12)) / 100.0, (ticks(13) + ticks(14)) / 100.0)
}

/// What a turn came to.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Records or values a second.
    pub rate: f64,
    /// The same by second of processor time: what a machine that is busy with other work says less wrongly.
    pub per_core: f64,
}

/// The turns of each contender, the first of which the others are compared with.
pub struct Contest {
    names: Vec<&'static str>,
    turns: Vec<Vec<Turn>>,
}

impl Contest {
    pub fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), turns: vec![Vec::new(); names.len()] }
    }

    pub fn push(&mut self, contender: usize, turn: Turn) {
        eprintln!("  {}: {:.0}, {:.0} a second of processor time", self.names[contender], turn.rate, turn.per_core);
        self.turns[contender].push(turn);
    }

    /// A row for each, with medians; `more` says what else is in it of a rate.
    pub fn rows(&self, table: &mut Table, more: impl Fn(f64) -> String, compared: bool) {
        let of = |turns: &[Turn], part: fn(&Turn) -> f64| median(&turns.iter().map(part).collect::<Vec<_>>());
        let first = of(&self.turns[0], |turn| turn.rate).0;
        for (name, turns) in self.names.iter().zip(&self.turns) {
            let ((rate, spread), (per_core, _)) = (of(turns, |turn| turn.rate), of(turns, |turn| turn.per_core));
            let mut cells = vec![(*name).to_owned(), grouped(rate), more(rate), format!("{:.0} %", spread * 100.0)];
            cells.push(grouped(per_core));
            if compared {
                cells.push(format!("{:.2}", first / rate));
            }
            table.row(cells);
        }
    }
}

/// Kilobytes that this process has had in memory at most.
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
