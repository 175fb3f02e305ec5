//! What followers are doing, as `/metrics` shows it: `crest_chat_followers` by platform and state.

/// One follower's place in the gauge; it is taken out when this is dropped.
pub(super) struct Shown {
    platform: &'static str,
    state: &'static str,
}

impl Shown {
    /// A follower that has just begun.
    pub(super) fn new(platform: &'static str) -> Self {
        let shown = Self { platform, state: "connecting" };
        shown.count(1.0);
        shown
    }

    /// It is in this state from now on; whether it was in another one.
    pub(super) fn set(&mut self, state: &'static str) -> bool {
        let changed = self.state != state;
        if changed {
            self.count(-1.0);
            self.state = state;
            self.count(1.0);
        }
        changed
    }

    fn count(&self, by: f64) {
        metrics::gauge!("crest_chat_followers", "platform" => self.platform, "state" => self.state).increment(by);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.count(-1.0);
    }
}
