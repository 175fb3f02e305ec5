//! Whether the home of finished files can be reached from here. While it cannot, media is not uploaded
//! either, and no clip is given up for want of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crest_core::WallTime;
use crest_core::objects::SharedObjects;

/// How often it is asked while a clip waits.
const OFTEN: Duration = Duration::from_secs(2);

/// What was seen of it.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    asked: Option<Instant>,
    /// When it was out of reach last.
    away: Option<WallTime>,
}

impl Reach {
    /// Until when it was out of reach, as far as this process knows; asks now and then, or `now`. A folder
    /// of this machine is always there.
    pub(crate) async fn away_until(&self, objects: &SharedObjects, now: bool) -> Option<WallTime> {
        if objects.folder().is_some() {
            return None;
        }
        let due = {
            let mut seen = self.lock();
            let due = now || seen.asked.is_none_or(|asked| asked.elapsed() >= OFTEN);
            if due {
                seen.asked = Some(Instant::now());
            }
            due
        };
        if due && objects.ping().await.is_err() {
            self.lost();
        }
        self.lock().away
    }

    /// It is out of reach at this moment.
    pub(crate) fn lost(&self) {
        self.lock().away = Some(crate::now());
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
