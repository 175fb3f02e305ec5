//! Checks what an Arrow stream says of itself before the library reads it. The library takes that on trust: it
//! allocates what a message announces, asserts that buffers lie within it, and knows no error for a type that it
//! does not know.

use arrow_ipc::{Field, Precision, RecordBatch, Type, root_as_message};

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Whether this is a schema of plain columns and one batch whose parts lie within it, as [`super::encode`]
/// writes them. What follows is not read.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    checked(payload).is_some()
}

fn checked(payload: &[u8]) -> Option<()> {
    let (schema, rest) = split(payload)?;
    let message = root_as_message(schema).ok()?;
    let body = usize::try_from(message.bodyLength()).ok()?;
    let columns: Vec<Column> = message.header_as_schema()?.fields()?.iter().map(column).collect::<Option<_>>()?;
    let (batch, rest) = split(rest.get(body..)?)?;
    let message = root_as_message(batch).ok()?;
    let body = usize::try_from(message.bodyLength()).ok()?;
    rest.get(..body)?;
    within(message.header_as_record_batch()?, &columns, body as u64)
}

/// Splits a message's head off; its body follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.strip_prefix(&CONTINUATION).unwrap_or(bytes);
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_le_bytes(*length)).ok().filter(|length| *length > 0)?)
}

/// How a column's values lie in its buffers.
enum Column {
    /// So many bits for each.
    Fixed(u64),
    /// Offsets of 32 bits, one more than there are values, and the bytes they lead to.
    Bytes,
}

/// A column of one of the types that payloads have.
fn column(field: Field) -> Option<Column> {
    let column = match field.type_type() {
        Type::Utf8 | Type::Binary => Column::Bytes,
        Type::Bool => Column::Fixed(1),
        Type::Int => match field.type_as_int()?.bitWidth() {
            width @ (8 | 16 | 32 | 64) => Column::Fixed(u64::from(width.unsigned_abs())),
            _ => return None,
        },
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            Precision::SINGLE => Column::Fixed(32),
            Precision::DOUBLE => Column::Fixed(64),
            _ => return None,
        },
        _ => return None,
    };
    field.dictionary().is_none().then_some(column)
}

/// A batch without compression, whose buffers lie within its body and hold the values that are announced.
fn within(batch: RecordBatch, columns: &[Column], body: u64) -> Option<()> {
    let rows = u64::try_from(batch.length()).ok()?;
    let mut nodes = batch.nodes()?.iter();
    let mut buffers = batch.buffers()?.iter();
    let mut buffer = |bits: u64, unit: u64| {
        let buffer = buffers.next()?;
        let (offset, length) = (u64::try_from(buffer.offset()).ok()?, u64::try_from(buffer.length()).ok()?);
        let inside = offset.checked_add(length).is_some_and(|end| end <= body);
        (inside && bits.div_ceil(8) <= length && length % unit == 0).then_some(())
    };
    for column in columns {
        let node = nodes.next()?;
        let nulls = u64::try_from(node.null_count()).ok()?;
        (u64::try_from(node.length()).ok()? == rows && nulls <= rows).then_some(())?;
        buffer(if nulls > 0 { rows } else { 0 }, 1)?;
        match column {
            Column::Fixed(bits) => buffer(rows.checked_mul(*bits)?, bits.div_ceil(8))?,
            Column::Bytes => {
                buffer(if rows > 0 { rows.checked_add(1)?.checked_mul(32)? } else { 0 }, 4)?;
                buffer(0, 1)?;
            }
        }
    }
    // Without columns nothing else bounds the rows.
    (batch.compression().is_none() && (rows == 0 || !columns.is_empty())).then_some(())
}
