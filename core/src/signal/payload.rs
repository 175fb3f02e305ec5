//! The signals log on the bus: Arrow, columns `kind`, `name`, `bucket`, `value`, `time`.

use arrow_schema::{DataType, Field};
use std::sync::LazyLock;

use super::{Modality, Signal, SignalBatch, SignalEntry};
use crate::error::{Error, Result};
use crate::ipc::{self, Plain, Template};
use crate::time::{Bucket, MediaTime, WallTime};

/// The `name` of a session start without media.
const CHAT_ONLY: &str = "chat";

/// So much of an unknown name is told.
const LONGEST_NAME: usize = 64;

static TEMPLATE: LazyLock<Result<Template>> = LazyLock::new(|| {
    let columns = [
        ("kind", DataType::Utf8),
        ("name", DataType::Utf8),
        ("bucket", DataType::UInt64),
        ("value", DataType::Float64),
        ("time", DataType::Int64),
    ];
    Template::new(columns.map(|(name, kind)| Field::new(name, kind, true)).into())
});

/// The columns that an entry has.
struct Row {
    kind: &'static str,
    name: Option<&'static str>,
    bucket: Option<u64>,
    value: Option<f64>,
    time: Option<i64>,
}

impl Row {
    fn of(entry: &SignalEntry) -> Self {
        let row = |kind| Self { kind, name: None, bucket: None, value: None, time: None };
        match *entry {
            SignalEntry::SessionStart { wall, media } => {
                Self { name: (!media).then_some(CHAT_ONLY), time: Some(wall.0), ..row("session_start") }
            }
            SignalEntry::Value { bucket, signal, value } => Self {
                kind: "value",
                name: Some(signal.name()),
                bucket: Some(bucket.index()),
                value: Some(value),
                time: None,
            },
            SignalEntry::Watermark { modality, to } => {
                Self { name: Some(modality.name()), time: Some(to.nanos()), ..row("watermark") }
            }
            SignalEntry::Mark { at } => Self { time: Some(at.nanos()), ..row("mark") },
            SignalEntry::SessionEnd { at } => Self { time: Some(at.nanos()), ..row("session_end") },
        }
    }
}

impl SignalBatch {
    /// As the payload of `signals`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let template = TEMPLATE.as_ref().map_err(Clone::clone)?;
        let mut columns = template.begin(&self.organization_id, self.session, self.entries.len());
        let rows = self.entries.iter().map(Row::of);
        columns.texts(rows.clone().map(|row| Some(row.kind)));
        columns.texts(rows.clone().map(|row| row.name));
        columns.words(rows.clone().map(|row| row.bucket));
        columns.words(rows.clone().map(|row| row.value.map(f64::to_bits)));
        columns.words(rows.map(|row| row.time.map(i64::cast_unsigned)));
        Ok(columns.finish())
    }

    /// From the payload of `signals`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let plain = ipc::open(payload, TEMPLATE.as_ref().ok())?;
        let entries = entries(&plain)?;
        Ok(Self { organization_id: plain.organization, session: plain.session, entries })
    }
}

fn entries(plain: &Plain) -> Result<Vec<SignalEntry>> {
    let (kind, name) = (plain.texts("kind")?, plain.texts("name")?);
    let (bucket, value, time) = (plain.unsigned("bucket")?, plain.floats("value")?, plain.signed("time")?);
    let entry = |row| {
        let name = || name(row).ok_or_else(missing);
        let time = || time(row).ok_or_else(missing);
        Ok(match kind(row).ok_or_else(missing)? {
            b"value" => SignalEntry::Value {
                bucket: Bucket::new(bucket(row).ok_or_else(missing)?),
                signal: signal(name()?)?,
                value: value(row).filter(|value| value.is_finite()).ok_or_else(missing)?,
            },
            b"watermark" => SignalEntry::Watermark { modality: modality(name()?)?, to: MediaTime::from_nanos(time()?) },
            b"session_start" => {
                SignalEntry::SessionStart { wall: WallTime(time()?), media: name().ok() != Some(CHAT_ONLY.as_bytes()) }
            }
            b"mark" => SignalEntry::Mark { at: MediaTime::from_nanos(time()?) },
            b"session_end" => SignalEntry::SessionEnd { at: MediaTime::from_nanos(time()?) },
            other => return Err(unknown("signals entry", other)),
        })
    };
    // Each row takes some of the payload, whose length therefore bounds what is allocated.
    let mut entries = Vec::with_capacity(plain.rows());
    for row in 0..plain.rows() {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

fn signal(name: &[u8]) -> Result<Signal> {
    let found = Signal::CATALOGUE.iter().find(|info| info.name.as_bytes() == name);
    found.map(|info| info.signal).ok_or_else(|| unknown("signal", name))
}

fn modality(name: &[u8]) -> Result<Modality> {
    let found = Modality::ALL.into_iter().find(|modality| modality.name().as_bytes() == name);
    found.ok_or_else(|| unknown("modality", name))
}

fn missing() -> Error {
    Error::outside("a signals entry lacks a column that its kind needs")
}

fn unknown(what: &str, name: &[u8]) -> Error {
    let name = name.get(..LONGEST_NAME).unwrap_or(name);
    Error::outside(format!("unknown {what} '{}'", String::from_utf8_lossy(name).escape_debug()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
