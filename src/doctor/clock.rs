//! The clock: chat and webhooks carry its time.

use jiff::Timestamp;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

use super::finding::{Finding, as_root};

const CHECK: &str = "clock";
/// crest was not there before, and will not be this long.
const YEARS: std::ops::Range<i16> = 2025..2100;
/// How far the clock may lie behind what was written last: a clock is corrected now and then.
const BEHIND_SECONDS: i64 = 60;
/// How long `timedatectl` may take.
const ASK: Duration = Duration::from_secs(5);

/// Looks at the clock, and at what was last written to the database in `data_dir`.
pub async fn clock(data_dir: &Path) -> Finding {
    let newest = ["crest.db", "crest.db-wal"].iter().filter_map(|name| {
        let written = data_dir.join(name).metadata().ok()?.modified().ok()?;
        Timestamp::try_from(written).ok()
    });
    judge(Timestamp::now(), newest.max(), synchronised().await)
}

/// Whether the kernel's clock is kept by a time server: what `adjtimex` says, which `timedatectl` shows.
async fn synchronised() -> Option<bool> {
    let mut ask = Command::new("timedatectl");
    ask.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    let answer = tokio::time::timeout(ASK, ask.output()).await.ok()?.ok()?;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn judge(now: Timestamp, written: Option<Timestamp>, synchronised: Option<bool>) -> Finding {
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let shown = now.strftime("%Y-%m-%d %H:%M UTC");
    let set = format!("{}    # or by hand: date -s", as_root("timedatectl set-ntp true"));
    if !YEARS.contains(&year) {
        let why = "receivers refuse webhooks of the wrong time, and chat is placed by it";
        return Finding::wrong(CHECK, format!("the clock says {shown}; {why}"), set);
    }
    if let Some(written) = written.filter(|at| at.as_second() > now.as_second() + BEHIND_SECONDS) {
        let message = format!(
            "the clock says {shown}, but the database was written {}: it was put back",
            written.strftime("%Y-%m-%d %H:%M UTC")
        );
        return Finding::wrong(CHECK, message, set);
    }
    match synchronised {
        Some(true) => Finding::ok(CHECK, format!("{shown}, kept by a time server")),
        Some(false) => Finding::note(
            CHECK,
            format!("{shown}, not kept by a time server; receivers refuse webhooks that are minutes off"),
            set,
        ),
        None => Finding::ok(CHECK, format!("{shown}; whether a time server keeps it is not known here")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn a_clock_that_was_never_set_and_one_that_was_put_back_are_wrong() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let unset = judge(at("1970-01-01T00:01:00Z"), None, Some(true));
        assert_eq!(unset.state, State::Wrong, "{unset:?}");
        assert_eq!(judge(at("2106-02-07T00:00:00Z"), None, Some(true)).state, State::Wrong);
        let now = at("2026-11-21T12:00:00Z");
        assert_eq!(judge(now, Some(at("2026-11-21T14:00:00Z")), Some(true)).state, State::Wrong);
        assert_eq!(judge(now, Some(at("2026-11-21T12:00:01Z")), Some(true)).state, State::Ok);
        assert_eq!(judge(now, Some(now), Some(false)).state, State::Note);
        assert_eq!(judge(now, None, None).state, State::Ok);
    }
}
