//! What the path names, if it belongs to whoever asks. Runs before a body is read, and answers the
//! same for what belongs to somebody else as for what never was.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use crest_core::highlight::StoredHighlight;
use crest_core::stream::Stream;
use crest_core::webhook::Endpoint;
use crest_core::{EndpointId, HighlightId, OrganizationId, StreamId};

use crate::Shared;
use crate::auth::Tenant;
use crate::problem::Problem;

const MAX_ID_BYTES: usize = 80;

/// The stream of the path.
pub struct OwnStream(pub Stream);
/// The highlight of the path.
pub struct OwnHighlight(pub StoredHighlight);
/// The webhook endpoint of the path.
pub struct OwnEndpoint(pub Endpoint);

/// The id in the path and the organization that asks for it. `None` where no id looks like that.
async fn asked(parts: &mut Parts, api: &Shared) -> Result<Option<(OrganizationId, String)>, Problem> {
    let Tenant(organization) = Tenant::from_request_parts(parts, api).await?;
    let id = Path::<String>::from_request_parts(parts, api).await.ok().map(|Path(id)| id);
    let plausible =
        |id: &String| id.len() <= MAX_ID_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    Ok(id.filter(plausible).map(|id| (organization.id, id)))
}

impl FromRequestParts<Shared> for OwnStream {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let found = match asked(parts, api).await? {
            Some((organization, id)) => api.store.stream(&organization, &StreamId::from_raw(id)).await?,
            None => None,
        };
        found.map(Self).ok_or_else(|| Problem::no_such("stream"))
    }
}

impl FromRequestParts<Shared> for OwnHighlight {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let found = match asked(parts, api).await? {
            Some((organization, id)) => api.store.highlight(&organization, &HighlightId::from_raw(id)).await?,
            None => None,
        };
        found.map(Self).ok_or_else(|| Problem::no_such("highlight"))
    }
}

impl FromRequestParts<Shared> for OwnEndpoint {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let found = match asked(parts, api).await? {
            Some((organization, id)) => api.store.endpoint(&organization, &EndpointId::from_raw(id)).await?,
            None => None,
        };
        found.map(Self).ok_or_else(|| Problem::no_such("webhook"))
    }
}
