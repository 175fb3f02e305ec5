//! Open files: connections, segments, the bus and the database share one limit of the process, and most
//! systems start it with 1024 of what it may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The rest: segments of all feeds, bus, database, deliveries.
const REST: u64 = 512;

/// Open files that all configured connections may take together.
pub fn needed(config: &Config) -> u64 {
    // SRT's connections share a socket; each is waited for through one descriptor.
    [config.rtmp.max_connections, config.srt.max_connections, config.http.max_connections]
        .into_iter()
        .map(|connections| connections as u64)
        .fold(REST, u64::saturating_add)
}

/// Raises the limit as far as this process may, and says so where that is not enough.
pub fn provide(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = needed(config);
    if current.is_some_and(|current| current < needed) {
        tracing::warn!(
            limit = current,
            needed,
            "this process may not open as many files as the configured connections need: raise `ulimit -n` (LimitNOFILE \
             in a systemd unit), or lower rtmp.max_connections and http.max_connections"
        );
    }
}
