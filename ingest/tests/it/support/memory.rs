//! The store and the bus, in memory. What ingest never calls answers with an error.

use async_trait::async_trait;
use crest_core::bus::{Bus, Partition, Received, Record, Start, Subscription};
use crest_core::chat::ChatMessage;
use crest_core::event::Event;
use crest_core::highlight::StoredHighlight;
use crest_core::instance::{Instance, InstanceId};
use crest_core::job::{Job, JobKind};
use crest_core::sample::{AudioWindow, VideoBatch};
use crest_core::segment::Fragment;
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::store::*;
use crest_core::stream::{ForwardStatus, SessionRow, Stream, StreamState};
use crest_core::topic::Topic;
use crest_core::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::{
    EndpointId, Error, EventId, HighlightId, JobId, MediaTime, OrganizationId, Result, Session, StreamId, WallTime,
};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
struct Rows {
    streams: Vec<Stream>,
    sessions: Vec<SessionRow>,
    fragments: Vec<Fragment>,
    events: Vec<Event>,
    segments: Vec<StoredSegment>,
    full: bool,
    refused: u32,
}

#[derive(Default)]
pub struct MemoryStore(Mutex<Rows>);

impl MemoryStore {
    pub fn with(streams: Vec<Stream>) -> Self {
        Self(Mutex::new(Rows { streams, ..Rows::default() }))
    }
    /// From now on, or no longer, no change of state can be kept.
    pub fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }
    /// Changes of state that could not be kept.
    pub fn refused(&self) -> u32 {
        self.0.lock().unwrap().refused
    }
    pub fn set_segments(&self, segments: Vec<StoredSegment>) {
        self.0.lock().unwrap().segments = segments;
    }
    pub fn segments(&self) -> Vec<String> {
        self.0.lock().unwrap().segments.iter().map(|s| s.object.clone()).collect()
    }
    pub fn segment_bytes(&self) -> u64 {
        self.0.lock().unwrap().segments.iter().map(|s| s.bytes).sum()
    }
    pub fn add_session(&self, row: SessionRow) {
        self.0.lock().unwrap().sessions.push(row);
    }
    pub fn get(&self, id: &str) -> Stream {
        self.0.lock().unwrap().streams.iter().find(|s| s.id.as_str() == id).cloned().unwrap()
    }
    pub fn state(&self, id: &str) -> StreamState {
        self.get(id).state
    }
    pub fn all_sessions(&self) -> Vec<SessionRow> {
        self.0.lock().unwrap().sessions.clone()
    }
    pub fn all_fragments(&self) -> Vec<Fragment> {
        self.0.lock().unwrap().fragments.clone()
    }
    /// Names of the events, in the order of their commits.
    pub fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().events.iter().map(|e| e.event_type.name().to_owned()).collect()
    }
    pub fn reason(&self, event: &str) -> String {
        let rows = self.0.lock().unwrap();
        let event = rows.events.iter().rfind(|e| e.event_type.name() == event).unwrap();
        event.data["reason"].as_str().unwrap_or_default().to_owned()
    }
}

#[async_trait]
impl Streams for MemoryStore {
    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        self.0.lock().unwrap().streams.push(stream.clone());
        Ok(())
    }
    async fn stream(&self, _: &OrganizationId, id: &StreamId) -> Result<Option<Stream>> {
        Ok(self.0.lock().unwrap().streams.iter().find(|s| s.id == *id).cloned())
    }
    async fn streams(&self, _: &OrganizationId, _: &Page) -> Result<Paged<Stream>> {
        Err(unused())
    }
    async fn stream_of_key(&self, key: &str) -> Result<Option<Stream>> {
        Ok(self.0.lock().unwrap().streams.iter().find(|s| s.stream_key == key).cloned())
    }
    async fn streams_in(&self, states: &[StreamState]) -> Result<Vec<Stream>> {
        Ok(self.0.lock().unwrap().streams.iter().filter(|s| states.contains(&s.state)).cloned().collect())
    }
    async fn open_pulls(&self, _: &OrganizationId) -> Result<u64> {
        Err(unused())
    }
    async fn rotate_stream_key(&self, _: &OrganizationId, id: &StreamId, key: &str) -> Result<Option<Stream>> {
        let mut rows = self.0.lock().unwrap();
        let stream = rows.streams.iter_mut().find(|s| s.id == *id);
        Ok(stream.map(|stream| {
            stream.stream_key = key.to_owned();
            stream.clone()
        }))
    }
    async fn explain_stream(&self, id: &StreamId, reason: &str, _: WallTime) -> Result<()> {
        let waiting = |s: &&mut Stream| matches!(s.state, StreamState::Created | StreamState::Interrupted);
        if let Some(stream) = self.0.lock().unwrap().streams.iter_mut().filter(waiting).find(|s| s.id == *id) {
            stream.state_reason = Some(reason.to_owned());
        }
        Ok(())
    }
    async fn note_forwards(&self, id: &StreamId, statuses: &[ForwardStatus]) -> Result<()> {
        if let Some(stream) = self.0.lock().unwrap().streams.iter_mut().find(|s| s.id == *id) {
            stream.forwarded = statuses.to_vec();
        }
        Ok(())
    }
    async fn transition_stream(
        &self,
        id: &StreamId,
        session: Option<Session>,
        to: StreamState,
        reason: Option<&str>,
        now: WallTime,
        events: &[Event],
    ) -> Result<bool> {
        let mut rows = self.0.lock().unwrap();
        if rows.full {
            rows.refused += 1;
            return Err(Error::outside("the disk is full"));
        }
        let stream = rows.streams.iter_mut().find(|s| s.id == *id).ok_or_else(|| Error::not_found("stream"))?;
        if session.is_some() && session != stream.session {
            return Err(Error::conflict("there is a later session"));
        }
        if stream.state == to {
            return Ok(false);
        }
        if !stream.state.can_become(to) {
            return Err(Error::conflict(format!("{} -> {}", stream.state.name(), to.name())));
        }
        stream.state = to;
        stream.state_reason = reason.map(str::to_owned);
        stream.updated_at = now;
        rows.events.extend_from_slice(events);
        Ok(true)
    }
    async fn start_session(&self, id: &StreamId, started_at: WallTime, instance: &InstanceId) -> Result<Session> {
        let mut rows = self.0.lock().unwrap();
        let latest = rows.sessions.iter().filter(|s| s.stream_id == *id).map(|s| s.session.number()).max();
        let session = Session::new(latest.unwrap_or(0) + 1);
        rows.sessions.push(SessionRow { stream_id: id.clone(), session, started_at, ended_at: None });
        let stream = rows.streams.iter_mut().find(|s| s.id == *id).unwrap();
        (stream.session, stream.instance) = (Some(session), Some(instance.clone()));
        Ok(session)
    }
    async fn end_session(&self, id: &StreamId, session: Session, ended_at: MediaTime) -> Result<()> {
        let mut rows = self.0.lock().unwrap();
        let row = rows.sessions.iter_mut().find(|s| s.stream_id == *id && s.session == session);
        row.ok_or_else(|| Error::not_found("session"))?.ended_at = Some(ended_at);
        Ok(())
    }
    async fn sessions(&self, id: &StreamId) -> Result<Vec<SessionRow>> {
        Ok(self.0.lock().unwrap().sessions.iter().filter(|s| s.stream_id == *id).cloned().collect())
    }
}

#[async_trait]
impl MediaIndex for MemoryStore {
    async fn add_fragment(&self, fragment: &Fragment) -> Result<()> {
        let mut rows = self.0.lock().unwrap();
        if !rows.sessions.iter().any(|s| s.stream_id == fragment.stream_id && s.session == fragment.session) {
            return Err(Error::not_found("session"));
        }
        if !rows.fragments.iter().any(|f| f.object == fragment.object && f.offset == fragment.offset) {
            rows.fragments.push(fragment.clone());
        }
        Ok(())
    }
    async fn fragments(&self, _: &StreamId, _: Session, _: MediaTime, _: MediaTime) -> Result<Vec<Fragment>> {
        Err(unused())
    }
    async fn stored_to(&self, id: &StreamId, session: Session) -> Result<Option<MediaTime>> {
        let rows = self.0.lock().unwrap();
        Ok(rows.fragments.iter().filter(|f| f.stream_id == *id && f.session == session).map(|f| f.end).max())
    }
    async fn removable_segments(&self, limit: u32, _: MediaTime) -> Result<Vec<StoredSegment>> {
        Ok(self.0.lock().unwrap().segments.iter().take(limit as usize).cloned().collect())
    }
    async fn forget_segment(&self, object: &str) -> Result<()> {
        let mut rows = self.0.lock().unwrap();
        rows.segments.retain(|s| s.object != object);
        rows.fragments.retain(|f| f.object != object);
        Ok(())
    }
}

#[async_trait]
#[rustfmt::skip]
impl Events for MemoryStore {
    async fn last_positions(&self, _: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>> { Err(unused()) }
    async fn event_at(&self, _: &OrganizationId, _: u64) -> Result<Option<EventId>> { Err(unused()) }
    async fn events_after(&self, _: &OrganizationId, _: u64, _: u32) -> Result<Vec<PositionedEvent>> { Err(unused()) }
}

#[async_trait]
#[rustfmt::skip]
impl Upkeep for MemoryStore {
    async fn prune(&self, _: WallTime, _: u32) -> Result<Pruned> { Err(unused()) }
}

#[async_trait]
#[rustfmt::skip]
impl Instances for MemoryStore {
    async fn beat(&self, _: &Instance) -> Result<()> { Err(unused()) }
    async fn instances(&self) -> Result<Vec<Instance>> { Err(unused()) }
    async fn forget_instances(&self, _: WallTime) -> Result<u64> { Err(unused()) }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) {}
}

/// Everything appended, in order; topics keep what real ones may have dropped.
#[derive(Default)]
pub struct MemoryBus(Mutex<Vec<(Topic, Record)>>, AtomicU32);

impl MemoryBus {
    /// So many appends of chat fail from now on, as if the bus were away.
    pub fn refuse_chat(&self, times: u32) {
        self.1.store(times, Ordering::Release);
    }
    fn payloads(&self, topic: Topic) -> Vec<Record> {
        self.0.lock().unwrap().iter().filter(|(t, _)| *t == topic).map(|(_, record)| record.clone()).collect()
    }
    pub fn video(&self) -> Vec<VideoBatch> {
        self.payloads(Topic::MediaVideo).iter().map(|r| VideoBatch::decode(&r.payload).unwrap()).collect()
    }
    pub fn audio(&self) -> Vec<AudioWindow> {
        self.payloads(Topic::MediaAudio).iter().map(|r| AudioWindow::decode(&r.payload).unwrap()).collect()
    }
    pub fn fragments(&self) -> Vec<Fragment> {
        self.payloads(Topic::MediaSegments).iter().map(|r| Fragment::decode(&r.payload).unwrap()).collect()
    }
    /// The signals log: session number and entry.
    pub fn signals(&self) -> Vec<(u32, SignalEntry)> {
        let batches = self.payloads(Topic::Signals).into_iter().map(|r| SignalBatch::decode(&r.payload).unwrap());
        batches.flat_map(|b| b.entries.into_iter().map(move |entry| (b.session.number(), entry))).collect()
    }
    /// Chat.
    pub fn chat(&self) -> Vec<ChatMessage> {
        self.chat_of().into_iter().map(|(_, message)| message).collect()
    }
    /// Chat, with the stream's id.
    pub fn chat_of(&self) -> Vec<(String, ChatMessage)> {
        let records = self.payloads(Topic::ChatMessages).into_iter();
        records.map(|r| (r.key.to_string(), ChatMessage::decode(&r.payload).unwrap())).collect()
    }
    /// The topics in the order of their appends.
    pub fn order(&self) -> Vec<Topic> {
        self.0.lock().unwrap().iter().map(|(topic, _)| *topic).collect()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        let refused = |left: u32| left.checked_sub(1).filter(|_| topic == Topic::ChatMessages);
        if self.1.fetch_update(Ordering::AcqRel, Ordering::Acquire, refused).is_ok() {
            return Err(Error::outside("the bus is away"));
        }
        let mut all = self.0.lock().unwrap();
        all.extend(records.into_iter().map(|record| (topic, record)));
        Ok(())
    }
    async fn subscribe(&self, _: Topic, _: &str, _: Start) -> Result<Box<dyn Subscription>> {
        Err(unused())
    }
    async fn dead_letter(&self, _: Topic, _: &Received, _: &str) -> Result<()> {
        Err(unused())
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn unused() -> Error {
    Error::ours("ingest does not use this")
}

#[async_trait]
#[rustfmt::skip]
impl Tenants for MemoryStore {
    async fn bootstrap(&self, _: Option<&str>, _: WallTime) -> Result<Option<Organization>> {
        let id = OrganizationId::from_raw("org_operator");
        Ok(Some(Organization { id, name: "operator".to_owned(), operator: true }))
    }
    async fn create_organization(&self, _: &str, _: &str, _: WallTime) -> Result<Organization> { Err(unused()) }
    async fn organization_of_key(&self, _: &str) -> Result<Option<Organization>> { Err(unused()) }
}

#[async_trait]
#[rustfmt::skip]
impl Highlights for MemoryStore {
    async fn claim_partition(&self, _: Partition, _: &InstanceId, _: WallTime) -> Result<Claimed> { Err(unused()) }
    async fn commit_fusion(&self, _: &FusionCommit, _: WallTime) -> Result<Committed> { Err(unused()) }
    async fn highlight(&self, _: &OrganizationId, _: &HighlightId) -> Result<Option<StoredHighlight>> { Err(unused()) }
    async fn highlights(&self, _: &OrganizationId, _: &HighlightFilter, _: &Page) -> Result<Paged<StoredHighlight>> {
        Err(unused())
    }
}

#[async_trait]
#[rustfmt::skip]
impl Jobs for MemoryStore {
    async fn lease_job(&self, _: JobKind, _: WallTime, _: WallTime) -> Result<Option<Job>> { Err(unused()) }
    async fn renew_job(&self, _: &Job, _: WallTime) -> Result<bool> { Err(unused()) }
    async fn requeue_job(&self, _: &Job, _: WallTime, _: &str, _: bool) -> Result<()> { Err(unused()) }
    async fn finish_clip(&self, _: &Job, _: &ClipResult, _: &Event) -> Result<()> { Err(unused()) }
    async fn fail_clip(&self, _: &Job, _: &str, _: &Event) -> Result<()> { Err(unused()) }
    async fn cancel_job(&self, _: &JobId, _: &str) -> Result<()> { Err(unused()) }
}

#[async_trait]
#[rustfmt::skip]
impl Webhooks for MemoryStore {
    async fn create_endpoint(&self, _: &Endpoint) -> Result<()> { Err(unused()) }
    async fn endpoint(&self, _: &OrganizationId, _: &EndpointId) -> Result<Option<Endpoint>> { Err(unused()) }
    async fn endpoints(&self, _: &OrganizationId, _: &Page) -> Result<Paged<Endpoint>> { Err(unused()) }
    async fn delete_endpoint(&self, _: &OrganizationId, _: &EndpointId) -> Result<bool> { Err(unused()) }
    async fn deliveries(&self, _: &OrganizationId, _: &EndpointId, _: Option<DeliveryState>, _: &Page) -> Result<Paged<Delivery>> {
        Err(unused())
    }
    async fn lease_deliveries(&self, _: WallTime, _: WallTime, _: u32, _: &DeliveryOrder) -> Result<Vec<LeasedDelivery>> { Err(unused()) }
    async fn finish_attempt(&self, _: &LeasedDelivery, _: &AttemptOutcome, _: WallTime) -> Result<()> { Err(unused()) }
    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)> { Err(unused()) }
}
