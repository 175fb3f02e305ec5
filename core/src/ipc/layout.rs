//! Checks what an Arrow stream says of itself before anything is read from it, and says where its parts lie. The
//! library takes it on trust: it allocates what a message announces, asserts that buffers lie within it, and
//! knows no error for a type that it does not know.

use arrow_ipc::{Endianness, Field, Precision, RecordBatch, Type, root_as_message};

pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];

/// Says why something is no Arrow stream that payloads may be.
type Reason = &'static str;

const FOREIGN: Reason = "it does not begin as an Arrow stream does";
const CUT_SHORT: Reason = "it is cut short";
const NO_SCHEMA: Reason = "it does not begin with a schema";
const NO_BATCH: Reason = "no batch follows its schema";
const NOT_PLAIN: Reason = "it has columns of types that no payload has";
const INCONSISTENT: Reason = "its batch does not hold what it announces";

/// A schema of plain columns and one batch whose parts lie within it, as [`super::encode`] writes them.
pub(crate) struct Layout<'a> {
    /// What the schema says besides.
    pub(super) organization: Option<&'a str>,
    pub(super) session: Option<&'a str>,
    columns: Vec<Column<'a>>,
    /// How many values each column has.
    pub(super) rows: usize,
}

impl<'a> Layout<'a> {
    /// Places the columns of a batch: so many rows, and for each column and each buffer what the batch says of
    /// it. `None` where a buffer is not within the body, or does not hold the values that are announced.
    pub(super) fn of_parts(
        mut columns: Vec<Column<'a>>,
        rows: i64,
        mut nodes: impl Iterator<Item = Node>,
        mut buffers: impl Iterator<Item = Extent>,
        body: &'a [u8],
    ) -> Option<Self> {
        let rows = u64::try_from(rows).ok()?;
        let mut buffer = |bits: u64, unit: usize| {
            let buffer = buffers.next()?;
            let (offset, length) = (usize::try_from(buffer.offset).ok()?, usize::try_from(buffer.length).ok()?);
            let bytes = body.get(offset..offset.checked_add(length)?)?;
            (bits.div_ceil(8) <= length as u64 && length.is_multiple_of(unit)).then_some(bytes)
        };
        for column in &mut columns {
            let node = nodes.next()?;
            let nulls = u64::try_from(node.nulls).ok()?;
            (u64::try_from(node.length).ok()? == rows && nulls <= rows).then_some(())?;
            let present = buffer(if nulls > 0 { rows } else { 0 }, 1)?;
            column.present = (nulls > 0).then_some(present);
            if let Some(bits) = column.kind.bits() {
                column.values = buffer(rows.checked_mul(bits)?, bits.div_ceil(8) as usize)?;
            } else {
                column.values = buffer(if rows > 0 { rows.checked_add(1)?.checked_mul(32)? } else { 0 }, 4)?;
                column.bytes = buffer(0, 1)?;
            }
        }
        // Without columns nothing else bounds the rows.
        (rows == 0 || !columns.is_empty()).then_some(())?;
        Some(Self { organization: None, session: None, columns, rows: usize::try_from(rows).ok()? })
    }

    /// Names and types of the columns.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Kind)> {
        self.columns.iter().map(|column| (column.name, column.kind))
    }

    /// The column of that name.
    pub(super) fn column(&self, name: &str) -> Option<&Column<'a>> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What a batch says of a column.
pub(super) struct Node {
    pub(super) length: i64,
    pub(super) nulls: i64,
}

/// Where a buffer lies in the body.
pub(super) struct Extent {
    pub(super) offset: i64,
    pub(super) length: i64,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// UTF-8, which is not looked at here.
    Text,
    /// Bytes.
    Binary,
    /// Bits.
    Bool,
    /// Whole numbers of so many bits, with a sign or without.
    Int(u64, bool),
    /// Other numbers of so many bits.
    Float(u64),
}

impl Kind {
    /// Bits of a value, where all have the same.
    fn bits(self) -> Option<u64> {
        match self {
            Kind::Text | Kind::Binary => None,
            Kind::Bool => Some(1),
            Kind::Int(bits, _) | Kind::Float(bits) => Some(bits),
        }
    }
}

/// A column and where its values lie.
pub(super) struct Column<'a> {
    name: &'a str,
    pub(super) kind: Kind,
    /// A bit for each value: whether it is there. None where all are.
    present: Option<&'a [u8]>,
    /// The values, or where their bytes begin and end.
    values: &'a [u8],
    /// The bytes of texts.
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    /// A column of which it is not known yet where it lies.
    pub(super) fn new(name: &'a str, kind: Kind) -> Self {
        Self { name, kind, present: None, values: &[], bytes: &[] }
    }

    fn is_present(&self, row: usize) -> bool {
        self.present.is_none_or(|bits| bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1))
    }

    /// The 64 bits of a value.
    pub(super) fn word(&self, row: usize) -> Option<[u8; 8]> {
        self.is_present(row).then(|| self.values.as_chunks().0.get(row).copied()).flatten()
    }

    /// The bytes of a text.
    pub(super) fn text(&self, row: usize) -> Option<&'a [u8]> {
        let offset = |row: usize| usize::try_from(i32::from_le_bytes(*self.values.as_chunks().0.get(row)?)).ok();
        self.is_present(row).then(|| self.bytes.get(offset(row)?..offset(row + 1)?)).flatten()
    }
}

/// Where the parts of an Arrow stream lie. What follows the first batch is not read.
pub(super) fn of(payload: &[u8]) -> Result<Layout<'_>, Reason> {
    let (schema, rest) = split(payload, FOREIGN)?;
    let message = root_as_message(schema).map_err(|_| FOREIGN)?;
    let body = usize::try_from(message.bodyLength()).map_err(|_| FOREIGN)?;
    let schema = message.header_as_schema().ok_or(NO_SCHEMA)?;
    let fields = schema.fields().filter(|_| schema.endianness() == Endianness::Little).ok_or(NO_SCHEMA)?;
    let columns: Vec<Column> = fields.iter().map(column).collect::<Option<_>>().ok_or(NOT_PLAIN)?;
    let (batch, rest) = split(rest.get(body..).ok_or(CUT_SHORT)?, CUT_SHORT)?;
    let message = root_as_message(batch).map_err(|_| NO_BATCH)?;
    let body = usize::try_from(message.bodyLength()).map_err(|_| NO_BATCH)?;
    let body = rest.get(..body).ok_or(CUT_SHORT)?;
    let batch = message.header_as_record_batch().ok_or(NO_BATCH)?;
    let mut layout = placed(batch, columns, body).ok_or(INCONSISTENT)?;
    let says = |key| {
        let pairs = schema.custom_metadata()?;
        pairs.iter().filter(|pair| pair.key() == Some(key)).filter_map(|pair| pair.value()).next_back()
    };
    (layout.organization, layout.session) = (says("organization"), says("session"));
    Ok(layout)
}

fn placed<'a>(batch: RecordBatch, columns: Vec<Column<'a>>, body: &'a [u8]) -> Option<Layout<'a>> {
    let nodes = batch.nodes()?.iter().map(|node| Node { length: node.length(), nulls: node.null_count() });
    let buffers = batch.buffers()?.iter().map(|buffer| Extent { offset: buffer.offset(), length: buffer.length() });
    batch.compression().is_none().then_some(())?;
    Layout::of_parts(columns, batch.length(), nodes, buffers, body)
}

/// Splits a message's head off; its body follows.
fn split(bytes: &[u8], otherwise: Reason) -> Result<(&[u8], &[u8]), Reason> {
    let bytes = bytes.strip_prefix(&CONTINUATION).unwrap_or(bytes);
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(otherwise)?;
    let length = usize::try_from(i32::from_le_bytes(*length)).ok().filter(|length| *length > 0).ok_or(otherwise)?;
    rest.split_at_checked(length).ok_or(CUT_SHORT)
}

/// A column of one of the types that payloads have.
fn column(field: Field<'_>) -> Option<Column<'_>> {
    let kind = match field.type_type() {
        Type::Utf8 => Kind::Text,
        Type::Binary => Kind::Binary,
        Type::Bool => Kind::Bool,
        Type::Int => {
            let int = field.type_as_int()?;
            let width = int.bitWidth();
            matches!(width, 8 | 16 | 32 | 64).then_some(Kind::Int(u64::from(width.unsigned_abs()), int.is_signed()))?
        }
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            Precision::SINGLE => Kind::Float(32),
            Precision::DOUBLE => Kind::Float(64),
            _ => return None,
        },
        _ => return None,
    };
    field.dictionary().is_none().then(|| Column::new(field.name().unwrap_or_default(), kind))
}
