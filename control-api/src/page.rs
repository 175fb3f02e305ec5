//! Lists in parts: `{"data":[..],"next": cursor|null}`.

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crest_core::store::{Page, Paged};
use crest_core::{Error, Fault};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::codes::Code;
use crate::problem::Problem;

const DEFAULT_LIMIT: u32 = 50;
const MAX_CURSOR_BYTES: usize = 1024;

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub data: Vec<T>,
    /// The `cursor` of the next part; null at the end.
    pub next: Option<String>,
}

/// Parameters of a list that can only be paged.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Items in this part, from 1 to the server's maximum (200 unless configured); 50 without it.
    #[param(minimum = 1)]
    pub limit: Option<u32>,
    /// `next` of the part before.
    pub cursor: Option<String>,
}

/// One kind of list; cursors of one do not fit another.
#[derive(Clone, Copy)]
pub struct Pager(pub &'static str);

impl Pager {
    /// The wanted part, within the bounds.
    pub fn page(self, limit: Option<u32>, cursor: Option<&str>, max: u32) -> Result<Page, Problem> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT.min(max));
        if limit == 0 || limit > max {
            return Err(Problem::new(Code::InvalidParameter, format!("limit: must be from 1 to {max}")));
        }
        let after = cursor.map(|cursor| self.open(cursor).ok_or_else(wrong_cursor)).transpose()?;
        Ok(Page { after, limit })
    }

    /// The answer to a list that the store was asked for with `page`.
    pub fn answer<T, V>(
        self,
        page: &Page,
        paged: Result<Paged<T>, Error>,
        view: impl Fn(&T) -> V,
    ) -> Result<Json<List<V>>, Problem> {
        let paged = match paged {
            Ok(paged) => paged,
            Err(e) if e.fault == Fault::User && page.after.is_some() => return Err(wrong_cursor()),
            Err(e) => return Err(e.into()),
        };
        let next = paged.next.map(|next| URL_SAFE_NO_PAD.encode(format!("{}:{next}", self.0)));
        Ok(Json(List { data: paged.items.iter().map(view).collect(), next }))
    }

    fn open(self, cursor: &str) -> Option<String> {
        if cursor.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        text.strip_prefix(self.0)?.strip_prefix(':').map(str::to_owned)
    }
}

fn wrong_cursor() -> Problem {
    Problem::new(Code::InvalidCursor, "Take 'next' from the part before as it stands, or leave 'cursor' out.")
}
