//! Webhook endpoints and deliveries.

use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::id::{EndpointId, EventId, OrganizationId, WebhookId};
use crate::time::WallTime;
use crate::trace::Trace;

/// An address that a tenant wants events sent to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Where to.
    pub url: String,
    /// The types it wants; empty means all.
    pub events: Vec<EventType>,
    /// Highlights that score below are not told to it.
    pub min_score: Option<f64>,
    /// The signing secret, `whsec_...`.
    pub secret: String,
    /// When it was created.
    pub created_at: WallTime,
}

impl Endpoint {
    /// Whether this endpoint wants an event of that type and score.
    pub fn wants(&self, event_type: EventType, score: Option<f64>) -> bool {
        let type_wanted = self.events.is_empty() || self.events.contains(&event_type);
        let score_wanted = match (self.min_score, score) {
            (Some(min), Some(score)) => score >= min,
            _ => true,
        };
        type_wanted && score_wanted
    }
}

/// `pending -> delivered | failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be sent, or sent again.
    Pending,
    /// Answered with a 2xx.
    Delivered,
    /// Every attempt failed.
    Failed,
}

impl DeliveryState {
    /// Its name in the API and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|s| s.name() == name)
    }
}

/// One event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The `webhook-id` header; the same on each attempt.
    pub id: WebhookId,
    /// The event.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Counts the endpoint's events from 1 without a gap.
    pub sequence: u64,
    /// The frozen body.
    pub body: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt_at: WallTime,
    /// What the last attempt met: a status or an error.
    pub last_outcome: Option<String>,
    /// When it was committed.
    pub created_at: WallTime,
}

/// In which order, and how many at a time, deliveries are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryOrder {
    /// An endpoint's later events wait for one that is refused, at least for so many attempts,
    pub attempts: u32,
    /// and at least until it is so old, in milliseconds. Then it steps aside: the receiver refuses it,
    /// and not everything.
    pub millis: i64,
    /// Deliveries of one organization under way at a time: receivers of one tenant that hang leave
    /// room for everybody else's.
    pub per_organization: u32,
}

/// A delivery that this process may attempt until its lease runs out.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedDelivery {
    /// What to send.
    pub delivery: Delivery,
    /// Where to send it and how to sign it.
    pub endpoint: Endpoint,
    /// When the lease runs out. It tells this lease from a later one.
    pub leased_until: WallTime,
    /// What it follows from.
    pub trace: Option<Trace>,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Answered with a 2xx.
    Delivered {
        /// The status.
        status: u16,
    },
    /// To be tried again at `at`.
    Retry {
        /// When.
        at: WallTime,
        /// What happened.
        reason: String,
    },
    /// Not to be tried again.
    GaveUp {
        /// What happened.
        reason: String,
    },
}
