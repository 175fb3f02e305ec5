//! Entrances for `fuzz/`: what must hold of headers and parameters, whatever their text.

use crest_core::store::Paged;

use crate::page::Pager;
use crate::range::{Wanted, wanted};

/// A file's length (8 bytes), and a `Range` header.
pub fn range(data: &[u8]) {
    let Some((length, header)) = data.split_first_chunk::<8>() else { return };
    let (length, Ok(header)) = (u64::from_be_bytes(*length), std::str::from_utf8(header)) else { return };
    let found = wanted(Some(header), length);
    match found {
        Wanted::Part { start, end } => {
            assert!(start <= end && end < length, "{found:?} of {length}");
            // Asked for in so many words, it is found again.
            assert_eq!(wanted(Some(&format!("bytes={start}-{end}")), length), found);
        }
        // Only what has the form of a range can lie outside.
        Wanted::Nothing => assert!(header.contains('=') && header.contains('-'), "{header}"),
        Wanted::Whole => {}
    }
}

/// A `cursor` parameter, and a page that is asked for with it.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pager = Pager("streams");
    let Ok(page) = pager.page(Some(10), Some(text), 200) else { return };
    // The store's cursor in it comes back as it stands.
    let paged = Ok(Paged { items: vec![()], next: page.after.clone() });
    let Ok(list) = pager.answer(&page, paged, |()| ()) else { panic!("an answer that is none") };
    let next = list.0.next.unwrap_or_default();
    if next.len() <= 1024 {
        let again = pager.page(Some(10), Some(&next), 200).map(|page| page.after);
        assert!(again.is_ok_and(|again| again == page.after), "a cursor that is handed out is refused");
    }
    assert!(Pager("highlights").page(Some(10), Some(text), 200).is_err(), "a cursor of another list is taken");
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn kept_inputs_pass() {
        replay("http_range", super::range);
        replay("api_cursor", super::cursor);
    }
}
