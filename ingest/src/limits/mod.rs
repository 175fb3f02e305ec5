//! What feeds may take, and what becomes of one that takes more: it is refused, or cut off before what is too
//! much was stored or decoded. The others do not notice.

mod config;
mod gate;
mod ledger;
mod meter;

pub use config::LimitsConfig;
pub(crate) use gate::Gate;
pub(crate) use ledger::{Ledger, Permit};
pub(crate) use meter::Bucket;

/// More than may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The limit's name in metrics and logs.
    pub(crate) limit: &'static str,
    /// What is too much, which setting says so, and what to do: for the stream's owner.
    pub(crate) reason: String,
}

impl Excess {
    fn new(limit: &'static str, reason: impl Into<String>) -> Self {
        Self { limit, reason: reason.into() }
    }

    /// Counts it.
    pub(crate) fn count(&self) {
        metrics::counter!("crest_feeds_refused_total", "cause" => self.limit).increment(1);
    }
}
