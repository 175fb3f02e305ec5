//! `signals.parquet`: one row per value, `time_s`, `signal`, `value`; the fused score among them as
//! `score`.

use anyhow::Context;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

use super::pipeline::Results;

/// Writes the file; the same results yield the same bytes.
pub(super) fn write(results: &Results, path: &Path) -> anyhow::Result<()> {
    let mut rows: Vec<(f64, &str, f64)> = results
        .values
        .iter()
        .map(|((bucket, signal), value)| (bucket.start().secs_f64(), signal.name(), *value))
        .collect();
    rows.extend(results.scores.iter().map(|s| (s.bucket.start().secs_f64(), "score", s.score)));
    let batch = RecordBatch::try_from_iter([
        ("time_s", Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Float64Array>()) as ArrayRef),
        ("signal", Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>())),
        ("value", Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Float64Array>())),
    ])?;
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}
