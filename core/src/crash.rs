//! Places where a test makes the process die, as `kill -9` would: before and after each step that
//! makes something durable. Debug builds only; release builds have no such places.
//!
//! `CREST_CRASH_AT="fuse before 2"` ends the process when it is about to commit decisions for the
//! second time.

/// A step after which something survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A session is allocated and its log begins.
    Session,
    /// A stream changes its state, and its owner is told.
    State,
    /// A stored fragment goes into the index.
    Fragment,
    /// Chat messages are accepted.
    Chat,
    /// Signals are appended to the log.
    Analyze,
    /// Decisions are committed with their events.
    Fuse,
    /// A clip is cut.
    Clip,
    /// A clip's highlight becomes ready.
    Ready,
    /// A webhook is sent.
    Send,
    /// How a webhook went is noted.
    Note,
}

impl Stage {
    /// Every stage, in the order in which a highlight passes them.
    pub const ALL: [Stage; 10] = [
        Stage::Session,
        Stage::State,
        Stage::Fragment,
        Stage::Chat,
        Stage::Analyze,
        Stage::Fuse,
        Stage::Clip,
        Stage::Ready,
        Stage::Send,
        Stage::Note,
    ];

    /// How `CREST_CRASH_AT` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Session => "session",
            Stage::State => "state",
            Stage::Fragment => "fragment",
            Stage::Chat => "chat",
            Stage::Analyze => "analyze",
            Stage::Fuse => "fuse",
            Stage::Clip => "clip",
            Stage::Ready => "ready",
            Stage::Send => "send",
            Stage::Note => "note",
        }
    }
}

/// Runs `step` between the two places of its stage.
pub async fn around<T>(stage: Stage, step: impl Future<Output = T>) -> T {
    #[cfg(debug_assertions)]
    reached(stage, "before");
    let done = step.await;
    #[cfg(debug_assertions)]
    reached(stage, "after");
    #[cfg(not(debug_assertions))]
    let _ = stage;
    done
}

#[cfg(debug_assertions)]
fn reached(stage: Stage, side: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Stage, side, and at which call.
    static PLACE: LazyLock<Option<(String, String, u32)>> = LazyLock::new(|| {
        let place = std::env::var("CREST_CRASH_AT").ok()?;
        let mut words = place.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next()?, words.next()?.parse().ok()?))
    });
    static CALLS: AtomicU32 = AtomicU32::new(0);

    let Some((at, on, call)) = &*PLACE else { return };
    if at == stage.name() && on == side && CALLS.fetch_add(1, Ordering::SeqCst) + 1 == *call {
        // Nothing is flushed, closed or dropped; threads stop where they are.
        std::process::abort();
    }
}
