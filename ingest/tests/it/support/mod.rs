//! A store and a bus in memory, limited to what ingest uses, the real homes of finished files, and ffmpeg
//! as the publisher. The whole system is tested with the real store and bus elsewhere.

pub mod memory;
pub mod rtmp;
pub mod twitch;
pub mod youtube;

use crest_core::instance::InstanceId;
use crest_core::objects::SharedObjects;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::units::Span;
use crest_core::view::Links;
use crest_core::{OrganizationId, StreamId, WallTime};
use crest_ingest::{
    ChatConfig, ForwardConfig, Ingest, IngestConfig, IngestParts, LimitsConfig, PullConfig, Reserve, RetentionConfig,
    RtmpConfig, SrtConfig, TwitchApiConfig, Volume, WebRtcConfig,
};
use crest_media::{KeyframePool, KeyframePoolConfig, SegmenterConfig};
use crest_store::objects::{StorageConfig, open};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use memory::{MemoryBus, MemoryStore};

/// A running ingest with everything around it in memory.
pub struct Rig {
    pub store: Arc<MemoryStore>,
    pub bus: Arc<MemoryBus>,
    pub root: Arc<tempfile::TempDir>,
    pub objects: SharedObjects,
    pub ingest: Option<Ingest>,
    pub shutdown: CancellationToken,
}

/// Settings that tests turn.
pub struct Settings {
    pub reconnect: Span,
    pub rtmp: RtmpConfig,
    pub pull: PullConfig,
    pub chat: ChatConfig,
    pub webrtc: WebRtcConfig,
    pub limits: LimitsConfig,
    pub retention: RetentionConfig,
    pub storage: StorageConfig,
    pub ingest: IngestConfig,
    pub segment: Span,
    /// The volume that everything is on, without the store's segments.
    pub volume: Arc<Mutex<Volume>>,
}

impl Default for Settings {
    fn default() -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        Self {
            reconnect: Span::secs(60),
            rtmp: RtmpConfig { listen, ..RtmpConfig::default() },
            pull: PullConfig::default(),
            chat: ChatConfig::default(),
            webrtc: WebRtcConfig { listen, ..WebRtcConfig::default() },
            limits: LimitsConfig::default(),
            retention: RetentionConfig {
                free_space: bytesize::ByteSize(0),
                ballast: bytesize::ByteSize(0),
                ..RetentionConfig::default()
            },
            storage: StorageConfig::default(),
            ingest: IngestConfig::default(),
            segment: SegmenterConfig::default().segment,
            volume: Arc::new(Mutex::new(Volume { bytes: 1 << 40, free: 1 << 40 })),
        }
    }
}

impl Rig {
    pub async fn start(settings: Settings, streams: Vec<Stream>) -> Self {
        Self::start_with(settings, Arc::new(MemoryStore::with(streams))).await
    }

    pub async fn start_with(settings: Settings, store: Arc<MemoryStore>) -> Self {
        Self::start_in(settings, store, Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// On the data directory of an earlier process.
    pub async fn start_in(settings: Settings, store: Arc<MemoryStore>, root: Arc<tempfile::TempDir>) -> Self {
        crest_media::init().unwrap();
        let bus = Arc::new(MemoryBus::default());
        let objects = open(&settings.storage, root.path()).unwrap();
        let shutdown = CancellationToken::new();
        let volume = settings.volume;
        let kept = store.clone();
        let eyes = move |_: &std::path::Path| {
            let volume = *volume.lock().unwrap();
            Ok(Volume { free: volume.free.saturating_sub(kept.segment_bytes()), ..volume })
        };
        let parts = IngestParts {
            store: store.clone(),
            bus: bus.clone(),
            objects: objects.clone(),
            instance: InstanceId::from_raw("here"),
            others: None,
            root: root.path().to_owned(),
            links: Links::new("http://127.0.0.1"),
            pool: KeyframePool::new(&KeyframePoolConfig::default()).unwrap(),
            segmenter: SegmenterConfig { segment: settings.segment, ..SegmenterConfig::default() },
            ingest: IngestConfig { reconnect: settings.reconnect, ..settings.ingest },
            chat: settings.chat,
            rtmp: settings.rtmp,
            pull: settings.pull,
            twitch: TwitchApiConfig::default(),
            srt: SrtConfig { listen: "127.0.0.1:0".parse().unwrap(), ..SrtConfig::default() },
            webrtc: settings.webrtc,
            http_url: "http://127.0.0.1:8080".to_owned(),
            limits: settings.limits,
            forward: ForwardConfig::default(),
            reserve: Reserve::over(root.path(), &settings.retention, eyes).unwrap(),
            retention: settings.retention,
            clip_margin: Span::secs(2),
        };
        let ingest = Ingest::start(parts, shutdown.clone()).await.unwrap();
        Self { store, bus, root, objects, ingest: Some(ingest), shutdown }
    }

    pub fn ingest(&self) -> &Ingest {
        self.ingest.as_ref().unwrap()
    }

    pub fn url(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.ingest().rtmp_address())
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.ingest.take().unwrap().finished()).await.unwrap();
    }

    /// Waits for a condition, with a limit.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        for _ in 0..1500 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not happen; events: {:?}", self.store.events());
    }

    pub async fn until_event(&self, name: &str, count: usize) {
        self.until(name, |rig| rig.store.events().iter().filter(|event| *event == name).count() >= count).await;
    }
}

pub fn stream(id: &str, source: SourceKind, state: StreamState) -> Stream {
    Stream {
        id: StreamId::from_raw(id),
        organization_id: OrganizationId::from_raw("org_a"),
        name: id.to_owned(),
        source,
        source_url: None,
        audio_track: None,
        chat: None,
        forward: Vec::new(),
        forwarded: Vec::new(),
        stream_key: format!("key-of-{id}"),
        state,
        state_reason: None,
        session: None,
        instance: None,
        created_at: WallTime(0),
        updated_at: WallTime(0),
    }
}

pub fn created(id: &str) -> Stream {
    stream(id, SourceKind::Rtmp, StreamState::Created)
}

/// ffmpeg, publishing a test picture and a tone at real speed. `more` goes before the output.
pub fn publisher(url: &str, seconds: u32, more: &[&str]) -> Child {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=320x180:rate=30")
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "60", "-threads", "1"])
        .args(["-c:a", "aac", "-b:a", "96k"])
        .args(more)
        .args(["-f", "flv", url])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

/// Waits for a publisher to end: whether it was content, and what it printed.
pub async fn outcome(publisher: Child) -> (bool, String) {
    let output = tokio::time::timeout(Duration::from_secs(60), publisher.wait_with_output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Sends a signal, `STOP` or `CONT`, to a publisher.
pub async fn signal(publisher: &Child, name: &str) {
    let pid = publisher.id().unwrap().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
}
