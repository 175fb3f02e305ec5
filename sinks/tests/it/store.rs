//! What the delivering role asks of a store, in memory. The whole system is tested over the real one.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use crest_core::bus::Partition;
use crest_core::event::{Event, EventType};
use crest_core::highlight::StoredHighlight;
use crest_core::instance::{Instance, InstanceId};
use crest_core::job::{Job, JobKind, JobState};
use crest_core::segment::Fragment;
use crest_core::store::*;
use crest_core::stream::{ForwardStatus, SessionRow, Stream, StreamState};
use crest_core::trace::Trace;
use crest_core::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::*;
use tokio::sync::Notify;

#[derive(Default)]
pub struct State {
    pub endpoints: Vec<Endpoint>,
    pub deliveries: Vec<Row<Delivery>>,
    /// How each attempt went, in order.
    pub outcomes: Vec<(WebhookId, AttemptOutcome)>,
    pub jobs: Vec<Row<(Job, JobState)>>,
    pub highlights: Vec<StoredHighlight>,
    pub sessions: Vec<SessionRow>,
    pub fragments: Vec<Fragment>,
    /// What became of jobs: the event or the reason.
    pub finished: Vec<(ClipResult, Event)>,
    pub failed: Vec<(String, Event)>,
    pub cancelled: Vec<String>,
    pub requeued: Vec<String>,
    /// What the deliveries follow from.
    pub trace: Option<Trace>,
    /// Errors that the next calls meet, whichever they are.
    pub faults: VecDeque<Error>,
}

pub struct Row<T> {
    pub value: T,
    pub due: WallTime,
    pub leased_until: WallTime,
}

#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
    changed: Notify,
}

impl Memory {
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        result
    }

    /// As `with`, unless a fault is planned.
    fn call<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.with(|state| state.faults.pop_front().map_or_else(|| Ok(look(state)), Err))
    }

    /// Waits until `holds`; fails the test where that takes very long.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let change = self.changed.notified();
                tokio::pin!(change);
                change.as_mut().enable();
                if holds(&self.state.lock().unwrap()) {
                    return;
                }
                change.await;
            }
        };
        let limit = Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, wait).await.is_ok(), "never happened: {what}");
    }

    /// Adds an endpoint with `count` events to be sent to it.
    pub fn endpoint(&self, name: &str, url: &str, secret: &str, count: u64) -> EndpointId {
        let (organization, id) = (OrganizationId::from_raw("org_a"), EndpointId::from_raw(format!("whe_{name}")));
        let (now, events) = (WallTime(1_795_000_000_000), Vec::new());
        self.with(|state| {
            state.endpoints.push(Endpoint {
                id: id.clone(),
                organization_id: organization.clone(),
                url: url.to_owned(),
                events,
                min_score: None,
                secret: secret.to_owned(),
                created_at: now,
            });
            for sequence in 1..=count {
                let data = serde_json::json!({"title": "Tor! ⚽", "number": sequence});
                let event = Event::new(organization.clone(), EventType::HighlightReady, "hl_a", sequence, now, data);
                let value = Delivery {
                    id: WebhookId::derive(&event.id, &id),
                    event_id: event.id.clone(),
                    event_type: event.event_type,
                    endpoint_id: id.clone(),
                    organization_id: organization.clone(),
                    sequence,
                    body: event.body(sequence),
                    state: DeliveryState::Pending,
                    attempts: 0,
                    next_attempt_at: now,
                    last_outcome: None,
                    created_at: now,
                };
                state.deliveries.push(Row { value, due: now, leased_until: WallTime(0) });
            }
        });
        id
    }
}

impl State {
    pub fn states(&self, endpoint: &EndpointId) -> Vec<DeliveryState> {
        let of = self.deliveries.iter().filter(|row| row.value.endpoint_id == *endpoint);
        of.map(|row| row.value.state).collect()
    }

    pub fn all(&self, endpoint: &EndpointId, wanted: DeliveryState) -> bool {
        self.states(endpoint).iter().all(|state| *state == wanted)
    }

    fn job(&mut self, id: &JobId) -> &mut Row<(Job, JobState)> {
        self.jobs.iter_mut().find(|row| row.value.0.id == *id).unwrap()
    }
}

#[async_trait]
impl Webhooks for Memory {
    async fn lease_deliveries(
        &self,
        now: WallTime,
        until: WallTime,
        limit: u32,
        _: &DeliveryOrder,
    ) -> Result<Vec<LeasedDelivery>> {
        self.call(|state| {
            let mut leased = Vec::new();
            for endpoint in &state.endpoints {
                let mut rows = state.deliveries.iter_mut();
                let first =
                    rows.find(|r| r.value.endpoint_id == endpoint.id && r.value.state == DeliveryState::Pending);
                let due = first.filter(|row| row.due <= now && row.leased_until <= now);
                if let Some(row) = due.filter(|_| leased.len() < limit as usize) {
                    row.leased_until = until;
                    leased.push(LeasedDelivery {
                        delivery: row.value.clone(),
                        endpoint: endpoint.clone(),
                        leased_until: until,
                        trace: state.trace,
                    });
                }
            }
            leased
        })
    }
    async fn finish_attempt(&self, leased: &LeasedDelivery, outcome: &AttemptOutcome, _: WallTime) -> Result<()> {
        let id = &leased.delivery.id;
        self.call(|state| {
            let row = state.deliveries.iter_mut().find(|row| row.value.id == *id).unwrap();
            if row.leased_until != leased.leased_until {
                return;
            }
            row.value.attempts += 1;
            row.leased_until = WallTime(0);
            match outcome {
                AttemptOutcome::Delivered { .. } => row.value.state = DeliveryState::Delivered,
                AttemptOutcome::Retry { at, .. } => row.due = *at,
                AttemptOutcome::GaveUp { .. } => row.value.state = DeliveryState::Failed,
            }
            state.outcomes.push((id.clone(), outcome.clone()));
        })
    }
    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)> {
        Ok((0, None))
    }
    async fn create_endpoint(&self, _: &Endpoint) -> Result<()> {
        unasked()
    }
    async fn endpoint(&self, _: &OrganizationId, _: &EndpointId) -> Result<Option<Endpoint>> {
        unasked()
    }
    async fn endpoints(&self, _: &OrganizationId, _: &Page) -> Result<Paged<Endpoint>> {
        unasked()
    }
    async fn delete_endpoint(&self, _: &OrganizationId, _: &EndpointId) -> Result<bool> {
        unasked()
    }
    async fn deliveries(
        &self,
        _: &OrganizationId,
        _: &EndpointId,
        _: Option<DeliveryState>,
        _: &Page,
    ) -> Result<Paged<Delivery>> {
        unasked()
    }
}

#[async_trait]
impl Jobs for Memory {
    async fn lease_job(&self, kind: JobKind, now: WallTime, until: WallTime) -> Result<Option<Job>> {
        self.call(|state| {
            let row = state.jobs.iter_mut().find(|row| {
                let (job, job_state) = &row.value;
                let free = match job_state {
                    JobState::Queued => row.due <= now,
                    JobState::Running => row.leased_until <= now,
                    _ => false,
                };
                free && job.kind == kind
            })?;
            row.leased_until = until;
            row.value.1 = JobState::Running;
            row.value.0.attempt += 1;
            row.value.0.leased_until = until;
            Some(row.value.0.clone())
        })
    }
    async fn renew_job(&self, job: &Job, until: WallTime) -> Result<bool> {
        self.call(|state| {
            let row = state.job(&job.id);
            let mine = matches!(row.value.1, JobState::Running) && row.leased_until == job.leased_until;
            if mine {
                row.leased_until = until;
                row.value.0.leased_until = until;
            }
            mine
        })
    }
    async fn requeue_job(&self, job: &Job, at: WallTime, reason: &str, attempted: bool) -> Result<()> {
        self.call(|state| {
            state.job(&job.id).due = at;
            state.job(&job.id).value.0.attempt -= u32::from(!attempted);
            state.job(&job.id).value.1 = JobState::Queued;
            state.requeued.push(reason.to_owned());
        })
    }
    async fn finish_clip(&self, job: &Job, result: &ClipResult, event: &Event) -> Result<()> {
        self.call(|state| {
            state.job(&job.id).value.1 = JobState::Done;
            state.finished.push((result.clone(), event.clone()));
        })
    }
    async fn fail_clip(&self, job: &Job, reason: &str, event: &Event) -> Result<()> {
        self.call(|state| {
            state.job(&job.id).value.1 = JobState::Failed;
            state.failed.push((reason.to_owned(), event.clone()));
        })
    }
    async fn cancel_job(&self, id: &JobId, reason: &str) -> Result<()> {
        self.call(|state| {
            state.job(id).value.1 = JobState::Cancelled;
            state.cancelled.push(reason.to_owned());
        })
    }
}

#[async_trait]
impl Highlights for Memory {
    async fn highlight(&self, organization: &OrganizationId, id: &HighlightId) -> Result<Option<StoredHighlight>> {
        self.call(|state| {
            let mut all = state.highlights.iter().map(|stored| (&stored.highlight, stored));
            all.find(|(h, _)| h.organization_id == *organization && h.id == *id).map(|(_, stored)| stored.clone())
        })
    }
    async fn claim_partition(&self, _: Partition, _: &InstanceId, _: WallTime) -> Result<Claimed> {
        unasked()
    }
    async fn commit_fusion(&self, _: &FusionCommit, _: WallTime) -> Result<Committed> {
        unasked()
    }
    async fn highlights(&self, _: &OrganizationId, _: &HighlightFilter, _: &Page) -> Result<Paged<StoredHighlight>> {
        unasked()
    }
}

#[async_trait]
impl MediaIndex for Memory {
    async fn fragments(&self, _: &StreamId, session: Session, from: MediaTime, to: MediaTime) -> Result<Vec<Fragment>> {
        self.call(|state| {
            let overlaps = |f: &&Fragment| f.session == session && f.end > from && f.start < to;
            state.fragments.iter().filter(overlaps).cloned().collect()
        })
    }
    async fn stored_to(&self, _: &StreamId, session: Session) -> Result<Option<MediaTime>> {
        self.call(|state| state.fragments.iter().filter(|f| f.session == session).map(|f| f.end).max())
    }
    async fn add_fragment(&self, _: &Fragment) -> Result<()> {
        unasked()
    }
    async fn removable_segments(&self, _: u32, _: MediaTime) -> Result<Vec<StoredSegment>> {
        unasked()
    }
    async fn forget_segment(&self, _: &str) -> Result<()> {
        unasked()
    }
}

#[async_trait]
impl Streams for Memory {
    async fn sessions(&self, _: &StreamId) -> Result<Vec<SessionRow>> {
        self.call(|state| state.sessions.clone())
    }
    async fn create_stream(&self, _: &Stream) -> Result<()> {
        unasked()
    }
    async fn stream(&self, _: &OrganizationId, _: &StreamId) -> Result<Option<Stream>> {
        unasked()
    }
    async fn streams(&self, _: &OrganizationId, _: &Page) -> Result<Paged<Stream>> {
        unasked()
    }
    async fn stream_of_key(&self, _: &str) -> Result<Option<Stream>> {
        unasked()
    }
    async fn streams_in(&self, _: &[StreamState]) -> Result<Vec<Stream>> {
        unasked()
    }
    async fn open_pulls(&self, _: &OrganizationId) -> Result<u64> {
        unasked()
    }
    async fn rotate_stream_key(&self, _: &OrganizationId, _: &StreamId, _: &str) -> Result<Option<Stream>> {
        unasked()
    }
    async fn explain_stream(&self, _: &StreamId, _: &str, _: WallTime) -> Result<()> {
        unasked()
    }
    async fn note_forwards(&self, _: &StreamId, _: &[ForwardStatus]) -> Result<()> {
        unasked()
    }
    async fn transition_stream(
        &self,
        _: &StreamId,
        _: Option<Session>,
        _: StreamState,
        _: Option<&str>,
        _: WallTime,
        _: &[Event],
    ) -> Result<bool> {
        unasked()
    }
    async fn start_session(&self, _: &StreamId, _: WallTime, _: &InstanceId) -> Result<Session> {
        unasked()
    }
    async fn end_session(&self, _: &StreamId, _: Session, _: MediaTime) -> Result<()> {
        unasked()
    }
}

#[async_trait]
impl Tenants for Memory {
    async fn bootstrap(&self, _: Option<&str>, _: WallTime) -> Result<Option<Organization>> {
        unasked()
    }
    async fn create_organization(&self, _: &str, _: &str, _: WallTime) -> Result<Organization> {
        unasked()
    }
    async fn organization_of_key(&self, _: &str) -> Result<Option<Organization>> {
        unasked()
    }
}

#[async_trait]
impl Events for Memory {
    async fn last_positions(&self, _: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>> {
        unasked()
    }
    async fn event_at(&self, _: &OrganizationId, _: u64) -> Result<Option<EventId>> {
        unasked()
    }
    async fn events_after(&self, _: &OrganizationId, _: u64, _: u32) -> Result<Vec<PositionedEvent>> {
        unasked()
    }
}

#[async_trait]
impl Upkeep for Memory {
    async fn prune(&self, _: WallTime, _: u32) -> Result<Pruned> {
        unasked()
    }
}

#[async_trait]
impl Instances for Memory {
    async fn beat(&self, _: &Instance) -> Result<()> {
        unasked()
    }
    async fn instances(&self) -> Result<Vec<Instance>> {
        unasked()
    }
    async fn forget_instances(&self, _: WallTime) -> Result<u64> {
        unasked()
    }
}

#[async_trait]
impl Store for Memory {
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) {}
}

/// The delivering role has no business here.
fn unasked<T>() -> Result<T> {
    Err(Error::ours("the delivering role does not ask this"))
}
