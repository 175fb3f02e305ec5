//! Leases deliveries that are due and has them sent, side by side.
//!
//! The store leases one delivery per endpoint at a time, the oldest first: events reach an endpoint
//! in order, and one that is slow holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use crest_core::crash::{Stage, around};
use crest_core::store::SharedStore;
use crest_core::webhook::{AttemptOutcome, LeasedDelivery};
use crest_core::{Result, WallTime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::request::Sender;
use super::schedule;
use crate::config::WebhooksConfig;
use crate::{millis, now};

/// How much longer than an exchange a lease lasts: time to note how it went.
const MARGIN: Duration = Duration::from_secs(5);
/// How long requests under way may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How soon an outcome that could not be noted is noted again.
const AGAIN: Duration = Duration::from_millis(250);

/// Sends the outbox.
pub(crate) struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    store: SharedStore,
    sender: Sender,
    config: WebhooksConfig,
}

impl Worker {
    /// Fails where TLS cannot be set up.
    pub(crate) fn new(store: SharedStore, config: WebhooksConfig) -> Result<Self> {
        let sender = Sender::new(&config)?;
        Ok(Self { shared: Arc::new(Shared { store, sender, config }) })
    }

    /// Works until `shutdown`, then lets what is under way finish for a moment; what does not make
    /// it is attempted again when its lease has run out.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            self.fill(&mut running).await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                // The endpoint's next event may be due at once.
                Some(ended) = running.join_next() => report(ended),
                () = sleep(self.shared.config.poll.0) => {}
            }
        }
        let drained = timeout(DRAIN, async {
            while let Some(ended) = running.join_next().await {
                report(ended);
            }
        });
        if drained.await.is_err() {
            tracing::info!(count = running.len(), "webhooks under way were left; they are sent again after the start");
        }
    }

    /// Leases as much as there are free slots.
    async fn fill(&self, running: &mut JoinSet<()>) {
        let Shared { store, config, .. } = &*self.shared;
        let free = config.concurrency.saturating_sub(running.len());
        if free == 0 {
            return;
        }
        let from = now();
        let until = from.plus_millis(millis(config.timeout.0.saturating_add(MARGIN)));
        match store.lease_deliveries(from, until, u32::try_from(free).unwrap_or(u32::MAX), &config.order()).await {
            Ok(leased) => {
                for delivery in leased {
                    let shared = Arc::clone(&self.shared);
                    running.spawn(async move { shared.attempt(delivery, until).await });
                }
            }
            Err(error) => tracing::warn!(%error, "webhooks that are due cannot be read; trying again"),
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "sending a webhook ended abnormally; please report this");
    }
}

impl Shared {
    async fn attempt(&self, leased: LeasedDelivery, until: WallTime) {
        let delivery = &leased.delivery;
        let answer = around(Stage::Send, self.sender.send(&leased, now())).await;
        let at = now();
        let outcome = schedule::decide(&answer, delivery, &self.config, at);
        let name = match &outcome {
            AttemptOutcome::Delivered { .. } => {
                let took = at.0.saturating_sub(delivery.created_at.0).max(0);
                metrics::histogram!("crest_webhook_delivery_seconds").record(took as f64 / 1000.0);
                "delivered"
            }
            AttemptOutcome::Retry { at, reason } => {
                tracing::debug!(webhook_id = %delivery.id, endpoint_id = %delivery.endpoint_id, %reason, next = %at,
                    "a webhook was not taken; trying again");
                "retry"
            }
            AttemptOutcome::GaveUp { reason } => {
                tracing::warn!(webhook_id = %delivery.id, endpoint_id = %delivery.endpoint_id, %reason,
                    "a webhook was given up");
                "gave_up"
            }
        };
        metrics::counter!("crest_webhook_attempts_total", "outcome" => name).increment(1);
        self.note(&leased, &outcome, until).await;
    }

    /// Notes the outcome, again and again while the lease lasts: forgetting it would send the event
    /// twice.
    async fn note(&self, leased: &LeasedDelivery, outcome: &AttemptOutcome, until: WallTime) {
        let id = &leased.delivery.id;
        loop {
            let noted = around(Stage::Note, self.store.finish_attempt(leased, outcome, now())).await;
            let Err(error) = noted else { return };
            let over = !error.retryable || now().plus_millis(millis(AGAIN)) >= until;
            let endpoint = &leased.delivery.endpoint_id;
            tracing::warn!(webhook_id = %id, endpoint_id = %endpoint, %error, over, "how a webhook went cannot be noted");
            if over {
                return;
            }
            sleep(AGAIN).await;
        }
    }
}
