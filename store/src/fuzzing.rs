//! Entrances for `fuzz/`: what must hold of a cursor, whatever its text.

use crest_core::Fault;
use crest_core::store::Page;

use crate::page::Cursor;

/// A cursor as a caller sends it.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let page = |text: &str| Page { after: Some(text.to_owned()), limit: 10 };
    match Cursor::of(&page(text)) {
        Ok(cursor) => {
            let again = Cursor::of(&page(&cursor.encode())).unwrap_or_else(|e| panic!("handed out and refused: {e}"));
            assert_eq!((again.rank, &again.id), (cursor.rank, &cursor.id));
        }
        Err(e) => assert_eq!(e.fault, Fault::User),
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_pass() {
        super::replay::replay("store_cursor", super::cursor);
    }
}
