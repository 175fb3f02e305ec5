//! One session of one stream while its publisher is connected: every event goes onto the session's
//! timeline, into the segments, and towards the samplers.

use crest_core::bus::Record;
use crest_core::codec::{AudioConfig, MediaEvent, Packet, VideoConfig};
use crest_core::crash::{Stage, around};
use crest_core::segment::Fragment;
use crest_core::space::Room;
use crest_core::stream::Stream;
use crest_core::topic::Topic;
use crest_core::{Error, MediaTime, Result, Session, WallTime};
use crest_media::Segmenter;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

use crate::joining::Joining;
use crate::lifecycle::Shared;
use crate::queue::{Item, Ring};
use crate::sampler::Sampler;
use crate::sampling::{Sampling, count_dropped};
use crate::states::patiently;
use crate::timeline::{Timeline, Track};
use crate::upload::{Growing, Uploads};

/// How long a feed that ends waits for its last samples.
const LAST_SAMPLES: Duration = Duration::from_secs(3);

/// What a session keeps while its publisher may come back.
pub(crate) struct SessionMedia {
    pub(crate) session: Session,
    timeline: Timeline,
    segmenter: Segmenter,
    /// Fragments of files that may still grow, where files are uploaded whole.
    growing: Growing,
    video: Option<Arc<VideoConfig>>,
    audio: Option<Arc<AudioConfig>>,
}

impl SessionMedia {
    pub(crate) fn new(shared: &Shared, stream: &Stream, session: Session) -> Self {
        let segmenter = Segmenter::new(
            &shared.root,
            stream.organization_id.clone(),
            stream.id.clone(),
            session,
            shared.segmenter.clone(),
        );
        Self {
            session,
            timeline: Timeline::default(),
            segmenter,
            growing: Growing::default(),
            video: None,
            audio: None,
        }
    }

    /// Where the session ends so far.
    pub(crate) fn end(&self) -> MediaTime {
        self.timeline.end()
    }

    /// Whether a publisher that came back with these configurations and this first packet goes on
    /// where the session stands. If so, the time it was away stays a gap.
    pub(crate) fn resume(&mut self, opening: &Opening, track: Track, first: &Packet, within: Duration) -> bool {
        let same = opening.video.as_ref() == self.video.as_deref() && opening.audio.as_ref() == self.audio.as_deref();
        if !same || !self.timeline.continues(track, first.dts, within) {
            return false;
        }
        self.timeline.resume(first.dts);
        true
    }
}

/// The configurations that arrive before a publisher's first packet.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    pub(crate) video: Option<VideoConfig>,
    pub(crate) audio: Option<AudioConfig>,
    /// Wall-clock time of the first packet, where the source says it.
    pub(crate) anchor: Option<WallTime>,
}

/// A feed that is running.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    stream: Stream,
    media: SessionMedia,
    joining: Joining,
    ring: Arc<Ring>,
    sampling: JoinHandle<()>,
    jumps: u64,
    trouble: Option<String>,
    /// Its media is not stored, for want of room.
    withheld: bool,
}

impl Feed {
    /// Starts sampling; the session exists in the store and in the signals log already.
    pub(crate) fn start(shared: &Arc<Shared>, stream: &Stream, media: SessionMedia) -> Self {
        let bytes = usize::try_from(shared.ingest.sampler_queue_bytes.as_u64()).unwrap_or(usize::MAX);
        let ring = Arc::new(Ring::new(shared.ingest.sampler_queue, bytes));
        let sampling = Sampling {
            stream: stream.id.clone(),
            session: media.session,
            bus: Arc::clone(&shared.bus),
            pool: shared.pool.clone(),
            sampler: Sampler::new(stream.organization_id.clone(), media.session),
            told: BTreeSet::new(),
            came: None,
        };
        let sampling = tokio::spawn(sampling.run(Arc::clone(&ring)));
        metrics::gauge!("crest_feeds_live").increment(1.0);
        let jumps = media.timeline.rebased();
        Self {
            shared: Arc::clone(shared),
            stream: stream.clone(),
            media,
            joining: Joining::new(shared.ingest.keyframe_wait.0),
            ring,
            sampling,
            jumps,
            trouble: None,
            withheld: false,
        }
    }

    /// The session it feeds.
    pub(crate) fn session(&self) -> Session {
        self.media.session
    }

    /// Takes the publisher's next event.
    pub(crate) async fn take(&mut self, event: MediaEvent) {
        let event = self.place(event);
        self.look_at_the_room();
        // Without a configuration pictures are dropped anyway, keyframes too.
        if let (MediaEvent::Video(picture), Some(_)) = (&event, &self.media.video)
            && !self.joining.takes(&self.stream.id, picture)
        {
            return;
        }
        let closed = self.media.segmenter.push(&event);
        self.store(closed).await;
        let item = match event {
            MediaEvent::VideoConfig(config) => {
                self.media.video = Some(Arc::new(config));
                return;
            }
            MediaEvent::AudioConfig(config) => {
                self.media.audio = Some(Arc::new(config));
                return;
            }
            MediaEvent::Video(packet) => self.media.video.clone().map(|config| Item::Video(config, packet)),
            MediaEvent::Audio(packet) => self.media.audio.clone().map(|config| Item::Audio(config, packet)),
        };
        if let Some(item) = item {
            let dropped = self.ring.push(item);
            if dropped > 0 {
                count_dropped(&self.stream.id, "sampler_queue", dropped);
            }
        }
    }

    /// Closes the open segment, lets the last samples out, and returns what the session needs should
    /// its publisher come back.
    pub(crate) async fn finish(mut self) -> SessionMedia {
        let closed = self.media.segmenter.finish();
        let failed = closed.is_err();
        self.store(closed).await;
        if failed {
            // What had closed before is told now.
            let rest = self.media.segmenter.finish();
            self.store(rest).await;
        }
        self.ring.close();
        let uploaded = async {
            if let Some(uploads) = &self.shared.uploads {
                uploads.settle(&self.stream.id).await;
            }
        };
        let sampled = tokio::time::timeout(LAST_SAMPLES, &mut self.sampling);
        let (sampled, ()) = tokio::join!(sampled, uploaded);
        if sampled.is_err() {
            self.sampling.abort();
            count_dropped(&self.stream.id, "unfinished", 1);
            tracing::warn!(stream_id = %self.stream.id, session = %self.media.session, "the last samples took too long");
        }
        metrics::gauge!("crest_feeds_live").decrement(1.0);
        self.media
    }

    /// Without room the feed goes on, to be sampled and decided on; its media is not stored.
    fn look_at_the_room(&mut self) {
        let withheld = self.shared.space.room() != Room::Ample;
        if withheld != self.withheld {
            self.withheld = withheld;
            self.media.segmenter.withhold(withheld);
            let what = if withheld {
                "media of this feed is not stored: the disk is nearly full"
            } else {
                "media of this feed is stored again"
            };
            tracing::info!(stream_id = %self.stream.id, session = %self.media.session, "{what}");
        }
    }

    /// What comes next comes so long after the latest packet.
    pub(crate) fn leave_out(&mut self, after: MediaTime) {
        self.media.timeline.leave_out(after);
    }

    fn place(&mut self, event: MediaEvent) -> MediaEvent {
        let placed = match event {
            MediaEvent::Video(packet) => MediaEvent::Video(self.media.timeline.place(Track::Video, packet)),
            MediaEvent::Audio(packet) => MediaEvent::Audio(self.media.timeline.place(Track::Audio, packet)),
            other => return other,
        };
        let jumps = self.media.timeline.rebased();
        if jumps != self.jumps {
            metrics::counter!("crest_timeline_jumps_total").increment(jumps - self.jumps);
            tracing::warn!(stream_id = %self.stream.id, session = %self.media.session, "the publisher's timestamps jumped");
            self.jumps = jumps;
        }
        placed
    }

    /// Indexes closed fragments and tells of them, or hands over the files that are closed with them.
    /// Trouble is said once, and does not end the feed: its samples are still worth having.
    async fn store(&mut self, closed: Result<Vec<Fragment>>) {
        let mut result = Ok(());
        let fragments = closed.unwrap_or_else(|error| {
            metrics::counter!("crest_fragments_lost_total", "cause" => "segmenter").increment(1);
            result = Err(error.context("the feed could not be stored"));
            Vec::new()
        });
        if fragments.is_empty() && result.is_ok() {
            return;
        }
        if let Some(uploads) = self.shared.uploads.clone() {
            let handed = self.hand_over(&uploads, fragments).await;
            result = result.and(handed);
        } else {
            for fragment in &fragments {
                if let Err(error) = self.index(fragment).await {
                    metrics::counter!("crest_fragments_lost_total", "cause" => "index").increment(1);
                    result = Err(error.context("a stored fragment could not be indexed"));
                }
            }
        }
        match result {
            Ok(()) => self.trouble = None,
            Err(error) if self.trouble.as_ref() == Some(&error.message) => {}
            Err(error) => {
                tracing::error!(stream_id = %self.stream.id, session = %self.media.session, %error, "media is being lost");
                self.trouble = Some(error.message);
            }
        }
    }

    /// Hands over the files that do not grow any more.
    async fn hand_over(&mut self, uploads: &Arc<Uploads>, fragments: Vec<Fragment>) -> Result<()> {
        let mut result = Ok(());
        for file in self.media.growing.take(fragments, self.media.segmenter.open_file()) {
            // It may be the only copy for long.
            if let Some(first) = file.fragments.first() {
                result = result.and(self.make_durable(first).await);
            }
            uploads.add(file);
        }
        result
    }

    async fn make_durable(&self, fragment: &Fragment) -> Result<()> {
        let (root, stored) = (self.shared.root.clone(), fragment.clone());
        let durable = tokio::task::spawn_blocking(move || crest_media::make_durable(&root, &stored));
        durable.await.map_err(|e| Error::ours(format!("bringing a fragment to the disk ended abnormally: {e}")))?
    }

    async fn index(&self, fragment: &Fragment) -> Result<()> {
        let shared = &self.shared;
        // On the disk before the index says that it is.
        self.make_durable(fragment).await?;
        around(Stage::Fragment, patiently(|| shared.store.add_fragment(fragment))).await?;
        let record = Record::new(Topic::MediaSegments, self.stream.id.clone(), fragment.encode());
        patiently(|| shared.bus.append(Topic::MediaSegments, vec![record.clone()])).await?;
        Ok(())
    }
}
