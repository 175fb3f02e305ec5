//! The score card: what was planned against what was found.

use super::receiver::Tally;
use super::script::{Kind, Moment, Script};

/// Below this, precision or recall fails the demo.
const GOOD: f64 = 0.8;

/// A highlight that crest told of. Instants are seconds of the broadcast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// What it spans.
    pub start_s: f64,
    /// To where.
    pub end_s: f64,
    /// 0..1.
    pub score: f64,
    /// The state that was told last: `provisional`, `ready`, `failed` or `deleted`.
    pub state: String,
    /// When `highlight.detected` arrived.
    pub detected_s: Option<f64>,
    /// When `highlight.ready` arrived.
    pub ready_s: Option<f64>,
    /// Clip and thumbnail, as paths relative to the output folder.
    pub clip: Option<String>,
    /// The thumbnail.
    pub thumbnail: Option<String>,
}

impl Found {
    /// Seconds it shares with a moment; `None` where they do not meet.
    pub fn overlap(&self, moment: &Moment) -> Option<f64> {
        let shared = self.end_s.min(moment.end_s) - self.start_s.max(moment.start_s);
        (shared > 0.0).then_some(shared)
    }
}

/// A moment of the script and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was planned.
    pub moment: Moment,
    /// The highlight that found it. For a decoy: the one that fell for it.
    pub found: Option<Found>,
}

impl Row {
    /// Whether crest did right.
    pub fn is_right(&self) -> bool {
        self.moment.wanted() == self.found.is_some()
    }

    /// From the beginning of the moment to the arrival of `highlight.detected`, in seconds.
    pub fn detected_after(&self) -> Option<f64> {
        self.found.as_ref()?.detected_s.map(|at| at - self.moment.start_s)
    }

    /// From the end of the moment to the arrival of `highlight.ready`, in seconds.
    pub fn ready_after(&self) -> Option<f64> {
        self.found.as_ref()?.ready_s.map(|at| at - self.moment.end_s)
    }
}

/// What is known at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// One row per moment of the script, in order.
    pub rows: Vec<Row>,
    /// Highlights that match nothing wanted, decoys included.
    pub wrong: Vec<Found>,
    /// Share of the highlights that are right.
    pub precision: f64,
    /// Share of the wanted moments that were found.
    pub recall: f64,
    /// The webhooks.
    pub webhooks: Tally,
    /// Ready highlights the API lists but no `highlight.ready` told of.
    pub lost: Vec<String>,
    /// What else went wrong.
    pub faults: Vec<String>,
}

/// Middle and largest of some seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Card {
    /// Compares. `found` are all highlights that were told; only those that became ready count.
    pub fn of(script: &Script, found: &[Found], webhooks: Tally, lost: Vec<String>, faults: Vec<String>) -> Self {
        let ready: Vec<&Found> = found.iter().filter(|f| f.state == "ready").collect();
        // The largest overlaps are matched first; a highlight counts once, and so does a moment.
        let mut pairs = Vec::new();
        for (m, moment) in script.moments.iter().enumerate().filter(|(_, m)| m.wanted()) {
            for (f, found) in ready.iter().enumerate() {
                pairs.extend(found.overlap(moment).map(|shared| (shared, m, f)));
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut of_moment: Vec<Option<usize>> = vec![None; script.moments.len()];
        let mut used = vec![false; ready.len()];
        for (_, m, f) in pairs {
            if of_moment[m].is_none() && !used[f] {
                (of_moment[m], used[f]) = (Some(f), true);
            }
        }
        let right = used.iter().filter(|u| **u).count() as f64;
        let wrong: Vec<Found> =
            ready.iter().zip(&used).filter(|(_, used)| !**used).map(|(f, _)| (*f).clone()).collect();
        let row = |(moment, index): (&Moment, &Option<usize>)| {
            let fell_for = || wrong.iter().find(|f| moment.kind == Kind::Decoy && f.overlap(moment).is_some()).cloned();
            Row { moment: moment.clone(), found: index.map(|f| ready[f].clone()).or_else(fell_for) }
        };
        let rows: Vec<Row> = script.moments.iter().zip(&of_moment).map(row).collect();
        let share = |of: usize| if of == 0 { 0.0 } else { right / of as f64 };
        let (precision, recall) = (share(ready.len()), share(script.wanted().count()));
        Self { rows, wrong, precision, recall, webhooks, lost, faults }
    }

    /// Why the demo failed, if it did.
    pub fn failures(&self) -> Vec<String> {
        let mut reasons = self.faults.clone();
        let mut unless = |good: bool, reason: String| {
            if !good {
                reasons.push(reason);
            }
        };
        unless(self.precision >= GOOD, format!("precision {:.2} is under {GOOD}", self.precision));
        unless(self.recall >= GOOD, format!("recall {:.2} is under {GOOD}", self.recall));
        let bad = self.webhooks.bad_signatures;
        unless(bad == 0, format!("{bad} webhooks had a bad signature"));
        unless(self.webhooks.missing.is_empty(), format!("webhooks {:?} never arrived", self.webhooks.missing));
        unless(self.lost.is_empty(), format!("no highlight.ready arrived for {}", self.lost.join(", ")));
        reasons
    }

    /// Latency of `highlight.detected` over the moments that were found.
    pub fn detected(&self) -> Option<Spread> {
        spread(self.right_rows().filter_map(Row::detected_after))
    }

    /// Latency of `highlight.ready`.
    pub fn ready(&self) -> Option<Spread> {
        spread(self.right_rows().filter_map(Row::ready_after))
    }

    fn right_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.moment.wanted() && r.found.is_some())
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let max = *values.last()?;
    let (upper, lower) = (values[values.len() / 2], values[(values.len() - 1) / 2]);
    Some(Spread { median: (upper + lower) / 2.0, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        let mut script = Script::of(1);
        let kinds = [Kind::Full, Kind::Decoy, Kind::Visual, Kind::Full];
        let first = script.moments[0].clone();
        let moment = |(n, kind)| {
            let start_s = 30.0 + 20.0 * n as f64;
            Moment { kind, start_s, end_s: start_s + 8.0, ..first.clone() }
        };
        script.moments = kinds.into_iter().enumerate().map(moment).collect();
        script
    }

    fn found(start_s: f64, end_s: f64) -> Found {
        let (detected_s, ready_s) = (Some(start_s + 2.0), Some(end_s + 6.0));
        Found { start_s, end_s, score: 0.5, state: "ready".into(), detected_s, ready_s, ..Found::default() }
    }

    fn card(found: &[Found]) -> Card {
        Card::of(&script(), found, Tally::default(), Vec::new(), Vec::new())
    }

    #[test]
    fn all_found_and_nothing_else_passes() {
        let card = card(&[found(29.0, 39.0), found(71.0, 75.0), found(95.0, 98.0)]);
        assert_eq!((card.precision, card.recall), (1.0, 1.0));
        assert!(card.failures().is_empty() && card.rows.iter().all(Row::is_right));
        assert_eq!(card.detected(), Some(Spread { median: 3.0, max: 7.0 }));
        assert_eq!(card.ready(), Some(Spread { median: 6.0, max: 7.0 }));
    }

    #[test]
    fn a_decoy_that_is_found_and_a_moment_that_is_not_count_against() {
        let card = card(&[found(29.0, 39.0), found(52.0, 55.0), found(95.0, 98.0)]);
        assert!((card.precision - 2.0 / 3.0).abs() < 1e-9 && (card.recall - 2.0 / 3.0).abs() < 1e-9);
        let right: Vec<bool> = card.rows.iter().map(Row::is_right).collect();
        assert_eq!(right, [true, false, false, true]);
        assert_eq!(card.failures().len(), 2);
    }

    #[test]
    fn a_highlight_counts_once_and_so_does_a_moment() {
        let two_in_one = card(&[found(29.0, 99.0)]);
        assert!((two_in_one.recall - 1.0 / 3.0).abs() < 1e-9 && two_in_one.precision == 1.0);
        let twice = card(&[found(30.0, 33.0), found(34.0, 38.0), found(71.0, 75.0), found(95.0, 98.0)]);
        assert_eq!((twice.precision, twice.recall, twice.wrong.len()), (0.75, 1.0, 1));
        assert_eq!(twice.wrong[0].start_s, 30.0);
    }

    #[test]
    fn what_was_withdrawn_is_no_find_and_touching_is_no_overlap() {
        let withdrawn = Found { state: "deleted".into(), ..found(29.0, 39.0) };
        assert_eq!(card(&[withdrawn, found(38.0, 50.0)]).recall, 0.0);
    }

    #[test]
    fn what_is_lost_or_forged_fails_whatever_was_found() {
        let all = [found(29.0, 39.0), found(71.0, 75.0), found(95.0, 98.0)];
        let tally = Tally { bad_signatures: 1, missing: vec![3], ..Tally::default() };
        let card = Card::of(&script(), &all, tally, vec!["hl_1".into()], vec!["it crashed".into()]);
        assert_eq!(card.failures().len(), 4);
    }
}
