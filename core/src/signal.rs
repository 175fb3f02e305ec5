//! Signals, and the log that fusion is a function of.

use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_schema::{DataType, Field};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::OrganizationId;
use crate::ipc;
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
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
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

/// The `name` of a session start without media.
const CHAT_ONLY: &str = "chat";

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
    /// A value; a later one for the same bucket and signal replaces it.
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

impl SignalBatch {
    /// As the payload of `signals`: columns `kind`, `name`, `bucket`, `value`, `time`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        type Row = (&'static str, Option<&'static str>, Option<u64>, Option<f64>, Option<i64>);
        let rows = self.entries.iter().map(|entry| -> Row {
            match *entry {
                SignalEntry::SessionStart { wall, media } => {
                    ("session_start", (!media).then_some(CHAT_ONLY), None, None, Some(wall.0))
                }
                SignalEntry::Value { bucket, signal, value } => {
                    ("value", Some(signal.name()), Some(bucket.index()), Some(value), None)
                }
                SignalEntry::Watermark { modality, to } => {
                    ("watermark", Some(modality.name()), None, None, Some(to.nanos()))
                }
                SignalEntry::Mark { at } => ("mark", None, None, None, Some(at.nanos())),
                SignalEntry::SessionEnd { at } => ("session_end", None, None, None, Some(at.nanos())),
            }
        });
        let rows: Vec<Row> = rows.collect();
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        ipc::encode(
            &self.organization_id,
            self.session,
            vec![
                (
                    field("kind", DataType::Utf8),
                    Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()) as ArrayRef,
                ),
                (field("name", DataType::Utf8), Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>())),
                (field("bucket", DataType::UInt64), Arc::new(rows.iter().map(|r| r.2).collect::<UInt64Array>())),
                (field("value", DataType::Float64), Arc::new(rows.iter().map(|r| r.3).collect::<Float64Array>())),
                (field("time", DataType::Int64), Arc::new(rows.iter().map(|r| r.4).collect::<Int64Array>())),
            ],
        )
    }

    /// From the payload of `signals`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let decoded = ipc::decode(payload)?;
        let kind = decoded.string("kind")?;
        let name = decoded.string("name")?;
        let bucket = decoded.primitive::<UInt64Type>("bucket")?;
        let value = decoded.primitive::<Float64Type>("value")?;
        let time = decoded.primitive::<Int64Type>("time")?;
        let missing = || Error::outside("a signals entry lacks a column that its kind needs");
        let mut entries = Vec::with_capacity(decoded.batch.num_rows());
        for row in 0..decoded.batch.num_rows() {
            let time = ipc::cell(time, row);
            let name = name.is_valid(row).then(|| name.value(row));
            entries.push(match kind.is_valid(row).then(|| kind.value(row)).ok_or_else(missing)? {
                "session_start" => SignalEntry::SessionStart {
                    wall: WallTime(time.ok_or_else(missing)?),
                    media: name != Some(CHAT_ONLY),
                },
                "value" => {
                    let name = name.ok_or_else(missing)?;
                    let value = ipc::cell(value, row).filter(|v| v.is_finite()).ok_or_else(missing)?;
                    SignalEntry::Value {
                        bucket: Bucket::new(ipc::cell(bucket, row).ok_or_else(missing)?),
                        signal: Signal::parse(name)
                            .ok_or_else(|| Error::outside(format!("unknown signal '{name}'")))?,
                        value,
                    }
                }
                "watermark" => SignalEntry::Watermark {
                    modality: name.and_then(Modality::parse).ok_or_else(missing)?,
                    to: MediaTime::from_nanos(time.ok_or_else(missing)?),
                },
                "mark" => SignalEntry::Mark { at: MediaTime::from_nanos(time.ok_or_else(missing)?) },
                "session_end" => SignalEntry::SessionEnd { at: MediaTime::from_nanos(time.ok_or_else(missing)?) },
                other => return Err(Error::outside(format!("unknown signals entry '{other}'"))),
            });
        }
        Ok(Self { organization_id: decoded.organization, session: decoded.session, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_survives_the_bus() -> Result<()> {
        let batch = SignalBatch {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(2),
            entries: vec![
                SignalEntry::SessionStart { wall: WallTime(1_795_000_000_000), media: true },
                SignalEntry::SessionStart { wall: WallTime(0), media: false },
                SignalEntry::Value { bucket: Bucket::new(7), signal: Signal::ChatRate, value: 0.1 + 0.2 },
                SignalEntry::Watermark { modality: Modality::Audio, to: MediaTime::from_millis(4000) },
                SignalEntry::Mark { at: MediaTime::from_millis(1) },
                SignalEntry::SessionEnd { at: MediaTime::from_millis(9000) },
            ],
        };
        assert_eq!(SignalBatch::decode(&batch.encode()?)?, batch);
        Ok(())
    }

    #[test]
    fn the_catalogue_is_in_the_order_of_the_signals() {
        for (index, info) in Signal::CATALOGUE.iter().enumerate() {
            assert_eq!(info.signal as usize, index);
            assert_eq!(Signal::parse(info.name), Some(info.signal));
        }
    }
}
