//! Writes and reads Arrow streams of one schema without asking the library each time. The library makes the heads
//! of both messages once. For each payload they are copied and the numbers in them replaced, where the heads
//! themselves say that they stand; a payload whose heads are the same but for these numbers is read as easily.
//! A payload of a few rows is nearly all head: this is most of the work on one.

use arrow_array::{RecordBatch, new_null_array};
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_ipc::{KeyValue, Message, RecordBatch as Batch, root_as_message};
use arrow_schema::{Field, Schema};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::{self, CONTINUATION, Column, Extent, Kind, Layout, Node};
use crate::error::{Error, Result};
use crate::id::OrganizationId;
use crate::time::Session;

/// What stands before the head of a message: the continuation mark and the head's length.
const PREFIX: usize = 8;
/// Heads, buffers and bodies end at multiples of this.
const ALIGNMENT: usize = 8;

/// The heads of a stream of one schema, and places in them.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Vec<(String, Kind)>,
    schema: Head,
    organization: usize,
    session: usize,
    batch: Head,
    rows: usize,
    body_length: usize,
    nodes: Range<usize>,
    buffers: Range<usize>,
}

/// A head in which some places differ from payload to payload.
#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    /// What lies between these places.
    fixed: Vec<Range<usize>>,
}

impl Head {
    fn new(bytes: &[u8], mut open: Vec<Range<usize>>) -> Self {
        open.sort_by_key(|place| place.start);
        let starts = std::iter::once(0).chain(open.iter().map(|place| place.end));
        let ends = open.iter().map(|place| place.start).chain([bytes.len()]);
        let fixed = starts.zip(ends).map(|(start, end)| start..end).collect();
        Self { bytes: bytes.to_vec(), fixed }
    }

    /// Whether these bytes begin as this head does.
    fn begins(&self, bytes: &[u8]) -> bool {
        self.fixed.iter().all(|part| bytes.get(part.clone()).is_some_and(|bytes| *bytes == self.bytes[part.clone()]))
    }
}

impl Template {
    /// For payloads of these columns.
    pub(crate) fn new(fields: Vec<Field>) -> Result<Self> {
        let metadata = ["organization", "session"].map(|key| (key.to_owned(), String::new()));
        // A row, or the heads leave out what is nought.
        let arrays = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        let schema = Arc::new(Schema::new(fields).with_metadata(HashMap::from(metadata)));
        let written = RecordBatch::try_new(schema.clone(), arrays).and_then(|batch| {
            let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options()?)?;
            writer.write(&batch)?;
            writer.into_inner()
        });
        let written = written.map_err(|e| Error::ours(format!("cannot lay out an Arrow stream: {e}")))?;
        Self::of(&written).ok_or_else(|| Error::ours("an Arrow stream is laid out otherwise than it is read"))
    }

    fn of(written: &[u8]) -> Option<Self> {
        let columns = layout::of(written).ok()?.fields().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let (schema, rest) = head(written)?;
        let (batch, _) = head(rest)?;
        let message = root_as_message(schema).ok()?;
        let pairs = message.header_as_schema()?.custom_metadata()?;
        let value = |key| {
            let pair = pairs.iter().find(|pair| pair.key() == Some(key))?;
            place(pair._tab.loc(), pair._tab.vtable().get(KeyValue::VT_VALUE))
        };
        let (organization, session) = (value("organization")?, value("session")?);
        let schema = Head::new(schema, vec![organization..organization + 4, session..session + 4]);
        let message = root_as_message(batch).ok()?;
        let body_length = place(message._tab.loc(), message._tab.vtable().get(Message::VT_BODYLENGTH))?;
        let of = message.header_as_record_batch()?;
        let rows = place(of._tab.loc(), of._tab.vtable().get(Batch::VT_LENGTH))?;
        let within = |part: &[u8]| {
            let start = (part.as_ptr() as usize).checked_sub(batch.as_ptr() as usize)?;
            Some(start..start + part.len())
        };
        let (nodes, buffers) = (within(of.nodes()?.bytes())?, within(of.buffers()?.bytes())?);
        let open = vec![rows..rows + 8, body_length..body_length + 8, nodes.clone(), buffers.clone()];
        let batch = Head::new(batch, open);
        Some(Self { columns, schema, organization, session, batch, rows, body_length, nodes, buffers })
    }

    /// Where the parts of a payload lie that was written with this template; `None` for every other.
    pub(crate) fn read<'a>(&'a self, payload: &'a [u8]) -> Option<Layout<'a>> {
        let (schema, rest) = head(payload)?;
        let (batch, rest) = head(rest)?;
        let is_own = self.schema.begins(schema) && batch.len() == self.batch.bytes.len() && self.batch.begins(batch);
        is_own.then_some(())?;
        let pairs = |place: &Range<usize>| {
            let words = batch.get(place.clone()).unwrap_or_default().as_chunks().0;
            words.as_chunks().0.iter().map(|[a, b]| (i64::from_le_bytes(*a), i64::from_le_bytes(*b)))
        };
        let nodes = pairs(&self.nodes).map(|(length, nulls)| Node { length, nulls });
        let buffers = pairs(&self.buffers).map(|(offset, length)| Extent { offset, length });
        let body = rest.get(..usize::try_from(word(batch, self.body_length)?).ok()?)?;
        let columns = self.columns.iter().map(|(name, kind)| Column::new(name, *kind)).collect();
        let mut layout = Layout::of_parts(columns, word(batch, self.rows)?, nodes, buffers, body)?;
        layout.organization = Some(text(schema, self.organization)?);
        layout.session = Some(text(schema, self.session)?);
        Some(layout)
    }

    /// Begins a payload of so many rows; the columns follow, each of them, in order.
    pub(crate) fn begin(&self, organization: &OrganizationId, session: Session, rows: usize) -> Columns {
        let mut out = Vec::with_capacity(self.schema.bytes.len() + self.batch.bytes.len() + 128 + rows * 64);
        out.extend_from_slice(&CONTINUATION);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.schema.bytes);
        append_text(&mut out, PREFIX + self.organization, organization.as_str());
        append_text(&mut out, PREFIX + self.session, &session.to_string());
        set_length(&mut out, 0);
        let batch = out.len() + PREFIX;
        out.extend_from_slice(&CONTINUATION);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.batch.bytes);
        set_length(&mut out, batch - PREFIX);
        set_word(&mut out, batch + self.rows, rows);
        let (body, body_length) = (out.len(), batch + self.body_length);
        let (node, buffer) = (batch + self.nodes.start, batch + self.buffers.start);
        Columns { out, rows, body, body_length, node, buffer }
    }
}

/// How payloads are written: with parts as close to each other as the format allows.
pub(super) fn options() -> Result<IpcWriteOptions, arrow_schema::ArrowError> {
    IpcWriteOptions::try_new(ALIGNMENT, false, arrow_ipc::MetadataVersion::V5)
}

/// The head of the first message without its prefix, and what follows it.
fn head(written: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = written.strip_prefix(&CONTINUATION)?.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_le_bytes(*length)).ok()?)
}

/// Where a field of a table stands; `None` where the table leaves it out.
fn place(table: usize, field: u16) -> Option<usize> {
    (field > 0).then(|| table + usize::from(field))
}

fn word(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|word| i64::from_le_bytes(*word))
}

/// The text to which the reference at `from` leads.
fn text(bytes: &[u8], from: usize) -> Option<&str> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number) as usize);
    let at = from.checked_add(number(from)?)?;
    let start = at.checked_add(4)?;
    std::str::from_utf8(bytes.get(start..start.checked_add(number(at)?)?)?).ok()
}

/// Puts a text at the end and lets the reference at `from` lead there.
fn append_text(out: &mut Vec<u8>, from: usize, text: &str) {
    out.resize(out.len().next_multiple_of(4), 0);
    let distance = u32::try_from(out.len() - from).unwrap_or(u32::MAX);
    out[from..from + 4].copy_from_slice(&distance.to_le_bytes());
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// Ends the head whose prefix is at `prefix`.
fn set_length(out: &mut Vec<u8>, prefix: usize) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    let length = u32::try_from(out.len() - prefix - PREFIX).unwrap_or(u32::MAX);
    out[prefix + 4..prefix + PREFIX].copy_from_slice(&length.to_le_bytes());
}

fn set_word(out: &mut [u8], at: usize, value: usize) {
    out[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
}

/// Writes the columns of a payload.
pub(crate) struct Columns {
    out: Vec<u8>,
    rows: usize,
    /// Where the body begins.
    body: usize,
    /// Where its length, the next column's node and the next buffer are noted.
    body_length: usize,
    node: usize,
    buffer: usize,
}

impl Columns {
    /// A column of values of 64 bits.
    pub(crate) fn words(&mut self, cells: impl Iterator<Item = Option<u64>> + Clone) {
        self.present(cells.clone().map(|cell| cell.is_some()));
        let from = self.out.len();
        self.out.extend(cells.flat_map(|cell| cell.unwrap_or(0).to_le_bytes()));
        self.note(from);
    }

    /// A column of texts.
    pub(crate) fn texts<'a>(&mut self, cells: impl Iterator<Item = Option<&'a str>> + Clone) {
        self.present(cells.clone().map(|cell| cell.is_some()));
        let from = self.out.len();
        let lengths = cells.clone().map(|cell| cell.map_or(0, str::len));
        let ends = std::iter::once(0).chain(lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        self.out.extend(ends.flat_map(|end| u32::try_from(end).unwrap_or(u32::MAX).to_le_bytes()));
        self.note(from);
        let from = self.out.len();
        cells.flatten().for_each(|text| self.out.extend_from_slice(text.as_bytes()));
        self.note(from);
    }

    /// The payload.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = self.out.len() - self.body;
        set_word(&mut self.out, self.body_length, length);
        self.out
    }

    /// Notes the next column and says which of its values are there; nothing where all are.
    fn present(&mut self, cells: impl Iterator<Item = bool>) {
        let from = self.out.len();
        let mut nulls = 0;
        for (row, is_there) in cells.enumerate() {
            if row % 8 == 0 {
                self.out.push(0);
            }
            if let (true, Some(last)) = (is_there, self.out.last_mut()) {
                *last |= 1 << (row % 8);
            }
            nulls += usize::from(!is_there);
        }
        if nulls == 0 {
            self.out.truncate(from);
        }
        set_word(&mut self.out, self.node, self.rows);
        set_word(&mut self.out, self.node + 8, nulls);
        self.node += 16;
        self.note(from);
    }

    /// Ends the buffer that begins at `from`.
    fn note(&mut self, from: usize) {
        let length = self.out.len() - from;
        set_word(&mut self.out, self.buffer, from - self.body);
        set_word(&mut self.out, self.buffer + 8, length);
        self.buffer += 16;
        self.out.resize(self.out.len().next_multiple_of(ALIGNMENT), 0);
    }
}
