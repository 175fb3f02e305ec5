//! Keys of stored objects: paths relative to the data directory, the tenant first.

use crate::id::{HighlightId, OrganizationId, StreamId};
use crate::time::Session;

/// Folder of a session's segments.
pub fn session_folder(organization: &OrganizationId, stream: &StreamId, session: Session) -> String {
    format!("media/{organization}/{stream}/{session:05}", session = session.number())
}

/// A segment file.
pub fn segment(organization: &OrganizationId, stream: &StreamId, session: Session, number: u32) -> String {
    format!("{}/segment-{number:06}.mp4", session_folder(organization, stream, session))
}

/// A highlight's clip.
pub fn clip(organization: &OrganizationId, highlight: &HighlightId) -> String {
    format!("clips/{organization}/{highlight}.mp4")
}

/// A highlight's thumbnail.
pub fn thumbnail(organization: &OrganizationId, highlight: &HighlightId) -> String {
    format!("clips/{organization}/{highlight}.jpg")
}
