//! Signals, and the log that fusion is a function of.

mod payload;

use serde::{Deserialize, Serialize};

use crate::id::OrganizationId;
use crate::time::{Bucket, MediaTime, Session, WallTime};

/// What a signal is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// What is heard.
    Audio,
    /// What is seen.
    Video,
    /// What is typed.
    Chat,
}

impl Modality {
    /// Every modality.
    pub const ALL: [Modality; 3] = [Self::Audio, Self::Video, Self::Chat];

    /// Its name in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Chat => "chat",
        }
    }
}

/// A signal: one value for each bucket of media time in which there was something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Loudest momentary loudness (EBU R128, 400 ms) that ends in the bucket, in LUFS.
    AudioLoudness,
    /// Strongest onset in the bucket: positive spectral flux of log-compressed band magnitudes.
    AudioOnset,
    /// Encoded bytes of inter frames per second, as log2: motion and detail for nothing.
    VideoActivity,
    /// Mean absolute difference of luma between successive keyframes, 0..255.
    VideoChange,
    /// Messages per second.
    ChatRate,
    /// Different users who wrote within the trailing 5 s.
    ChatUnique,
}

/// A line of the signal catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SignalInfo {
    /// The signal.
    pub signal: Signal,
    /// Its name in expressions, the API and files.
    pub name: &'static str,
    /// What it is measured on.
    pub modality: Modality,
    /// The unit of `<name>_raw`.
    pub unit: &'static str,
    /// What it measures.
    pub description: &'static str,
}

const fn info(
    signal: Signal,
    name: &'static str,
    modality: Modality,
    unit: &'static str,
    description: &'static str,
) -> SignalInfo {
    SignalInfo { signal, name, modality, unit, description }
}

impl Signal {
    /// The catalogue of signals.
    pub const CATALOGUE: [SignalInfo; 6] = [
        info(
            Signal::AudioLoudness,
            "audio_loudness",
            Modality::Audio,
            "LUFS",
            "Loudest momentary loudness (EBU R128) in the bucket",
        ),
        info(
            Signal::AudioOnset,
            "audio_onset",
            Modality::Audio,
            "log10",
            "Strongest onset (positive spectral flux) in the bucket",
        ),
        info(
            Signal::VideoActivity,
            "video_activity",
            Modality::Video,
            "log2(byte/s)",
            "Encoded size of inter frames: motion and detail",
        ),
        info(
            Signal::VideoChange,
            "video_change",
            Modality::Video,
            "luma levels",
            "Mean absolute difference between successive keyframes",
        ),
        info(Signal::ChatRate, "chat_rate", Modality::Chat, "messages/s", "Messages per second"),
        info(
            Signal::ChatUnique,
            "chat_unique",
            Modality::Chat,
            "users",
            "Different users who wrote within the trailing 5 s",
        ),
    ];

    /// Its line in the catalogue.
    pub fn info(self) -> &'static SignalInfo {
        &Self::CATALOGUE[self as usize]
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().name
    }
    /// What it is measured on.
    pub fn modality(self) -> Modality {
        self.info().modality
    }
    /// The signal of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::CATALOGUE.iter().find(|i| i.name == name).map(|i| i.signal)
    }
}

/// One entry of the signals log.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum SignalEntry {
    /// A session begins; its media time 0 was at `wall`. Ends every earlier session of the stream.
    SessionStart {
        /// Wall-clock time of media time 0.
        wall: WallTime,
        /// Whether there are pictures or sound, by which time passes; else chat is the clock.
        media: bool,
    },
    /// A value. A later one for the same bucket and signal replaces it; of what chat counts, which only
    /// rises, the largest stands.
    Value {
        /// The bucket.
        bucket: Bucket,
        /// The signal.
        signal: Signal,
        /// The value, finite, in the signal's unit.
        value: f64,
    },
    /// No value of that modality follows for media before `to`.
    Watermark {
        /// The modality.
        modality: Modality,
        /// The first instant for which values may still come.
        to: MediaTime,
    },
    /// A person marked this instant.
    Mark {
        /// The instant.
        at: MediaTime,
    },
    /// The session is over; nothing of it follows.
    SessionEnd {
        /// Its last instant.
        at: MediaTime,
    },
}

/// Entries of one stream's log that were appended together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalBatch {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The session.
    pub session: Session,
    /// The entries, in order.
    pub entries: Vec<SignalEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_the_order_of_the_signals() {
        for (index, info) in Signal::CATALOGUE.iter().enumerate() {
            assert_eq!(info.signal as usize, index);
            assert_eq!(Signal::parse(info.name), Some(info.signal));
        }
    }
}
