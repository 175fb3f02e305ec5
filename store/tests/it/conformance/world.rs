//! A tenant with a live stream, and short ways to make what the tests need.
#![allow(dead_code)] // each database's tests use another part of it

use std::collections::BTreeMap;
use std::sync::Mutex;

use crest_core::event::{Event, EventType};
use crest_core::highlight::{Decision, Factor, Highlight, HighlightState};
use crest_core::instance::InstanceId;
use crest_core::segment::Fragment;
use crest_core::store::{Claim, Committed, Decided, FusionCommit, Page, SharedStore, Snapshot};
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::webhook::{AttemptOutcome, Delivery, Endpoint, LeasedDelivery};
use crest_core::{Bucket, EndpointId, HighlightId, MediaTime, OrganizationId, Session, StreamId, WallTime};

use super::Home;

pub const NOW: WallTime = WallTime(1_795_000_000_000);
pub const FIRST: Session = Session::new(1);

pub struct World {
    pub store: SharedStore,
    pub organization: OrganizationId,
    pub stream: StreamId,
    /// The claim to partition 0.
    pub claim: Claim,
    /// What the tests have leased.
    pub leased: Mutex<Vec<LeasedDelivery>>,
    /// Where the database is.
    pub home: Home,
}

impl World {
    /// A tenant, its stream, and the stream's first session, which began at [`NOW`].
    pub async fn new() -> World {
        World::at(Home::new().await).await
    }

    /// The same in this database.
    pub async fn at(home: Home) -> World {
        let store = home.open().await;
        let organization = store.create_organization("acme", "crest_sk_acme", NOW).await.unwrap().id;
        let stream = StreamId::from_raw("str_a");
        store.create_stream(&stream_of(&organization, &stream, NOW)).await.unwrap();
        store.start_session(&stream, NOW, &instance("one")).await.unwrap();
        let claim = store.claim_partition(0, &instance("one"), NOW).await.unwrap().claim;
        World { store, organization, stream, claim, leased: Mutex::default(), home }
    }

    pub async fn add_endpoint(&self, name: &str) -> Endpoint {
        let endpoint = Endpoint {
            id: EndpointId::from_raw(format!("whe_{name}")),
            organization_id: self.organization.clone(),
            url: format!("https://{name}.example/hook"),
            events: Vec::new(),
            min_score: None,
            secret: "whsec_c2VjcmV0".into(),
            created_at: NOW,
        };
        self.store.create_endpoint(&endpoint).await.unwrap();
        endpoint
    }

    pub async fn deliveries_of(&self, endpoint: &Endpoint) -> Vec<Delivery> {
        self.store.deliveries(&self.organization, &endpoint.id, None, &page(100)).await.unwrap().items
    }

    /// A highlight of `entry..entry + 10` seconds.
    pub fn highlight(&self, entry: i64, state: HighlightState, revision: u64) -> Highlight {
        let at = |seconds: i64| MediaTime::from_millis(seconds * 1000);
        Highlight {
            id: HighlightId::derive(&self.stream, FIRST, Bucket::new(entry as u64 * 2)),
            organization_id: self.organization.clone(),
            stream_id: self.stream.clone(),
            session: FIRST,
            state,
            revision,
            start: at(entry),
            end: at(entry + 10),
            peak: at(entry + 4),
            score: 0.75,
            kind: "highlight".into(),
            dimensions: BTreeMap::from([("excitement".to_owned(), 0.1 + 0.2)]),
            factors: vec![Factor { signal: "audio_loudness".into(), contribution: 0.75 }],
            dimension_set_version: 1,
            reason: None,
        }
    }

    pub fn detected(&self, entry: i64) -> (Decision, Option<Event>) {
        let highlight = self.highlight(entry, HighlightState::Provisional, 1);
        let event = told(&highlight, EventType::HighlightDetected);
        (Decision::Detected { highlight }, Some(event))
    }

    pub fn finalized(&self, entry: i64, revision: u64) -> (Decision, Option<Event>) {
        let highlight = self.highlight(entry, HighlightState::Final, revision);
        let event = told(&highlight, EventType::HighlightUpdated);
        (Decision::Finalized { highlight }, Some(event))
    }

    pub fn deleted(&self, entry: i64, revision: u64) -> (Decision, Option<Event>) {
        let highlight =
            Highlight { reason: Some("merged".into()), ..self.highlight(entry, HighlightState::Deleted, revision) };
        let event = told(&highlight, EventType::HighlightDeleted);
        (Decision::Deleted { highlight }, Some(event))
    }

    /// What fusion would commit in the right of this claim.
    pub fn decided(&self, decisions: Vec<(Decision, Option<Event>)>) -> FusionCommit {
        let decided = |(decision, event)| Decided { decision, event, trace: None };
        FusionCommit { decisions: decisions.into_iter().map(decided).collect(), ..FusionCommit::new(self.claim) }
    }

    pub async fn commit(&self, decisions: Vec<(Decision, Option<Event>)>) {
        self.commit_at(decisions, NOW).await;
    }

    pub async fn commit_at(&self, decisions: Vec<(Decision, Option<Event>)>, now: WallTime) {
        let kept = self.store.commit_fusion(&self.decided(decisions), now).await.unwrap();
        assert_eq!(kept, Committed::Kept);
    }

    pub fn snapshot(&self, offset: u64, state: &[u8]) -> Snapshot {
        Snapshot { stream_id: self.stream.clone(), offset, version: 1, state: state.to_vec() }
    }

    /// Notes how the latest attempt went that the tests have leased of this event.
    pub async fn finish(&self, event: &Event, endpoint: &Endpoint, outcome: &AttemptOutcome, now: WallTime) {
        let is_it = |l: &&LeasedDelivery| l.delivery.event_id == event.id && l.delivery.endpoint_id == endpoint.id;
        let leased = self.leased.lock().unwrap().iter().rev().find(is_it).cloned().unwrap();
        self.store.finish_attempt(&leased, outcome, now).await.unwrap();
    }

    pub async fn state_of(&self, entry: i64) -> HighlightState {
        let id = self.highlight(entry, HighlightState::Final, 1).id;
        self.store.highlight(&self.organization, &id).await.unwrap().unwrap().highlight.state
    }

    pub fn fragment(&self, object: &str, offset: u64, from_s: i64, to_s: i64, keyframe: bool) -> Fragment {
        Fragment {
            organization_id: self.organization.clone(),
            stream_id: self.stream.clone(),
            session: FIRST,
            object: object.into(),
            header_bytes: 100,
            offset,
            bytes: 1000,
            start: MediaTime::from_millis(from_s * 1000),
            end: MediaTime::from_millis(to_s * 1000),
            keyframe,
        }
    }
}

pub fn stream_of(organization: &OrganizationId, id: &StreamId, created_at: WallTime) -> Stream {
    Stream {
        id: id.clone(),
        organization_id: organization.clone(),
        name: format!("the stream {id}"),
        source: SourceKind::Rtmp,
        source_url: None,
        audio_track: None,
        chat: None,
        forward: Vec::new(),
        forwarded: Vec::new(),
        stream_key: format!("key_of_{id}"),
        state: StreamState::Created,
        state_reason: None,
        session: None,
        instance: None,
        created_at,
        updated_at: created_at,
    }
}

pub fn told(highlight: &Highlight, event_type: EventType) -> Event {
    let mut event = Event::new(
        highlight.organization_id.clone(),
        event_type,
        highlight.id.as_str(),
        highlight.revision,
        NOW,
        serde_json::json!({"id": highlight.id.as_str()}),
    );
    event.score = Some(highlight.score);
    event.stream_id = Some(highlight.stream_id.clone());
    event.session = Some(highlight.session);
    event
}

pub fn instance(name: &str) -> InstanceId {
    InstanceId::from_raw(name)
}

pub fn page(limit: u32) -> Page {
    Page { after: None, limit }
}
