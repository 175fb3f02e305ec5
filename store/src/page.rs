//! Pages of a list: newest first, with a cursor that names the last item handed out, so that what
//! is added meanwhile moves nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crest_core::store::{Page, Paged};
use crest_core::{Error, Result};

use crate::values::can_be_kept;

/// The most items a page has, whatever was asked for.
pub const MAX_PAGE: u32 = 500;

/// Where a page begins: after the item with this rank (its time or number) and, among equals, id.
pub(crate) struct Cursor {
    pub(crate) rank: i64,
    pub(crate) id: String,
}

impl Cursor {
    /// The cursor that stands for the beginning: above all ranks.
    fn top() -> Self {
        Self { rank: i64::MAX, id: String::new() }
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.rank, self.id))
    }

    fn decode(text: &str) -> Option<Self> {
        let raw = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (rank, id) = raw.split_once(':')?;
        Some(Self { rank: rank.parse().ok()?, id: id.to_owned() }).filter(|cursor| can_be_kept(&cursor.id))
    }

    /// The cursor a page asks for. A malformed one is the caller's fault.
    pub(crate) fn of(page: &Page) -> Result<Self> {
        match &page.after {
            None => Ok(Self::top()),
            Some(text) => Self::decode(text)
                .ok_or_else(|| Error::user("the cursor is not one that was handed out; start without one")),
        }
    }
}

/// Items a page has at most.
pub(crate) fn size(page: &Page) -> usize {
    page.limit.clamp(1, MAX_PAGE) as usize
}

/// Rows to ask for: one more than the page shows, to learn whether there is a next.
pub(crate) fn fetch(page: &Page) -> i64 {
    i64::from(page.limit.clamp(1, MAX_PAGE)) + 1
}

/// Cuts what was fetched to the page's size and names where the next one begins.
pub(crate) fn cut<T>(mut items: Vec<T>, page: &Page, key: impl Fn(&T) -> (i64, String)) -> Paged<T> {
    let size = size(page);
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|last| {
        let (rank, id) = key(last);
        Cursor { rank, id }.encode()
    });
    Paged { items, next }
}
