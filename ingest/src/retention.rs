//! Keeps the volume from filling up: the oldest segments go, by age and by free space.

use crest_core::store::{SharedStore, StoredSegment};
use crest_core::{Error, Result, WallTime};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

use crate::config::RetentionConfig;
use crate::states::now;

/// Segments that are looked at in one go.
const BATCH: u32 = 64;
/// A segment that ended later than this may still be written to.
const STILL_OPEN_MILLIS: i64 = 120_000;
/// What a feed needs, for saying how much fits: 6 Mbit/s.
const FEED_BYTES_PER_HOUR: f64 = 6e6 / 8.0 * 3600.0;

/// Removes what need not be kept any longer.
pub(crate) struct Retention {
    pub(crate) store: SharedStore,
    pub(crate) root: PathBuf,
    pub(crate) config: RetentionConfig,
}

impl Retention {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.announce();
        let mut ticks = tokio::time::interval(self.config.interval.0.max(std::time::Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.sweep(now(), free_space).await {
                tracing::warn!(%error, "stored media could not be cleared; the next round tries again");
            }
        }
    }

    /// Says how many hours fit.
    fn announce(&self) {
        match free_space(&self.root) {
            Ok(free) => {
                let usable = free.saturating_sub(self.config.free_space.as_u64());
                let hours = (usable as f64 / FEED_BYTES_PER_HOUR * 10.0).round() / 10.0;
                tracing::info!(
                    hours,
                    free_space = %bytesize::ByteSize(free),
                    "room for so many hours of one feed of 6 Mbit/s before retention.free_space is reached"
                );
                if usable == 0 {
                    tracing::warn!(
                        "less free space than retention.free_space: stored media is removed as soon as it may be"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "free space is not known"),
        }
    }

    /// One round; `free` tells the free bytes of the volume a path is on.
    async fn sweep(&self, now: WallTime, free: impl Fn(&Path) -> Result<u64>) -> Result<()> {
        let age = i64::try_from(self.config.media.0.as_millis()).unwrap_or(i64::MAX);
        loop {
            let mut removed = 0u64;
            for segment in self.store.removable_segments(BATCH).await? {
                let too_old = segment.ended_at.plus_millis(age) < now;
                let open = segment.ended_at.plus_millis(STILL_OPEN_MILLIS) >= now;
                let short = !too_old && free(&self.root)? < self.config.free_space.as_u64();
                if !(too_old || short) {
                    return Ok(());
                }
                if open && !too_old {
                    tracing::warn!(
                        "free space is under retention.free_space, and there is no stored media left to remove; make room"
                    );
                    return Ok(());
                }
                self.remove(&segment, if too_old { "age" } else { "free_space" }).await?;
                removed += 1;
            }
            if removed < u64::from(BATCH) {
                return Ok(());
            }
        }
    }

    /// The file first: a crash in between leaves an entry that the next round removes, and no file
    /// that nobody knows of.
    async fn remove(&self, segment: &StoredSegment, cause: &'static str) -> Result<()> {
        match tokio::fs::remove_file(self.root.join(&segment.object)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::outside(format!("{}: {error}", segment.object)));
            }
            _ => {}
        }
        self.store.forget_segment(&segment.object).await?;
        metrics::counter!("crest_segments_removed_total", "cause" => cause).increment(1);
        tracing::debug!(object = segment.object, cause, "a stored segment was removed");
        Ok(())
    }
}

/// Free bytes, for us, of the volume that `path` is on.
fn free_space(path: &Path) -> Result<u64> {
    rustix::fs::statvfs(path)
        .map(|volume| volume.f_bavail.saturating_mul(volume.f_frsize))
        .map_err(|error| Error::outside(format!("free space of {}: {error}", path.display())))
}
