//! The wall clock, read at the edge and carried as data from here on.

use crest_core::WallTime;

/// The present.
pub fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}
