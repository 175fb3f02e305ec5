//! The task that samples a live feed: packets from the ring, pictures from the shared pool, sound
//! from the feed's own decoder, samples onto the bus. What it cannot do in time it drops and counts.

use crest_core::bus::{Record, SharedBus};
use crest_core::codec::{AudioConfig, Packet, VideoConfig};
use crest_core::sample::{AudioWindow, Picture, VideoBatch};
use crest_core::topic::Topic;
use crest_core::trace::Trace;
use crest_core::{Result, Session, StreamId};
use crest_media::{AudioDecoder, KeyframePool, Pcm};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::queue::{Item, Ring};
use crate::sampler::Sampler;

/// Samples of one session on their way to the bus.
pub(crate) struct Sampling {
    pub(crate) stream: StreamId,
    pub(crate) session: Session,
    pub(crate) bus: SharedBus,
    pub(crate) pool: KeyframePool,
    pub(crate) sampler: Sampler,
    /// The topics that samples went to.
    pub(crate) told: BTreeSet<Topic>,
    /// When the packet that is being sampled came.
    pub(crate) came: Option<Instant>,
}

/// The decoder of the configuration it was made for; `None` inside where that cannot be decoded.
struct Sound {
    config: Arc<AudioConfig>,
    decoder: Option<AudioDecoder>,
}

impl Sampling {
    /// Samples until the ring is closed and empty, gives out what is left, and waits until it has been
    /// analysed: the end of the session stands in the signals log behind what was measured before it.
    pub(crate) async fn run(mut self, ring: Arc<Ring>) {
        let mut sound: Option<Sound> = None;
        while let Some((came, item)) = ring.pop().await {
            self.came = Some(came);
            match item {
                Item::Video(config, packet) => self.video(&config, &packet).await,
                Item::Audio(config, packet) => {
                    let decoded = self.decode(&mut sound, &config, &packet);
                    self.sound(decoded).await;
                }
            }
        }
        // What is left waited for the end, not for us.
        self.came = None;
        let rest = self.drain(sound.take());
        self.sound(rest).await;
        let (batch, window) = self.sampler.finish();
        self.publish_video(batch).await;
        self.publish_audio(window).await;
        for topic in &self.told {
            if let Err(error) = self.bus.caught_up(*topic, &self.stream).await {
                tracing::warn!(stream_id = %self.stream, session = self.session.number(), %error, "the last samples may be analysed late");
            }
        }
    }

    async fn video(&mut self, config: &Arc<VideoConfig>, packet: &Packet) {
        let picture = if self.sampler.wants_picture(packet) { self.picture(config, packet).await } else { None };
        let batch = self.sampler.video(packet, picture);
        self.publish_video(batch).await;
    }

    /// The picture of a keyframe, in order: the ring holds what arrives meanwhile.
    async fn picture(&self, config: &Arc<VideoConfig>, packet: &Packet) -> Option<Picture> {
        let Some(answer) = self.pool.submit(config, packet) else {
            self.dropped("keyframe_queue", 1);
            return None;
        };
        match answer.await {
            Ok(Ok(picture)) => Some(picture),
            Ok(Err(error)) => {
                self.dropped("video_decoder", 1);
                tracing::debug!(stream_id = %self.stream, session = self.session.number(), %error, "a keyframe was not decoded");
                None
            }
            Err(_) => {
                self.dropped("video_decoder", 1);
                None
            }
        }
    }

    fn decode(&self, sound: &mut Option<Sound>, config: &Arc<AudioConfig>, packet: &Packet) -> Vec<Pcm> {
        let mut decoded = Vec::new();
        if sound.as_ref().is_none_or(|sound| sound.config != *config) {
            decoded = self.drain(sound.take());
            let decoder = AudioDecoder::new(config)
                .inspect_err(|error| tracing::warn!(stream_id = %self.stream, session = self.session.number(), %error, "the feed's sound is not heard"))
                .ok();
            *sound = Some(Sound { config: Arc::clone(config), decoder });
        }
        match sound.as_mut().and_then(|sound| sound.decoder.as_mut()).map(|decoder| decoder.push(packet)) {
            Some(Ok(pcm)) => decoded.extend(pcm),
            Some(Err(error)) => {
                self.dropped("audio_decoder", 1);
                tracing::debug!(stream_id = %self.stream, session = self.session.number(), %error, "an audio packet was not decoded");
            }
            None => self.dropped("audio_decoder", 1),
        }
        decoded
    }

    fn drain(&self, sound: Option<Sound>) -> Vec<Pcm> {
        let Some(mut decoder) = sound.and_then(|sound| sound.decoder) else { return Vec::new() };
        decoder.drain().unwrap_or_else(|error| {
            tracing::debug!(stream_id = %self.stream, session = self.session.number(), %error, "the audio decoder kept its last samples");
            Vec::new()
        })
    }

    async fn sound(&mut self, decoded: Vec<Pcm>) {
        for pcm in decoded {
            for window in self.sampler.audio(pcm) {
                self.publish_audio(Some(window)).await;
            }
        }
    }

    async fn publish_video(&mut self, batch: Option<VideoBatch>) {
        if let Some(batch) = batch {
            self.publish(Topic::MediaVideo, batch.encode()).await;
        }
    }

    async fn publish_audio(&mut self, window: Option<AudioWindow>) {
        if let Some(window) = window {
            self.publish(Topic::MediaAudio, window.encode()).await;
        }
    }

    async fn publish(&mut self, topic: Topic, payload: Result<Vec<u8>>) {
        let appended = match payload {
            Ok(payload) => {
                let record = Record::new(topic, self.stream.clone(), payload).traced(Some(Trace::begin()));
                self.bus.append(topic, vec![record]).await
            }
            Err(error) => Err(error),
        };
        match appended {
            Ok(()) => {
                if let Some(came) = self.came {
                    // How far samples are behind their feed: from the packet that completed one.
                    metrics::histogram!("crest_sample_delay_seconds", "topic" => topic.name()).record(came.elapsed());
                }
                self.told.insert(topic);
            }
            Err(error) => {
                self.dropped("bus", 1);
                tracing::warn!(stream_id = %self.stream, session = self.session.number(), topic = topic.name(), %error, "samples were not published");
            }
        }
    }

    fn dropped(&self, cause: &'static str, count: u64) {
        count_dropped(&self.stream, cause, count);
    }
}

/// Counts samples that are lost, by stream and cause.
pub(crate) fn count_dropped(stream: &StreamId, cause: &'static str, count: u64) {
    metrics::counter!("crest_samples_dropped_total", "stream" => stream.to_string(), "cause" => cause).increment(count);
}
