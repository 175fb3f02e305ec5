//! Who has taken how much: of this process, and of each tenant.

use crest_core::{OrganizationId, StreamId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Excess, LimitsConfig};

/// Streams that are remembered as cut off; beyond it the one that was cut off first is forgotten.
const MOST: usize = 1024;

/// What a feed takes per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) pixels: u64,
    pub(crate) bits: u64,
}

/// What is taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    feeds: usize,
    rate: Rate,
}

#[derive(Debug, Default)]
struct Books {
    all: Taken,
    /// Tenants that have feeds.
    tenants: HashMap<OrganizationId, Taken>,
    /// When streams were cut off, and why.
    cut_off: HashMap<StreamId, (Instant, String)>,
}

/// Keeps account of all feeds of this process.
#[derive(Debug)]
pub(crate) struct Ledger {
    config: LimitsConfig,
    books: Mutex<Books>,
}

/// A feed's part of what may be taken. Dropping it gives everything back.
#[derive(Debug)]
pub(crate) struct Permit {
    ledger: Arc<Ledger>,
    /// `None` for the operator, who has no quotas.
    tenant: Option<OrganizationId>,
    rate: Rate,
}

impl Ledger {
    pub(crate) fn new(config: LimitsConfig) -> Arc<Self> {
        Arc::new(Self { config, books: Mutex::default() })
    }

    /// Lets in one more feed; `tenant` is `None` for the operator. Its rates are not known yet: it is refused
    /// where nothing is left of one.
    pub(crate) fn admit(self: &Arc<Self>, tenant: Option<&OrganizationId>) -> Result<Permit, Excess> {
        let mut books = self.lock();
        let least = Taken { feeds: 1, rate: Rate { pixels: 1, bits: 1 } };
        self.fits(&books, tenant, Rate::default(), least)?;
        books.change(tenant, |taken| taken.feeds += 1);
        drop(books);
        Ok(Permit { ledger: Arc::clone(self), tenant: tenant.cloned(), rate: Rate::default() })
    }

    /// Remembers that a stream's feed was cut off, so that it does not come back at once.
    pub(crate) fn note_cut_off(&self, stream: &StreamId, excess: &Excess) {
        let mut books = self.lock();
        if books.cut_off.len() >= MOST && !books.cut_off.contains_key(stream) {
            let oldest = books.cut_off.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| id.clone());
            oldest.map(|oldest| books.cut_off.remove(&oldest));
        }
        books.cut_off.insert(stream.clone(), (Instant::now(), excess.reason.clone()));
    }

    /// Refuses a stream whose feed was cut off a moment ago.
    pub(crate) fn may_return(&self, stream: &StreamId) -> Result<(), Excess> {
        let pause = self.config.pause.0;
        let mut books = self.lock();
        books.cut_off.retain(|_, (at, _)| at.elapsed() < pause);
        books.cut_off.get(stream).map_or(Ok(()), |(_, reason)| {
            let pause = pause.as_secs_f64();
            Err(Excess::new("cut_off", format!("{reason}; it is taken again {pause} s after that (limits.pause)")))
        })
    }

    /// Whether `wanted` can be taken by whoever has `has` already. What falls always fits: nothing was granted
    /// beyond a limit.
    fn fits(&self, books: &Books, tenant: Option<&OrganizationId>, has: Rate, wanted: Taken) -> Result<(), Excess> {
        let (c, all) = (&self.config, books.all);
        let own = tenant.map(|tenant| books.tenants.get(tenant).copied().unwrap_or_default());
        let feeds = |limit: usize, taken: Taken| limit > 0 && taken.feeds + wanted.feeds > limit;
        let over = |limit: u64, taken: u64, has: u64, wanted: u64| {
            limit > 0 && taken.saturating_sub(has).saturating_add(wanted) > limit
        };
        let pixels = |limit, taken: Taken| over(limit, taken.rate.pixels, has.pixels, wanted.rate.pixels);
        let bits = |limit, taken: Taken| over(limit, taken.rate.bits, has.bits, wanted.rate.bits);
        let mine = [
            ("tenant_feeds", own.is_some_and(|own| feeds(c.tenant_feeds, own))),
            ("tenant_pixels_per_second", own.is_some_and(|own| pixels(c.tenant_pixels_per_second, own))),
            ("tenant_bits_per_second", own.is_some_and(|own| bits(c.tenant_bits_per_second, own))),
        ];
        if let Some((limit, _)) = mine.into_iter().find(|(_, over)| *over) {
            let reason = "your organization's feeds have reached their limit";
            let todo = "stop another stream, or send less";
            return Err(Excess::new(limit, format!("{reason} (limits.{limit}); {todo}")));
        }
        let everybodys = [
            ("feeds", feeds(c.feeds, all)),
            ("pixels_per_second", pixels(c.pixels_per_second, all)),
            ("bits_per_second", bits(c.bits_per_second, all)),
        ];
        if let Some((limit, _)) = everybodys.into_iter().find(|(_, over)| *over) {
            return Err(Excess::new(limit, format!("the server is full (limits.{limit}); try again later")));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn change(&mut self, tenant: Option<&OrganizationId>, change: impl Fn(&mut Taken)) {
        change(&mut self.all);
        if let Some(tenant) = tenant {
            let taken = self.tenants.entry(tenant.clone()).or_default();
            change(taken);
            if *taken == Taken::default() {
                self.tenants.remove(tenant);
            }
        }
    }
}

impl Permit {
    /// What it has claimed.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// The limits that it is under.
    pub(crate) fn config(&self) -> &LimitsConfig {
        &self.ledger.config
    }

    /// Claims `rate` instead of what it has. Giving back always succeeds; where there is not so much, it keeps
    /// what it has.
    pub(crate) fn claim(&mut self, rate: Rate) -> Result<(), Excess> {
        let (mut books, had) = (self.ledger.lock(), self.rate);
        self.ledger.fits(&books, self.tenant.as_ref(), had, Taken { feeds: 0, rate })?;
        books.change(self.tenant.as_ref(), |taken| {
            taken.rate.pixels = taken.rate.pixels.saturating_sub(had.pixels).saturating_add(rate.pixels);
            taken.rate.bits = taken.rate.bits.saturating_sub(had.bits).saturating_add(rate.bits);
        });
        self.rate = rate;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let had = self.rate;
        self.ledger.lock().change(self.tenant.as_ref(), |taken| {
            taken.feeds = taken.feeds.saturating_sub(1);
            taken.rate.pixels = taken.rate.pixels.saturating_sub(had.pixels);
            taken.rate.bits = taken.rate.bits.saturating_sub(had.bits);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "ledger_tests.rs"]
mod tests;
