//! How many files and connections a process may have open here.

use super::finding::Finding;

const CHECK: &str = "descriptors";

/// What all connections may need, against what `crest serve` can give itself.
pub fn descriptors(needed: u64) -> Finding {
    judge(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum, needed)
}

/// The hard limit counts: `crest serve` raises its own to that. `None` is no limit.
fn judge(hard: Option<u64>, needed: u64) -> Finding {
    let Some(hard) = hard.filter(|hard| *hard < needed) else {
        let most = hard.map_or_else(|| "any number of".to_owned(), |hard| hard.to_string());
        return Finding::ok(CHECK, format!("a process may have {most} files open; all connections may need {needed}"));
    };
    let enough = needed.next_power_of_two();
    Finding::wrong(
        CHECK,
        format!(
            "a process may have {hard} files open, and rtmp.max_connections, srt.max_connections and http.max_connections may need {needed}"
        ),
        format!(
            "{}    # in a systemd unit: LimitNOFILE={enough}",
            super::finding::as_root(format_args!("prlimit --pid $$ --nofile={enough}"))
        ),
    )
}
