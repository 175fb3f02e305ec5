//! Settings of the delivering role.

use std::time::Duration;

use bytesize::ByteSize;
use crest_core::units::Span;
use crest_core::webhook::DeliveryOrder;
use crest_core::{Error, Result};
use serde::Deserialize;

/// How webhooks are sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Whether endpoints may lie on private and local addresses. Off: every tenant could otherwise
    /// reach what the operator's network hides.
    pub allow_private: bool,
    /// Pauses between attempts, each spread by up to 20 % either way. One attempt more than pauses.
    pub retry: Vec<Span>,
    /// The longest pause that an endpoint may ask for by `Retry-After`.
    pub retry_after_max: Span,
    /// Limit of one whole exchange: name, connection, request, answer.
    pub timeout: Span,
    /// Most requests under way at once, over all endpoints; one at a time to each.
    pub concurrency: usize,
    /// An endpoint's later events wait for one that is refused until it was attempted so often
    pub in_order_attempts: u32,
    /// and is so old; then it steps aside and the later ones go on.
    pub in_order: Span,
    /// Most requests under way at once to the endpoints of one organization.
    pub per_organization: u32,
    /// Most bytes read of an answer's body.
    pub response_bytes: usize,
    /// How often the outbox is asked for what is due.
    pub poll: Span,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let pauses = [5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR];
        Self {
            allow_private: false,
            retry: pauses.into_iter().map(Span::secs).collect(),
            retry_after_max: Span::secs(HOUR),
            timeout: Span::secs(15),
            concurrency: 64,
            in_order_attempts: 4,
            in_order: Span::secs(10 * MINUTE),
            per_organization: 8,
            response_bytes: 64 * 1024,
            poll: Span(Duration::from_millis(100)),
        }
    }
}

impl WebhooksConfig {
    pub(crate) fn check(&self) -> Result<()> {
        positive("webhooks.timeout", self.timeout)?;
        positive("webhooks.poll", self.poll)?;
        at_least_one("webhooks.per_organization", self.per_organization as usize)?;
        at_least_one("webhooks.concurrency", self.concurrency)
    }

    /// How deliveries are leased.
    pub(crate) fn order(&self) -> DeliveryOrder {
        DeliveryOrder {
            attempts: self.in_order_attempts,
            millis: crate::millis(self.in_order.0),
            per_organization: self.per_organization,
        }
    }
}

/// How clips are cut.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipsConfig {
    /// How much of what came before a highlight its clip shows.
    pub before: Span,
    /// How much of what came after.
    pub after: Span,
    /// Clips cut at the same time.
    pub workers: usize,
    /// How long a clip waits for media that has not been stored yet, from when its job is first
    /// seen; afterwards it is cut from what there is.
    pub max_wait: Span,
    /// How often cutting is tried.
    pub attempts: u32,
    /// How often due jobs, and media that a clip waits for, are looked for.
    pub poll: Span,
    /// Most bytes of stored media that are fetched for one clip, where media does not lie in the data
    /// directory.
    pub scratch: ByteSize,
}

impl Default for ClipsConfig {
    fn default() -> Self {
        Self {
            before: Span::secs(2),
            after: Span::secs(2),
            workers: 2,
            max_wait: Span::secs(30),
            attempts: 3,
            poll: Span(Duration::from_millis(200)),
            scratch: ByteSize::gib(1),
        }
    }
}

impl ClipsConfig {
    pub(crate) fn check(&self) -> Result<()> {
        positive("clips.poll", self.poll)?;
        at_least_one("clips.workers", self.workers)?;
        at_least_one("clips.attempts", self.attempts as usize)
    }
}

fn positive(key: &str, span: Span) -> Result<()> {
    if span.0 < Duration::from_millis(1) {
        return Err(Error::user(format!("{key} must be at least 1ms")));
    }
    Ok(())
}

fn at_least_one(key: &str, number: usize) -> Result<()> {
    if number == 0 {
        return Err(Error::user(format!("{key} must be at least 1")));
    }
    Ok(())
}
