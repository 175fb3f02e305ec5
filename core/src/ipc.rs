//! Arrow record batches as payloads of the bus. What holds for a whole batch (tenant, session)
//! stands in the schema's metadata.

mod layout;
mod template;

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
use layout::{Column, Kind, Layout};
pub(crate) use template::Template;

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
    let options = template::options().map_err(fail)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::with_capacity(1024), &schema, options).map_err(fail)?;
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
        self.batch.column_by_name(name).ok_or_else(|| no_column(name))
    }
}

fn no_column(name: &str) -> Error {
    Error::outside(format!("the record has no column '{name}'"))
}

fn wrong_type(name: &str) -> Error {
    Error::outside(format!("column '{name}' has another type than the schema version says"))
}

/// A payload that is read without the library: no array is made of it.
pub(crate) struct Plain<'a> {
    pub(crate) organization: OrganizationId,
    pub(crate) session: Session,
    layout: Layout<'a>,
}

impl<'a> Plain<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.layout.rows
    }
    pub(crate) fn texts(&self, name: &str) -> Result<impl Fn(usize) -> Option<&'a [u8]>> {
        let column = self.column(name, Kind::Text)?;
        Ok(|row| column.text(row))
    }
    pub(crate) fn unsigned(&self, name: &str) -> Result<impl Fn(usize) -> Option<u64>> {
        let column = self.column(name, Kind::Int(64, false))?;
        Ok(|row| column.word(row).map(u64::from_le_bytes))
    }
    pub(crate) fn signed(&self, name: &str) -> Result<impl Fn(usize) -> Option<i64>> {
        let column = self.column(name, Kind::Int(64, true))?;
        Ok(|row| column.word(row).map(i64::from_le_bytes))
    }
    pub(crate) fn floats(&self, name: &str) -> Result<impl Fn(usize) -> Option<f64>> {
        let column = self.column(name, Kind::Float(64))?;
        Ok(|row| column.word(row).map(f64::from_le_bytes))
    }
    fn column(&self, name: &str, kind: Kind) -> Result<&Column<'a>> {
        let column = self.layout.column(name).ok_or_else(|| no_column(name))?;
        if column.kind == kind { Ok(column) } else { Err(wrong_type(name)) }
    }
}

/// Reads what stands in a payload's heads: quickly, where the template wrote it.
pub(crate) fn open<'a>(payload: &'a [u8], template: Option<&'a Template>) -> Result<Plain<'a>> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        let length = payload.len();
        return Err(Error::outside(format!("a payload of {length} bytes is over the limit of {MAX_PAYLOAD_BYTES}")));
    }
    let layout = match template.and_then(|template| template.read(payload)) {
        Some(layout) => layout,
        None => layout::of(payload)
            .map_err(|reason| Error::outside(format!("not an Arrow record of plain columns: {reason}")))?,
    };
    let unnamed = |key| move || Error::outside(format!("the record does not name its {key}"));
    let organization = OrganizationId::from_raw(layout.organization.ok_or_else(unnamed("organization"))?);
    let session = layout.session.ok_or_else(unnamed("session"))?.parse().map(Session::new);
    let session = session.map_err(|_| Error::outside("the record's session is not a number"))?;
    Ok(Plain { organization, session, layout })
}

/// Reads a payload into arrays.
pub(crate) fn decode(payload: &[u8]) -> Result<Decoded> {
    let Plain { organization, session, .. } = open(payload, None)?;
    let fail = |e: arrow_schema::ArrowError| Error::outside(format!("not an Arrow record: {e}"));
    let mut reader = StreamReader::try_new(payload, None).map_err(fail)?;
    let batch = reader.next().ok_or_else(|| Error::outside("an Arrow record without a batch"))?.map_err(fail)?;
    Ok(Decoded { organization, session, batch })
}

/// `Some(value)` where the cell is not null.
pub(crate) fn cell<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}
