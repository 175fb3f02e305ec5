//! The reserve: watches the volume of the data directory, tells everyone how much room there is, and
//! keeps the ballast. What gives way first: media and new feeds, then clips; decisions last.

use crest_core::space::{Room, Space};
use crest_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ballast::Ballast;
use crate::config::RetentionConfig;
use crate::states::now;

/// The size of a volume and what is free of it, for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that we may still write.
    pub free: u64,
}

/// Looks at the volume that a path is on.
pub(crate) type Eyes = Arc<dyn Fn(&Path) -> Result<Volume> + Send + Sync>;

impl Volume {
    /// Of the volume that `path` is on.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let volume = rustix::fs::statvfs(path)
            .map_err(|error| Error::outside(format!("free space of {}: {error}", path.display())))?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Self { bytes: bytes(volume.f_blocks), free: bytes(volume.f_bavail) })
    }
}

/// What the configuration asks for, as far as the volume is large enough for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes under which the oldest stored media goes.
    pub free_space: u64,
    /// Bytes under which media is not stored and new feeds are refused.
    pub reserve: u64,
    /// Size of the ballast in bytes.
    pub ballast: u64,
}

impl Limits {
    /// For a volume of this size.
    pub fn of(config: &RetentionConfig, volume: Volume) -> Self {
        Self {
            free_space: config.free_space.as_u64().min(volume.bytes / 2),
            reserve: config.reserve.as_u64().min(volume.bytes / 10),
            ballast: config.ballast.as_u64().min(volume.bytes / 50),
        }
    }

    /// From here on there is room again: a little above the reserve, so that it does not go to and fro.
    pub(crate) fn ample(&self) -> u64 {
        self.reserve.saturating_add(self.reserve / 10)
    }

    /// Below this what is left is for decisions.
    fn exhausted(&self) -> u64 {
        self.reserve / 4
    }

    /// What `free` bytes mean after `before`.
    fn judge(&self, before: Room, free: u64) -> Room {
        let rises = before != Room::Ample;
        if free >= if rises { self.ample() } else { self.reserve } {
            Room::Ample
        } else if free < if before == Room::Exhausted { self.reserve / 2 } else { self.exhausted() } {
            Room::Exhausted
        } else {
            Room::Short
        }
    }
}

/// The watcher of the volume.
pub struct Reserve {
    root: PathBuf,
    config: RetentionConfig,
    eyes: Eyes,
    space: Space,
    ballast: Ballast,
    /// Wakes retention while it is short.
    pressed: Arc<Notify>,
    /// Said once until it changes: the volume cannot be looked at, or the ballast not be made.
    trouble: Option<String>,
}

impl Reserve {
    /// Looks at the volume for the first time; before anything else is opened there, so that the
    /// ballast makes room for it on a volume that is full. The error names the data directory.
    pub fn open(root: &Path, config: &RetentionConfig) -> Result<Self> {
        Self::over(root, config, Volume::of)
    }

    /// The same over a volume as `eyes` see it: a test fills it as it likes.
    pub fn over(
        root: &Path,
        config: &RetentionConfig,
        eyes: impl Fn(&Path) -> Result<Volume> + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut reserve = Self {
            root: root.to_owned(),
            config: config.clone(),
            eyes: Arc::new(eyes),
            space: Space::default(),
            ballast: Ballast::of(root),
            pressed: Arc::default(),
            trouble: None,
        };
        reserve.look()?;
        Ok(reserve)
    }

    /// What it sees.
    pub fn space(&self) -> Space {
        self.space.clone()
    }

    /// Notified again and again while room is short.
    pub(crate) fn pressed(&self) -> Arc<Notify> {
        Arc::clone(&self.pressed)
    }

    /// How the volume is looked at.
    pub(crate) fn eyes(&self) -> Eyes {
        Arc::clone(&self.eyes)
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.watch.0.max(std::time::Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // A look takes microseconds, making the ballast may take longer.
            let looked = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.look() {
                    self.complain(format!("the free space of the data directory is not known: {error}"));
                }
                self
            });
            match looked.await {
                Ok(reserve) => self = reserve,
                Err(error) => return tracing::error!("the volume is not watched any more: {error}"),
            }
        }
    }

    /// One look: what is free, what that means, and what becomes of the ballast.
    fn look(&mut self) -> Result<()> {
        let mut volume = (self.eyes)(&self.root)?;
        let limits = Limits::of(&self.config, volume);
        let mut held = self.ballast.held();
        if held > 0 && volume.free < limits.ballast / 2 {
            match self.ballast.give_up() {
                Ok(()) => {
                    tracing::error!(
                        bytes = held,
                        "the volume of the data directory is full to the last: the ballast is given up, so that decisions can still be kept for a while"
                    );
                    held = 0;
                    volume = (self.eyes)(&self.root)?;
                }
                Err(error) => self.complain(format!("the ballast cannot be given up: {error}")),
            }
        }
        // What the ballast still wants is not there for anything else.
        let free = volume.free.saturating_sub(limits.ballast.saturating_sub(held));
        let before = self.space.room();
        let room = limits.judge(before, free);
        self.space.publish(room, free.saturating_sub(limits.exhausted()), now());
        metrics::gauge!("crest_storage_free_bytes").set(volume.free as f64);
        metrics::gauge!("crest_storage_short").set(if room == Room::Ample { 0.0 } else { 1.0 });
        metrics::gauge!("crest_storage_ballast_bytes").set(held as f64);
        self.tell(before, room, volume, limits);
        if room != Room::Ample {
            self.pressed.notify_one();
        } else if held < limits.ballast {
            match self.ballast.hold(limits.ballast) {
                Ok(()) => self.trouble = None,
                Err(error) => self.complain(format!("the ballast cannot be made, crest goes on without it: {error}")),
            }
        }
        Ok(())
    }

    fn tell(&self, before: Room, room: Room, volume: Volume, limits: Limits) {
        let (free, reserve) = (bytesize::ByteSize(volume.free), bytesize::ByteSize(limits.reserve));
        match room {
            now if now == before => {}
            Room::Ample => tracing::info!(%free, "there is room again: media is stored and new feeds are taken"),
            Room::Short if before == Room::Exhausted => {
                tracing::warn!(%free, %reserve, "there is room for clips again, not yet for media and new feeds");
            }
            Room::Short | Room::Exhausted => tracing::error!(
                %free, %reserve, data_dir = %self.root.display(),
                "the disk is nearly full: media is not stored and new feeds are refused until there is room; running feeds are still decided on, their clips will be missing. Make room on this volume, or give retention.media less time"
            ),
        }
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!("{trouble}");
            self.trouble = Some(trouble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytesize::ByteSize;

    const MB: u64 = 1_000_000;

    fn limits(bytes: u64) -> Limits {
        Limits::of(&RetentionConfig::default(), Volume { bytes, free: 0 })
    }

    #[test]
    fn a_small_volume_has_small_limits() {
        let (gb, tb) = (1000 * MB, 1_000_000 * MB);
        assert_eq!(limits(tb), Limits { free_space: 10 * gb, reserve: gb, ballast: 64 * MB });
        assert_eq!(limits(8 * gb), Limits { free_space: 4 * gb, reserve: 800 * MB, ballast: 64 * MB });
        assert_eq!(limits(100 * MB), Limits { free_space: 50 * MB, reserve: 10 * MB, ballast: 2 * MB });
        let asked = RetentionConfig { reserve: ByteSize::mb(1), ..RetentionConfig::default() };
        assert_eq!(Limits::of(&asked, Volume { bytes: tb, free: 0 }).reserve, MB, "less may be asked for");
    }

    #[test]
    fn it_takes_more_to_get_out_of_a_shortage_than_to_get_in() {
        let limits = Limits { free_space: 0, reserve: 1000, ballast: 0 };
        let mut room = Room::Ample;
        let mut seen = Vec::new();
        for free in [1000, 999, 1000, 1099, 1100, 300, 250, 249, 400, 499, 500, 1000, 0, 1100, 100] {
            room = limits.judge(room, free);
            seen.push(room);
        }
        use Room::{Ample as A, Exhausted as E, Short as S};
        assert_eq!(seen, [A, S, S, S, A, S, S, E, E, E, S, S, E, A, E]);
    }
}
