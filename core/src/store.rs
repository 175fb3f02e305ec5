//! What must not be forgotten. One trait per concern; a database implements them all.
//!
//! Every method that changes something is one transaction. Methods that take an organization never
//! show or touch what belongs to another: to them it does not exist.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

use crate::bus::Partition;
use crate::error::Result;
use crate::event::Event;
use crate::highlight::{Decision, HighlightState, StoredHighlight};
use crate::id::{EndpointId, EventId, HighlightId, JobId, OrganizationId, StreamId};
use crate::instance::{Instance, InstanceId};
use crate::job::{Job, JobKind};
use crate::segment::Fragment;
use crate::stream::{ForwardStatus, SessionRow, Stream, StreamState};
use crate::time::{MediaTime, Session, WallTime};
use crate::trace::Trace;
use crate::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where the previous page ended, as it was handed out.
    pub after: Option<String>,
    /// At most so many items.
    pub limit: u32,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Whether it is the operator: the first one.
    pub operator: bool,
}

/// Tenants and their API keys. Keys are kept as SHA-256 only.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// Makes the operator's organization exist with `api_key` (adding the key where it is new), and
    /// returns it. `None` leaves an existing one as it is and, where there is none, answers `None`.
    async fn bootstrap(&self, api_key: Option<&str>, now: WallTime) -> Result<Option<Organization>>;
    /// Creates a tenant with its first key.
    async fn create_organization(&self, name: &str, api_key: &str, now: WallTime) -> Result<Organization>;
    /// The tenant a key belongs to.
    async fn organization_of_key(&self, api_key: &str) -> Result<Option<Organization>>;
}

/// Streams and sessions.
#[async_trait]
pub trait Streams: Send + Sync {
    /// Adds a stream.
    async fn create_stream(&self, stream: &Stream) -> Result<()>;
    /// One stream of a tenant.
    async fn stream(&self, organization: &OrganizationId, id: &StreamId) -> Result<Option<Stream>>;
    /// A tenant's streams, newest first.
    async fn streams(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Stream>>;
    /// The stream that a publisher may feed with this key. How long it takes says nothing about keys there are.
    async fn stream_of_key(&self, stream_key: &str) -> Result<Option<Stream>>;
    /// Gives a stream of a tenant another key, and answers the stream; the key before opens nothing from then
    /// on. `None` where there is no such stream; a conflict where it is over.
    async fn rotate_stream_key(
        &self,
        organization: &OrganizationId,
        id: &StreamId,
        stream_key: &str,
    ) -> Result<Option<Stream>>;
    /// All tenants' streams in one of these states.
    async fn streams_in(&self, states: &[StreamState]) -> Result<Vec<Stream>>;
    /// How many of an organization's streams are pulled and not over: each is work whether its source is there or not.
    async fn open_pulls(&self, organization: &OrganizationId) -> Result<u64>;
    /// Says why a stream that is not live is not, without a step: it waits for a source that cannot be had.
    /// Changes nothing where the stream is live or over.
    async fn explain_stream(&self, id: &StreamId, reason: &str, now: WallTime) -> Result<()>;
    /// Notes how the servers are doing that a stream is relayed to; an earlier note goes.
    async fn note_forwards(&self, id: &StreamId, statuses: &[ForwardStatus]) -> Result<()>;
    /// Moves a stream to `to` if that is legal, keeps the step in its history, and commits `events`
    /// with it. `false`, and nothing changed, where the stream is there already. With a `session`, only
    /// while that is the stream's latest: later on somebody else feeds it, and the step is a conflict.
    async fn transition_stream(
        &self,
        id: &StreamId,
        session: Option<Session>,
        to: StreamState,
        reason: Option<&str>,
        now: WallTime,
        events: &[Event],
    ) -> Result<bool>;
    /// Allocates the stream's next session, fed by `instance`; every earlier one is over.
    async fn start_session(&self, id: &StreamId, started_at: WallTime, instance: &InstanceId) -> Result<Session>;
    /// Notes where a session ended.
    async fn end_session(&self, id: &StreamId, session: Session, ended_at: MediaTime) -> Result<()>;
    /// A stream's sessions, oldest first.
    async fn sessions(&self, id: &StreamId) -> Result<Vec<SessionRow>>;
}

/// The index of stored media.
#[async_trait]
pub trait MediaIndex: Send + Sync {
    /// Adds a fragment; adding it again changes nothing.
    async fn add_fragment(&self, fragment: &Fragment) -> Result<()>;
    /// The fragments of a session that overlap `[from, to)`, in order, and the one before the first
    /// as far back as the nearest that starts at a keyframe.
    async fn fragments(
        &self,
        stream: &StreamId,
        session: Session,
        from: MediaTime,
        to: MediaTime,
    ) -> Result<Vec<Fragment>>;
    /// Where a session's stored media ends so far.
    async fn stored_to(&self, stream: &StreamId, session: Session) -> Result<Option<MediaTime>>;
    /// The oldest segment files, with the wall-clock time of their end, that no undecided, final or
    /// unfinished highlight needs, with `margin` kept on either side of it; at most `limit`.
    async fn removable_segments(&self, limit: u32, margin: MediaTime) -> Result<Vec<StoredSegment>>;
    /// Forgets a segment file's fragments.
    async fn forget_segment(&self, object: &str) -> Result<()>;
}

/// A segment file as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// Object key.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// Wall-clock time of its last frame.
    pub ended_at: WallTime,
}

/// Fusion's memory of one stream at an offset of its partition of the signals log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream_id: StreamId,
    /// The last offset that is in the state.
    pub offset: u64,
    /// Version of the state's encoding.
    pub version: u32,
    /// The state.
    pub state: Vec<u8>,
}

/// The right to commit what follows from a partition of the signals log. There is one at a time: a later
/// one makes an earlier one void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// Counts the claims to it from 1.
    pub epoch: u64,
}

/// What was committed from a partition of the signals log before it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// Every snapshot of the partition's streams, by stream id.
    pub snapshots: Vec<Snapshot>,
    /// The offset up to and with which nothing needs to be read again.
    pub offset: Option<u64>,
}

/// A decision, and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// The event that tells it, if one does.
    pub event: Option<Event>,
    /// What it follows from.
    pub trace: Option<Trace>,
}

/// What fusion commits at once from one partition: decisions with their events, and the state they left
/// behind.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionCommit {
    /// In whose right.
    pub claim: Claim,
    /// Decisions in order.
    pub decisions: Vec<Decided>,
    /// Snapshots to keep, replacing those of the same stream.
    pub snapshots: Vec<Snapshot>,
    /// Streams that are over and whose snapshots can go.
    pub finished: Vec<StreamId>,
    /// Every record of the partition up to and with this offset is in a snapshot or over.
    pub offset: Option<u64>,
}

impl FusionCommit {
    /// With nothing in it yet.
    pub fn new(claim: Claim) -> Self {
        Self { claim, decisions: Vec::new(), snapshots: Vec::new(), finished: Vec::new(), offset: None }
    }
}

/// What became of a commit of fusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// It is kept.
    Kept,
    /// Nothing was changed: somebody else has claimed the partition since.
    Fenced,
}

/// Which highlights are wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HighlightFilter {
    /// Of this stream only.
    pub stream: Option<StreamId>,
    /// In this state only; without it, all but the deleted.
    pub state: Option<HighlightState>,
}

/// What was made of a highlight.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipResult {
    /// Object key of the clip, if there is media to cut.
    pub clip: Option<String>,
    /// Object key of the thumbnail, if there is a picture.
    pub thumbnail: Option<String>,
    /// Media time of the clip's first frame.
    pub clip_start: MediaTime,
    /// Length of the clip.
    pub clip_duration: MediaTime,
}

/// Highlights, and fusion's memory.
#[async_trait]
pub trait Highlights: Send + Sync {
    /// Claims a partition of the signals log for `instance` and returns what was committed from it. What
    /// is committed in the right of an earlier claim is refused from now on.
    async fn claim_partition(&self, partition: Partition, instance: &InstanceId, now: WallTime) -> Result<Claimed>;
    /// Commits decisions, their events in the outbox, clip jobs for what is final, and snapshots, in
    /// one transaction. A decision that is there already (same id and revision, or a later one) and
    /// its event are left as they are.
    async fn commit_fusion(&self, commit: &FusionCommit, now: WallTime) -> Result<Committed>;
    /// One highlight of a tenant.
    async fn highlight(&self, organization: &OrganizationId, id: &HighlightId) -> Result<Option<StoredHighlight>>;
    /// A tenant's highlights, newest first.
    async fn highlights(
        &self,
        organization: &OrganizationId,
        filter: &HighlightFilter,
        page: &Page,
    ) -> Result<Paged<StoredHighlight>>;
}

/// Background work.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Takes a job that is due, or whose worker's lease ran out, and leases it until `until`.
    async fn lease_job(&self, kind: JobKind, now: WallTime, until: WallTime) -> Result<Option<Job>>;
    /// Leases a job that is still worked on for longer, until `until`. `false`, and nothing changed, where
    /// another worker has leased it since or it is over. May be repeated where its outcome is not known.
    async fn renew_job(&self, job: &Job, until: WallTime) -> Result<bool>;
    /// Puts a job back for `at`. Where nothing was attempted, because something is still waited for,
    /// the attempt is not counted. Nothing happens where another worker has leased it since.
    async fn requeue_job(&self, job: &Job, at: WallTime, reason: &str, attempted: bool) -> Result<()>;
    /// Marks a clip job done, its highlight ready, and commits the event. Nothing happens where it is done.
    async fn finish_clip(&self, job: &Job, result: &ClipResult, event: &Event) -> Result<()>;
    /// Marks a clip job and its highlight failed, and commits the event. Nothing happens where another
    /// worker has leased it since.
    async fn fail_clip(&self, job: &Job, reason: &str, event: &Event) -> Result<()>;
    /// Marks a job not wanted any more.
    async fn cancel_job(&self, id: &JobId, reason: &str) -> Result<()>;
}

/// Webhook endpoints and the outbox.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Adds an endpoint; it receives what is committed from now on.
    async fn create_endpoint(&self, endpoint: &Endpoint) -> Result<()>;
    /// One endpoint of a tenant.
    async fn endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<Option<Endpoint>>;
    /// A tenant's endpoints, newest first.
    async fn endpoints(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Endpoint>>;
    /// Removes an endpoint and what is still to be sent to it. `false` where there is none.
    async fn delete_endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<bool>;
    /// An endpoint's deliveries, newest first.
    async fn deliveries(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Paged<Delivery>>;
    /// Leases deliveries that are due until `until`: for each endpoint one, the pending one with the
    /// lowest sequence, so that events arrive in order and a slow endpoint delays no other. One that
    /// was refused for long steps aside, as `order` says, and holds the later ones up no longer.
    async fn lease_deliveries(
        &self,
        now: WallTime,
        until: WallTime,
        limit: u32,
        order: &DeliveryOrder,
    ) -> Result<Vec<LeasedDelivery>>;
    /// Notes how an attempt went and gives the lease back. Nothing happens where another worker has leased
    /// it since.
    async fn finish_attempt(&self, leased: &LeasedDelivery, outcome: &AttemptOutcome, now: WallTime) -> Result<()>;
    /// Deliveries still to be sent, and when the oldest of them was committed.
    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)>;
}

/// An event where it stands among its tenant's.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionedEvent {
    /// Counts the tenant's events from 1 in the order of their commits, without a gap.
    pub position: u64,
    /// The event.
    pub event: Event,
}

/// Events as those read them who go on from a position.
#[async_trait]
pub trait Events: Send + Sync {
    /// The position of each tenant's last event, also where that one was pruned since; 0 before the
    /// first. Tenants that do not exist are left out.
    async fn last_positions(&self, organizations: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>>;
    /// The id of the event at a position; `None` where it was pruned or is yet to come.
    async fn event_at(&self, organization: &OrganizationId, position: u64) -> Result<Option<EventId>>;
    /// The first events after a position, at most `limit`, in order.
    async fn events_after(&self, organization: &OrganizationId, after: u64, limit: u32)
    -> Result<Vec<PositionedEvent>>;
}

/// How many rows a round of pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Deliveries that are over.
    pub deliveries: u64,
    /// Jobs that are over.
    pub jobs: u64,
    /// Steps of streams' histories.
    pub steps: u64,
    /// Whether the limit ended the round: another one would find more.
    pub more: bool,
}

/// Keeping what is kept small.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Removes what is over and older than `before`, of each kind at most `limit` rows: events that no
    /// delivery and no unfinished highlight needs, finished deliveries and jobs, and steps of streams'
    /// histories but the last. Highlights, streams and sessions stay.
    async fn prune(&self, before: WallTime, limit: u32) -> Result<Pruned>;
}

/// The processes that share the store.
#[async_trait]
pub trait Instances: Send + Sync {
    /// Notes that a process is there, and what it does.
    async fn beat(&self, instance: &Instance) -> Result<()>;
    /// Every process that was heard of, by id.
    async fn instances(&self) -> Result<Vec<Instance>>;
    /// Forgets a process that was not heard of since `before`, unless a stream that goes on is its own.
    async fn forget_instances(&self, before: WallTime) -> Result<u64>;
}

/// The whole store.
#[async_trait]
pub trait Store: Tenants + Streams + MediaIndex + Highlights + Jobs + Webhooks + Events + Instances + Upkeep {
    /// Answers when the database does.
    async fn ping(&self) -> Result<()>;
    /// Frees what a process that is gone had leased, where the database belongs to one process at a
    /// time; elsewhere leases run out.
    async fn take_over(&self) -> Result<()> {
        Ok(())
    }
    /// Waits for what is running and closes the connections. Not needed for anything to be kept.
    async fn close(&self);
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;
