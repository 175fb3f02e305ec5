//! Arrow record batches as payloads of the bus. What holds for a whole batch (tenant, session)
//! stands in the schema's metadata.

mod layout;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef, PrimitiveArray, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field, Schema};
use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::OrganizationId;
use crate::time::Session;

/// The largest payload that is decoded: a claim-check carries anything above.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

pub(crate) fn encode(
    organization: &OrganizationId,
    session: Session,
    columns: Vec<(Field, ArrayRef)>,
) -> Result<Vec<u8>> {
    let metadata = HashMap::from([
        ("organization".to_owned(), organization.to_string()),
        ("session".to_owned(), session.to_string()),
    ]);
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
    let fail = |e: arrow_schema::ArrowError| Error::ours(format!("cannot encode an Arrow batch: {e}"));
    let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(fail)?;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(1024), &schema).map_err(fail)?;
    writer.write(&batch).map_err(fail)?;
    writer.into_inner().map_err(fail)
}

/// A decoded payload with typed, checked access to its columns.
pub(crate) struct Decoded {
    pub(crate) organization: OrganizationId,
    pub(crate) session: Session,
    pub(crate) batch: RecordBatch,
}

impl Decoded {
    pub(crate) fn primitive<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&PrimitiveArray<T>> {
        self.column(name)?.as_primitive_opt::<T>().ok_or_else(|| wrong_type(name))
    }
    pub(crate) fn string(&self, name: &str) -> Result<&StringArray> {
        self.column(name)?.as_string_opt::<i32>().ok_or_else(|| wrong_type(name))
    }
    pub(crate) fn boolean(&self, name: &str) -> Result<&arrow_array::BooleanArray> {
        self.column(name)?.as_boolean_opt().ok_or_else(|| wrong_type(name))
    }
    pub(crate) fn binary(&self, name: &str) -> Result<&arrow_array::BinaryArray> {
        self.column(name)?.as_binary_opt::<i32>().ok_or_else(|| wrong_type(name))
    }
    fn column(&self, name: &str) -> Result<&ArrayRef> {
        self.batch.column_by_name(name).ok_or_else(|| Error::outside(format!("the record has no column '{name}'")))
    }
}

fn wrong_type(name: &str) -> Error {
    Error::outside(format!("column '{name}' has another type than the schema version says"))
}

pub(crate) fn decode(payload: &[u8]) -> Result<Decoded> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::outside(format!(
            "a payload of {} bytes is over the limit of {MAX_PAYLOAD_BYTES}",
            payload.len()
        )));
    }
    if !layout::is_sound(payload) {
        return Err(Error::outside("not an Arrow record of plain columns, or one that is cut short"));
    }
    let fail = |e: arrow_schema::ArrowError| Error::outside(format!("not an Arrow record: {e}"));
    let mut reader = StreamReader::try_new(payload, None).map_err(fail)?;
    let schema = reader.schema();
    let batch = reader.next().ok_or_else(|| Error::outside("an Arrow record without a batch"))?.map_err(fail)?;
    let meta = |key: &str| {
        schema.metadata().get(key).cloned().ok_or_else(|| Error::outside(format!("the record does not name its {key}")))
    };
    let session =
        meta("session")?.parse::<u32>().map_err(|_| Error::outside("the record's session is not a number"))?;
    Ok(Decoded { organization: OrganizationId::from_raw(meta("organization")?), session: Session::new(session), batch })
}

/// `Some(value)` where the cell is not null.
pub(crate) fn cell<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}
