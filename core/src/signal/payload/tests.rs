//! What is written can be read, also by the library, and what was written before; the rest has its reason.

use super::*;
use crate::id::OrganizationId;
use crate::time::Session;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray, UInt64Array};
use std::sync::Arc;

fn batch(organization: &str, session: u32, entries: Vec<SignalEntry>) -> SignalBatch {
    SignalBatch { organization_id: OrganizationId::from_raw(organization), session: Session::new(session), entries }
}

/// One of each kind.
fn all_kinds() -> Vec<SignalEntry> {
    vec![
        SignalEntry::SessionStart { wall: WallTime(1_795_000_000_000), media: true },
        SignalEntry::SessionStart { wall: WallTime(0), media: false },
        SignalEntry::Value { bucket: Bucket::new(7), signal: Signal::ChatRate, value: 0.1 + 0.2 },
        SignalEntry::Watermark { modality: Modality::Audio, to: MediaTime::from_millis(4000) },
        SignalEntry::Mark { at: MediaTime::from_millis(-1) },
        SignalEntry::SessionEnd { at: MediaTime::from_millis(9000) },
    ]
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.bits() as usize % bound
    }

    fn entry(&mut self) -> SignalEntry {
        let time = MediaTime::from_nanos(self.bits().cast_signed());
        match self.below(5) {
            0 => SignalEntry::SessionStart { wall: WallTime(time.nanos()), media: self.below(2) == 0 },
            1 => SignalEntry::Watermark { modality: Modality::ALL[self.below(Modality::ALL.len())], to: time },
            2 => SignalEntry::Mark { at: time },
            3 => SignalEntry::SessionEnd { at: time },
            _ => SignalEntry::Value {
                bucket: Bucket::new(self.bits()),
                signal: Signal::CATALOGUE[self.below(Signal::CATALOGUE.len())].signal,
                value: Some(f64::from_bits(self.bits())).filter(|value| value.is_finite()).unwrap_or(-0.0),
            },
        }
    }
}

/// As the library writes it.
fn written_by_the_library(batch: &SignalBatch, leave_out: &str) -> Vec<u8> {
    let rows: Vec<Row> = batch.entries.iter().map(Row::of).collect();
    let of = |name: &str, kind| Field::new(name, kind, true);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (of("kind", DataType::Utf8), Arc::new(rows.iter().map(|r| Some(r.kind)).collect::<StringArray>())),
        (of("name", DataType::Utf8), Arc::new(rows.iter().map(|r| r.name).collect::<StringArray>())),
        (of("bucket", DataType::UInt64), Arc::new(rows.iter().map(|r| r.bucket).collect::<UInt64Array>())),
        (of("value", DataType::Float64), Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>())),
        (of("time", DataType::Int64), Arc::new(rows.iter().map(|r| r.time).collect::<Int64Array>())),
    ];
    let columns = columns.into_iter().filter(|(field, _)| field.name() != leave_out).collect();
    ipc::encode(&batch.organization_id, batch.session, columns).unwrap()
}

type Cells = (String, Option<String>, Option<u64>, Option<u64>, Option<i64>);

/// The rows as the library reads them.
fn read_by_the_library(payload: &[u8]) -> Result<Vec<Cells>> {
    let decoded = ipc::decode(payload)?;
    let (kind, name) = (decoded.string("kind")?, decoded.string("name")?);
    let bucket = decoded.primitive::<UInt64Type>("bucket")?;
    let value = decoded.primitive::<Float64Type>("value")?;
    let time = decoded.primitive::<Int64Type>("time")?;
    let text = |column: &StringArray, row| column.is_valid(row).then(|| column.value(row).to_owned());
    let row = |row| {
        let value = ipc::cell(value, row).map(f64::to_bits);
        let kind = text(kind, row).unwrap_or_default();
        (kind, text(name, row), ipc::cell(bucket, row), value, ipc::cell(time, row))
    };
    Ok((0..decoded.batch.num_rows()).map(row).collect())
}

#[test]
fn the_log_survives_the_bus() {
    for entries in [all_kinds(), all_kinds()[2..3].to_vec(), vec![]] {
        let batch = batch("org_a", 2, entries);
        let payload = batch.encode().unwrap();
        assert!(TEMPLATE.as_ref().unwrap().read(&payload).is_some(), "its own payload is not read the quick way");
        assert_eq!(SignalBatch::decode(&payload), Ok(batch));
    }
}

#[test]
fn a_record_that_an_earlier_version_wrote_is_read() {
    // As `crest` 0.1 stored it: parts at multiples of 64.
    let stored = include_bytes!("stored-0.1.arrow");
    assert_eq!(SignalBatch::decode(stored), Ok(batch("org_a", 2, all_kinds())));
}

#[test]
fn the_library_reads_what_is_written_and_the_other_way_round() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let organization = "org_with_a_name_of_any_length"[..rng.below(30)].to_owned();
        let session = rng.bits() as u32;
        let batch = batch(&organization, session, (0..rng.below(40)).map(|_| rng.entry()).collect());
        let payload = batch.encode().unwrap();
        let row = |r: Row| (r.kind.to_owned(), r.name.map(str::to_owned), r.bucket, r.value.map(f64::to_bits), r.time);
        let rows: Vec<_> = batch.entries.iter().map(Row::of).map(row).collect();
        assert_eq!(read_by_the_library(&payload), Ok(rows), "seed {seed}");
        assert_eq!(SignalBatch::decode(&payload), Ok(batch.clone()), "seed {seed}");
        assert_eq!(SignalBatch::decode(&written_by_the_library(&batch, "")), Ok(batch), "seed {seed}");
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_as_the_library_reads_them() {
    let whole = batch("org_a", 2, all_kinds()).encode().unwrap();
    let mut both = 0;
    for seed in 0..4000 {
        let (mut rng, mut payload) = (Rng(seed), whole.clone());
        for _ in 0..=rng.below(3) {
            let at = rng.below(payload.len());
            payload[at] = rng.bits() as u8;
        }
        let (ours, theirs) = (SignalBatch::decode(&payload), read_by_the_library(&payload));
        let slowly = ipc::open(&payload, None).and_then(|plain| entries(&plain));
        if let (Ok(ours), Ok(slowly)) = (&ours, &slowly) {
            assert_eq!(&ours.entries, slowly, "seed {seed}");
        }
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            let kinds: Vec<_> = ours.entries.iter().map(|entry| Row::of(entry).kind).collect();
            assert_eq!(kinds, theirs.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), "seed {seed}");
            both += 1;
        }
    }
    assert!(both > 100, "only {both} were read");
}

fn reason(payload: &[u8]) -> String {
    let error = SignalBatch::decode(payload).expect_err("it is not read");
    assert_eq!(error.fault, crate::Fault::Outside, "not crest's fault: {error}");
    error.message
}

#[test]
fn what_is_no_signals_record_has_its_reason() {
    let whole = batch("org_a", 2, all_kinds());
    let payload = whole.encode().unwrap();
    for length in 0..payload.len() {
        let reason = reason(&payload[..length]);
        assert!(reason.starts_with("not an Arrow record of plain columns: "), "{length} bytes: {reason}");
    }
    assert!(reason(&payload[..payload.len() - 1]).contains("cut short"));
    assert!(reason(b"").contains("does not begin as an Arrow stream does"));
    assert!(reason(br#"{"kind":"value"}"#).contains("cut short"));
    assert!(reason(&[0; 400]).contains("does not begin as an Arrow stream does"));
    assert!(reason(&vec![0; ipc::MAX_PAYLOAD_BYTES + 1]).contains("over the limit"));
    assert_eq!(reason(&written_by_the_library(&whole, "time")), "the record has no column 'time'");
    // A record of another topic.
    let mark = crate::chat::Mark {
        organization_id: OrganizationId::from_raw("org_a"),
        session: Session::new(1),
        at: MediaTime::ZERO,
        label: None,
    };
    assert_eq!(reason(&mark.encode().unwrap()), "the record has no column 'kind'");
}

/// The same columns with other contents.
fn with(change: impl Fn(&mut Vec<(Field, ArrayRef)>)) -> String {
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let of = |name: &str, kind| Field::new(name, kind, true);
    let mut columns: Vec<(Field, ArrayRef)> = vec![
        (of("kind", DataType::Utf8), text("value")),
        (of("name", DataType::Utf8), text("chat_rate")),
        (of("bucket", DataType::UInt64), Arc::new(UInt64Array::from(vec![7]))),
        (of("value", DataType::Float64), Arc::new(Float64Array::from(vec![1.5]))),
        (of("time", DataType::Int64), Arc::new(Int64Array::from(vec![None]))),
    ];
    change(&mut columns);
    reason(&ipc::encode(&OrganizationId::from_raw("org_a"), Session::new(1), columns).unwrap())
}

#[test]
fn a_signals_record_of_another_kind_has_its_reason() {
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    assert_eq!(with(|columns| columns[0].1 = text("verdict")), "unknown signals entry 'verdict'");
    assert_eq!(with(|columns| columns[1].1 = text("applause\n")), "unknown signal 'applause\\n'");
    let long = with(|columns| columns[1].1 = text(&"x".repeat(100_000)));
    assert!(long.len() < 200, "{} bytes of reason", long.len());
    let lacks = "a signals entry lacks a column that its kind needs";
    assert_eq!(with(|columns| columns[2].1 = Arc::new(UInt64Array::from(vec![None]))), lacks);
    assert_eq!(with(|columns| columns[3].1 = Arc::new(Float64Array::from(vec![f64::NAN]))), lacks);
    let signed = |columns: &mut Vec<(Field, ArrayRef)>| {
        columns[2] = (Field::new("bucket", DataType::Int64, true), Arc::new(Int64Array::from(vec![7])));
    };
    assert_eq!(with(signed), "column 'bucket' has another type than the schema version says");
}
