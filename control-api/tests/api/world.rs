//! One server in memory with two tenants, and how to ask it.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use crest_control_api::{ApiConfig, ApiState, router};
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::objects::SharedObjects;
use crest_core::store::Organization;
use crest_core::stream::{SessionRow, StreamState};
use crest_core::units::Span;
use crest_core::view::Links;
use crest_core::{Bucket, HighlightId, MediaTime, OrganizationId, Session, StreamId, WallTime};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fakes::{FolderObjects, MemoryBus, MemoryFeeds, MemoryStore, Stopping};

pub const OPERATOR: &str = "crest_sk_operator";
pub const ALICE: &str = "crest_sk_alice";
pub const BOB: &str = "crest_sk_bob";

pub struct World {
    pub router: Router,
    pub store: Arc<MemoryStore>,
    pub bus: Arc<MemoryBus>,
    pub feeds: Arc<MemoryFeeds>,
    pub ready: Arc<AtomicBool>,
    pub shutdown: CancellationToken,
    pub objects: tempfile::TempDir,
    pub media: Arc<FolderObjects>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// Holds that this is a well-formed problem and returns its code.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", String::from_utf8_lossy(&self.body));
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        for field in ["type", "title", "detail", "code"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {body}");
        }
        assert_eq!(body.as_object().unwrap().len(), 5, "{body}");
        body["code"].as_str().unwrap().to_owned()
    }
    /// Holds the status and the code of a problem and returns its detail.
    pub fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!((self.status.as_u16(), self.problem().as_str()), (status, code), "{}", self.json());
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

pub fn organization(name: &str) -> OrganizationId {
    OrganizationId::from_raw(format!("org_{name}"))
}

impl World {
    pub fn new() -> Self {
        Self::with(ApiConfig {
            body_timeout: Span(Duration::from_millis(50)),
            request_timeout: Span(Duration::from_millis(500)),
            ..ApiConfig::default()
        })
    }

    pub fn with(config: ApiConfig) -> Self {
        Self::storing(config, None)
    }

    /// Of a server that has no key for YouTube's API.
    pub fn without_youtube() -> Self {
        Self::build(ApiConfig::default(), None, false)
    }

    /// With clips and thumbnails elsewhere than in `media`.
    pub fn storing(config: ApiConfig, elsewhere: Option<SharedObjects>) -> Self {
        Self::build(config, elsewhere, true)
    }

    fn build(config: ApiConfig, elsewhere: Option<SharedObjects>, youtube: bool) -> Self {
        let store = Arc::new(MemoryStore::default());
        for (key, name, operator) in [(OPERATOR, "operator", true), (ALICE, "alice", false), (BOB, "bob", false)] {
            let organization = Organization { id: organization(name), name: name.into(), operator };
            store.keys.lock().unwrap().push((key.into(), organization));
        }
        let bus = Arc::new(MemoryBus::default());
        let feeds = Arc::new(MemoryFeeds {
            store: store.clone(),
            stopping: Stopping::Works.into(),
            room: Default::default(),
            rekeyed: Default::default(),
            deserted: Default::default(),
        });
        let ready = Arc::new(AtomicBool::new(true));
        let shutdown = CancellationToken::new();
        let objects = tempfile::tempdir().unwrap();
        let media = Arc::new(FolderObjects { root: objects.path().to_owned(), links: Default::default() });
        let router = router(ApiState {
            store: store.clone(),
            bus: bus.clone(),
            feeds: feeds.clone(),
            youtube,
            objects: elsewhere.unwrap_or_else(|| media.clone()),
            link_validity: Duration::from_secs(3600),
            links: Links::new("https://crest.test"),
            metrics: Arc::new(|| "crest_up 1\n".to_owned()),
            ready: ready.clone(),
            shutdown: shutdown.clone(),
            config,
        });
        Self { router, store, bus, feeds, ready, shutdown, objects, media }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn ask(&self, method: &str, path: &str, key: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        self.ask("GET", path, key, &[]).await
    }

    pub async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.post_text(path, key, "application/json", body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, key: &str, media_type: &str, body: String) -> Answer {
        let mut request = Request::post(path).header("content-type", media_type);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Creates a stream through the API and returns its id.
    pub async fn stream(&self, key: &str) -> StreamId {
        let created = self.post("/v1/streams", key, json!({"name": "a show", "source": {"kind": "rtmp"}})).await;
        assert_eq!(created.status, 201);
        StreamId::from_raw(created.json()["id"].as_str().unwrap())
    }

    /// What ingest does when media arrives.
    pub fn go_live(&self, id: &StreamId, session: u32, started_at: WallTime) {
        self.set_state(id, StreamState::Live);
        self.store.sessions.lock().unwrap().push(SessionRow {
            stream_id: id.clone(),
            session: Session::new(session),
            started_at,
            ended_at: None,
        });
    }

    pub fn set_state(&self, id: &StreamId, state: StreamState) {
        self.store.streams.lock().unwrap().iter_mut().filter(|s| s.id == *id).for_each(|s| s.state = state);
    }

    /// A highlight in that state, with `clip` as its file where it is ready.
    pub fn highlight(&self, tenant: &str, stream: &StreamId, entry: u64, state: HighlightState, clip: &[u8]) -> String {
        let (session, start) = (Session::new(1), Bucket::new(entry).start());
        let id = HighlightId::derive(stream, session, Bucket::new(entry));
        let organization_id = organization(tenant);
        let file = (state == HighlightState::Ready).then(|| crest_core::object::clip(&organization_id, &id));
        if let Some(key) = &file {
            let path = self.objects.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, clip).unwrap();
        }
        self.store.highlights.lock().unwrap().insert(
            0,
            StoredHighlight {
                highlight: Highlight {
                    id: id.clone(),
                    organization_id,
                    stream_id: stream.clone(),
                    session,
                    state,
                    revision: 1,
                    start,
                    end: start + MediaTime::from_millis(9000),
                    peak: start + MediaTime::from_millis(4000),
                    score: 0.7,
                    kind: "highlight".into(),
                    dimensions: Default::default(),
                    factors: Vec::new(),
                    dimension_set_version: 1,
                    reason: None,
                },
                clip: file.clone(),
                thumbnail: None,
                clip_start: file.as_ref().map(|_| start),
                clip_duration: file.as_ref().map(|_| MediaTime::from_millis(9000)),
                session_started_at: WallTime(1_795_000_000_000),
                detected_at: WallTime(1_795_000_005_000),
            },
        );
        id.to_string()
    }
}
