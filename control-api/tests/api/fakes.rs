//! A store, a bus and feeds in memory.

use async_trait::async_trait;
use axum::body::Bytes;
use crest_core::bus::{Bus, Partition, Received, Record, Start, Subscription};
use crest_core::event::Event;
use crest_core::feeds::{Addresses, FeedControl};
use crest_core::highlight::StoredHighlight;
use crest_core::instance::{Instance, InstanceId};
use crest_core::job::{Job, JobKind};
use crest_core::objects::{Method, Objects};
use crest_core::segment::Fragment;
use crest_core::space::Room;
use crest_core::store::*;
use crest_core::stream::{ForwardStatus, SessionRow, SourceKind, Stream, StreamState};
use crest_core::topic::Topic;
use crest_core::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::{
    EndpointId, Error, EventId, HighlightId, JobId, MediaTime, OrganizationId, Result, Session, StreamId, WallTime,
};
use futures::stream::BoxStream;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn unused<T>() -> Result<T> {
    Err(Error::ours("the API has no business here"))
}

/// Pages over `items`; positions are plain numbers.
fn paged<T: Clone>(items: &[T], page: &Page) -> Result<Paged<T>> {
    let from = match &page.after {
        Some(after) => after.parse::<usize>().map_err(|_| Error::user("not a position"))?,
        None => 0,
    };
    let to = items.len().min(from + page.limit as usize);
    let next = (to < items.len()).then(|| to.to_string());
    Ok(Paged { items: items.get(from..to).unwrap_or_default().to_vec(), next })
}

#[derive(Default)]
pub struct MemoryStore {
    pub keys: Mutex<Vec<(String, Organization)>>,
    pub streams: Mutex<Vec<Stream>>,
    pub sessions: Mutex<Vec<SessionRow>>,
    pub highlights: Mutex<Vec<StoredHighlight>>,
    pub endpoints: Mutex<Vec<Endpoint>>,
    pub deliveries: Mutex<Vec<Delivery>>,
    /// Of all tenants, in the order of their commits.
    pub events: Mutex<Vec<Event>>,
    /// Events that were handed out so far.
    pub events_read: AtomicUsize,
    /// What every question is answered with, if set.
    pub failure: Mutex<Option<Error>>,
}

impl MemoryStore {
    fn up(&self) -> Result<()> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn events_of(&self, organization: &OrganizationId) -> Vec<PositionedEvent> {
        let all = self.events.lock().unwrap();
        let own = all.iter().filter(|e| e.organization_id == *organization).cloned();
        (1..).zip(own).map(|(position, event)| PositionedEvent { position, event }).collect()
    }
}

#[async_trait]
impl Tenants for MemoryStore {
    async fn bootstrap(&self, _: Option<&str>, _: WallTime) -> Result<Option<Organization>> {
        unused()
    }
    async fn create_organization(&self, name: &str, api_key: &str, _: WallTime) -> Result<Organization> {
        let organization = Organization { id: OrganizationId::draw(), name: name.into(), operator: false };
        self.keys.lock().unwrap().push((api_key.into(), organization.clone()));
        Ok(organization)
    }
    async fn organization_of_key(&self, api_key: &str) -> Result<Option<Organization>> {
        self.up()?;
        Ok(self.keys.lock().unwrap().iter().find(|(key, _)| key == api_key).map(|(_, o)| o.clone()))
    }
}

#[async_trait]
impl Streams for MemoryStore {
    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        self.streams.lock().unwrap().insert(0, stream.clone());
        Ok(())
    }
    async fn stream(&self, organization: &OrganizationId, id: &StreamId) -> Result<Option<Stream>> {
        let streams = self.streams.lock().unwrap();
        Ok(streams.iter().find(|s| s.id == *id && s.organization_id == *organization).cloned())
    }
    async fn streams(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Stream>> {
        let mut all = self.streams.lock().unwrap().clone();
        all.retain(|s| s.organization_id == *organization);
        paged(&all, page)
    }
    async fn stream_of_key(&self, _: &str) -> Result<Option<Stream>> {
        unused()
    }
    async fn streams_in(&self, _: &[StreamState]) -> Result<Vec<Stream>> {
        unused()
    }
    async fn open_pulls(&self, org: &OrganizationId) -> Result<u64> {
        let streams = self.streams.lock().unwrap();
        let open = |s: &&Stream| s.organization_id == *org && s.source == SourceKind::Url && !s.state.is_over();
        Ok(streams.iter().filter(open).count() as u64)
    }
    async fn rotate_stream_key(&self, org: &OrganizationId, id: &StreamId, key: &str) -> Result<Option<Stream>> {
        self.up()?;
        let mut streams = self.streams.lock().unwrap();
        let Some(stream) = streams.iter_mut().find(|s| s.id == *id && s.organization_id == *org) else {
            return Ok(None);
        };
        if stream.state.is_over() {
            return Err(Error::conflict("it is over"));
        }
        stream.stream_key = key.to_owned();
        Ok(Some(stream.clone()))
    }
    async fn explain_stream(&self, _: &StreamId, _: &str, _: WallTime) -> Result<()> {
        unused()
    }
    async fn note_forwards(&self, _: &StreamId, _: &[ForwardStatus]) -> Result<()> {
        unused()
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
        unused()
    }
    async fn start_session(&self, _: &StreamId, _: WallTime, _: &InstanceId) -> Result<Session> {
        unused()
    }
    async fn end_session(&self, _: &StreamId, _: Session, _: MediaTime) -> Result<()> {
        unused()
    }
    async fn sessions(&self, id: &StreamId) -> Result<Vec<SessionRow>> {
        Ok(self.sessions.lock().unwrap().iter().filter(|s| s.stream_id == *id).cloned().collect())
    }
}

#[async_trait]
impl MediaIndex for MemoryStore {
    async fn add_fragment(&self, _: &Fragment) -> Result<()> {
        unused()
    }
    async fn fragments(&self, _: &StreamId, _: Session, _: MediaTime, _: MediaTime) -> Result<Vec<Fragment>> {
        unused()
    }
    async fn stored_to(&self, _: &StreamId, _: Session) -> Result<Option<MediaTime>> {
        unused()
    }
    async fn removable_segments(&self, _: u32, _: MediaTime) -> Result<Vec<StoredSegment>> {
        unused()
    }
    async fn forget_segment(&self, _: &str) -> Result<()> {
        unused()
    }
}

#[async_trait]
impl Highlights for MemoryStore {
    async fn commit_fusion(&self, _: &FusionCommit, _: WallTime) -> Result<Committed> {
        unused()
    }
    async fn claim_partition(&self, _: Partition, _: &InstanceId, _: WallTime) -> Result<Claimed> {
        unused()
    }
    async fn highlight(&self, organization: &OrganizationId, id: &HighlightId) -> Result<Option<StoredHighlight>> {
        let all = self.highlights.lock().unwrap();
        let own = |h: &&StoredHighlight| h.highlight.id == *id && h.highlight.organization_id == *organization;
        Ok(all.iter().find(own).cloned())
    }
    async fn highlights(
        &self,
        organization: &OrganizationId,
        filter: &HighlightFilter,
        page: &Page,
    ) -> Result<Paged<StoredHighlight>> {
        let mut all = self.highlights.lock().unwrap().clone();
        all.retain(|h| {
            h.highlight.organization_id == *organization
                && filter.stream.as_ref().is_none_or(|stream| h.highlight.stream_id == *stream)
                && filter.state.is_none_or(|state| h.highlight.state == state)
        });
        paged(&all, page)
    }
}

#[async_trait]
impl Jobs for MemoryStore {
    async fn lease_job(&self, _: JobKind, _: WallTime, _: WallTime) -> Result<Option<Job>> {
        unused()
    }
    async fn renew_job(&self, _: &Job, _: WallTime) -> Result<bool> {
        unused()
    }
    async fn requeue_job(&self, _: &Job, _: WallTime, _: &str, _: bool) -> Result<()> {
        unused()
    }
    async fn finish_clip(&self, _: &Job, _: &ClipResult, _: &Event) -> Result<()> {
        unused()
    }
    async fn fail_clip(&self, _: &Job, _: &str, _: &Event) -> Result<()> {
        unused()
    }
    async fn cancel_job(&self, _: &JobId, _: &str) -> Result<()> {
        unused()
    }
}

#[async_trait]
impl Webhooks for MemoryStore {
    async fn create_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
        self.endpoints.lock().unwrap().insert(0, endpoint.clone());
        Ok(())
    }
    async fn endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<Option<Endpoint>> {
        let all = self.endpoints.lock().unwrap();
        Ok(all.iter().find(|e| e.id == *id && e.organization_id == *organization).cloned())
    }
    async fn endpoints(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Endpoint>> {
        let mut all = self.endpoints.lock().unwrap().clone();
        all.retain(|e| e.organization_id == *organization);
        paged(&all, page)
    }
    async fn delete_endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<bool> {
        let mut all = self.endpoints.lock().unwrap();
        let before = all.len();
        all.retain(|e| !(e.id == *id && e.organization_id == *organization));
        Ok(all.len() < before)
    }
    async fn deliveries(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Paged<Delivery>> {
        let mut all = self.deliveries.lock().unwrap().clone();
        all.retain(|d| d.organization_id == *organization && d.endpoint_id == *endpoint);
        all.retain(|d| state.is_none_or(|state| d.state == state));
        paged(&all, page)
    }
    async fn lease_deliveries(
        &self,
        _: WallTime,
        _: WallTime,
        _: u32,
        _: &DeliveryOrder,
    ) -> Result<Vec<LeasedDelivery>> {
        unused()
    }
    async fn finish_attempt(&self, _: &LeasedDelivery, _: &AttemptOutcome, _: WallTime) -> Result<()> {
        unused()
    }
    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)> {
        unused()
    }
}

#[async_trait]
impl Events for MemoryStore {
    async fn last_positions(&self, organizations: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>> {
        self.up()?;
        Ok(organizations.iter().map(|o| (o.clone(), self.events_of(o).last().map_or(0, |e| e.position))).collect())
    }
    async fn event_at(&self, organization: &OrganizationId, position: u64) -> Result<Option<EventId>> {
        let own = self.events_of(organization);
        Ok(own.into_iter().find(|e| e.position == position).map(|e| e.event.id))
    }
    async fn events_after(
        &self,
        organization: &OrganizationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PositionedEvent>> {
        self.up()?;
        let own = self.events_of(organization).into_iter();
        let page: Vec<_> = own.filter(|e| e.position > after).take(limit as usize).collect();
        self.events_read.fetch_add(page.len(), Ordering::Relaxed);
        Ok(page)
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn prune(&self, _: WallTime, _: u32) -> Result<Pruned> {
        unused()
    }
}

#[async_trait]
impl Instances for MemoryStore {
    async fn beat(&self, _: &Instance) -> Result<()> {
        unused()
    }
    async fn instances(&self) -> Result<Vec<Instance>> {
        unused()
    }
    async fn forget_instances(&self, _: WallTime) -> Result<u64> {
        unused()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<()> {
        self.up()
    }
    async fn close(&self) {}
}

/// Objects in a folder; behind links, where there are some.
pub struct FolderObjects {
    pub root: PathBuf,
    pub links: Mutex<Option<String>>,
}

#[async_trait]
impl Objects for FolderObjects {
    fn folder(&self) -> Option<&Path> {
        self.links.lock().unwrap().is_none().then_some(&self.root)
    }
    async fn put_file(&self, _: &str, _: &Path) -> Result<()> {
        unused()
    }
    async fn put(&self, _: &str, _: Bytes) -> Result<()> {
        unused()
    }
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(std::fs::metadata(self.root.join(key)).ok().map(|file| file.len()))
    }
    async fn read(&self, _: &str, _: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        unused()
    }
    async fn delete(&self, _: &str) -> Result<()> {
        unused()
    }
    async fn list(&self, _: &str) -> Result<BoxStream<'static, Result<(String, u64)>>> {
        unused()
    }
    async fn signed_url(&self, key: &str, _: Method, valid: Duration) -> Result<Option<String>> {
        Ok(self.links.lock().unwrap().as_ref().map(|base| format!("{base}/{key}?valid={}", valid.as_secs())))
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

/// Keeps what is appended.
#[derive(Default)]
pub struct MemoryBus {
    pub records: Mutex<Vec<(Topic, Record)>>,
    pub failure: Mutex<Option<Error>>,
}

#[async_trait]
impl Bus for MemoryBus {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)?;
        let mut all = self.records.lock().unwrap();
        all.extend(records.into_iter().map(|record| (topic, record)));
        Ok(())
    }
    async fn subscribe(&self, _: Topic, _: &str, _: Start) -> Result<Box<dyn Subscription>> {
        unused()
    }
    async fn dead_letter(&self, _: Topic, _: &Received, _: &str) -> Result<()> {
        unused()
    }
    async fn flush(&self) -> Result<()> {
        unused()
    }
}

/// How stopping goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Stopping {
    Works,
    Panics,
    Hangs,
}

pub struct MemoryFeeds {
    pub store: Arc<MemoryStore>,
    pub stopping: Mutex<Stopping>,
    pub room: Mutex<Room>,
    /// The keys that feeds were told of.
    pub rekeyed: Mutex<Vec<String>>,
    /// Whether nobody takes feeds.
    pub deserted: AtomicBool,
}

#[async_trait]
impl FeedControl for MemoryFeeds {
    async fn stop(&self, stream: &Stream) -> Result<()> {
        let stopping = *self.stopping.lock().unwrap();
        match stopping {
            Stopping::Works => {}
            Stopping::Panics => panic!("a secret reason"),
            Stopping::Hangs => std::future::pending().await,
        }
        for s in self.store.streams.lock().unwrap().iter_mut().filter(|s| s.id == stream.id) {
            s.state = StreamState::Ended;
        }
        Ok(())
    }
    async fn rekeyed(&self, stream: &Stream) -> Result<()> {
        self.rekeyed.lock().unwrap().push(stream.stream_key.clone());
        Ok(())
    }
    fn room(&self) -> Room {
        *self.room.lock().unwrap()
    }
    async fn addresses(&self) -> Result<Option<Addresses>> {
        let deserted = self.deserted.load(Ordering::Acquire);
        let rtmp = Some("rtmp://crest.test:1935/live".into());
        Ok((!deserted).then_some(Addresses { rtmp, ..Addresses::default() }))
    }
    async fn puller(&self, _: &StreamId) -> Result<Option<InstanceId>> {
        let deserted = self.deserted.load(Ordering::Acquire);
        Ok((!deserted).then(|| InstanceId::from_raw("ins_puller")))
    }
    async fn pull(&self, _: &Stream) -> Result<()> {
        Ok(())
    }
}
