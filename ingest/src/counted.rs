//! What is there right now, in the metrics.

/// One of whatever a gauge counts, until it is dropped, even if its task panics.
pub(crate) struct Counted(metrics::Gauge);

impl Counted {
    /// One more in the gauge of this name.
    pub(crate) fn new(gauge: &'static str) -> Self {
        let gauge = metrics::gauge!(gauge);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
