//! Keeps the volume from filling up: the oldest segments go, by age and by free space. Where they do not lie
//! on this volume, by age alone; several processes may do so at once, for each step does no harm again.

use crest_core::objects::SharedObjects;
use crest_core::space::{Room, Space};
use crest_core::store::{SharedStore, StoredSegment};
use crest_core::units::Span;
use crest_core::{MediaTime, Result, WallTime};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::RetentionConfig;
use crate::space::{Eyes, Limits};
use crate::states::now;

/// Segments that are looked at in one go.
const BATCH: u32 = 256;
/// A segment that ended later than this may still be written to, or show a moment that is not decided.
const STILL_OPEN_MILLIS: i64 = 120_000;
/// Kept around a highlight whose clip is not cut, beside what the clip shows: its bounds may still move,
/// and the cut begins at a keyframe before them.
const MARGIN: Duration = Duration::from_secs(30);
/// What a feed needs, for saying how much fits: 6 Mbit/s.
const FEED_BYTES_PER_HOUR: f64 = 6e6 / 8.0 * 3600.0;

/// Removes what need not be kept any longer.
pub(crate) struct Retention {
    pub(crate) store: SharedStore,
    pub(crate) objects: SharedObjects,
    pub(crate) root: PathBuf,
    pub(crate) config: RetentionConfig,
    pub(crate) clip_margin: Span,
    pub(crate) space: Space,
    pub(crate) eyes: Eyes,
    pub(crate) pressed: Arc<Notify>,
}

/// How a round went.
#[derive(Debug, PartialEq, Eq)]
enum Swept {
    /// There is as much free space as there should be.
    Enough,
    /// There is not, and nothing left that may go.
    NothingLeft,
}

impl Retention {
    /// Runs until `shutdown`: every `retention.interval`, and at once when room is short.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.announce();
        let mut ticks = tokio::time::interval(self.config.interval.0.max(std::time::Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Swept::Enough;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.pressed.notified() => {}
            }
            match self.sweep(now()).await {
                Ok(swept) => {
                    if swept == Swept::NothingLeft && before == Swept::Enough {
                        tracing::warn!(
                            "free space is under retention.free_space, and there is no stored media left to remove; make room"
                        );
                    }
                    before = swept;
                }
                Err(error) => tracing::warn!(%error, "stored media could not be cleared; the next round tries again"),
            }
        }
    }

    /// Says how many hours fit.
    fn announce(&self) {
        match (self.eyes)(&self.root) {
            Ok(volume) => {
                let limits = Limits::of(&self.config, volume);
                let kept = if self.objects.folder().is_some() { limits.free_space } else { limits.reserve };
                let usable = volume.free.saturating_sub(kept);
                let hours = (usable as f64 / FEED_BYTES_PER_HOUR * 10.0).round() / 10.0;
                let free_space = bytesize::ByteSize(volume.free);
                if self.objects.folder().is_none() {
                    tracing::info!(hours, %free_space, "room for so many hours of one feed of 6 Mbit/s while the storage is away");
                    return;
                }
                tracing::info!(
                    hours,
                    %free_space,
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

    /// One round.
    async fn sweep(&self, now: WallTime) -> Result<Swept> {
        let age = i64::try_from(self.config.media.0.as_millis()).unwrap_or(i64::MAX);
        let mut missing = self.missing()?;
        loop {
            let mut removed = 0u64;
            for segment in self.store.removable_segments(BATCH, self.margin()).await? {
                let too_old = segment.ended_at.plus_millis(age) < now;
                if !too_old && missing == 0 {
                    return Ok(Swept::Enough);
                }
                if !too_old && self.may_be_open(&segment, now) {
                    continue;
                }
                self.remove(&segment, if too_old { "age" } else { "free_space" }).await?;
                missing = missing.saturating_sub(segment.bytes);
                removed += 1;
            }
            if removed < u64::from(BATCH) {
                return Ok(if missing == 0 { Swept::Enough } else { Swept::NothingLeft });
            }
        }
    }

    /// Bytes of free space that are missing. Asked once a round, for some file systems take their time
    /// to count what was removed.
    fn missing(&self) -> Result<u64> {
        if self.objects.folder().is_none() {
            // What lies here waits to be uploaded, and is the only copy.
            return Ok(0);
        }
        let volume = (self.eyes)(&self.root)?;
        let limits = Limits::of(&self.config, volume);
        // The ballast, which was given up, wants its room back too.
        let short = if self.space.room() == Room::Ample { 0 } else { limits.ample().saturating_add(limits.ballast) };
        Ok(limits.free_space.max(short).saturating_sub(volume.free))
    }

    /// What a clip may show beside the highlight, and the way back to a keyframe before it.
    fn margin(&self) -> MediaTime {
        let nanos = |span: std::time::Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        MediaTime::from_nanos(nanos(self.clip_margin.0.saturating_add(MARGIN)))
    }

    /// Whether a segment is still written to, or so young that what it shows may still be decided on. A
    /// feed that has stood still ends earlier by its own clock than by the file's.
    fn may_be_open(&self, segment: &StoredSegment, now: WallTime) -> bool {
        let written = std::fs::metadata(self.root.join(&segment.object)).and_then(|file| file.modified());
        let written = written.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let written = written.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        segment.ended_at.max(WallTime(written)).plus_millis(STILL_OPEN_MILLIS) >= now
    }

    /// The file first: a crash in between leaves an entry that the next round removes, and no file
    /// that nobody knows of.
    async fn remove(&self, segment: &StoredSegment, cause: &'static str) -> Result<()> {
        self.objects.delete(&segment.object).await?;
        self.store.forget_segment(&segment.object).await?;
        metrics::counter!("crest_segments_removed_total", "cause" => cause).increment(1);
        tracing::debug!(object = segment.object, cause, "a stored segment was removed");
        Ok(())
    }
}
