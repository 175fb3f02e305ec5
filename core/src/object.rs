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

/// The session whose segment file this is; `None` for what is no key of [`segment`].
pub fn session_of_segment(object: &str) -> Option<(OrganizationId, StreamId, Session)> {
    let mut parts = object.strip_prefix("media/")?.splitn(4, '/');
    let (organization, stream, session, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let number = object.rsplit_once("/segment-")?.1.strip_suffix(".mp4")?.parse().ok()?;
    let session = Session::new(session.parse().ok()?);
    let (organization, stream) = (OrganizationId::from_raw(organization), StreamId::from_raw(stream));
    (segment(&organization, &stream, session, number) == object).then_some((organization, stream, session))
}

/// A highlight's clip.
pub fn clip(organization: &OrganizationId, highlight: &HighlightId) -> String {
    format!("clips/{organization}/{highlight}.mp4")
}

/// A highlight's thumbnail.
pub fn thumbnail(organization: &OrganizationId, highlight: &HighlightId) -> String {
    format!("clips/{organization}/{highlight}.jpg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_tells_its_session_and_nothing_else_does() {
        let (organization, stream) = (OrganizationId::from_raw("org_a"), StreamId::from_raw("str_b"));
        let session = Session::new(123_456);
        let object = segment(&organization, &stream, session, 7);
        assert_eq!(session_of_segment(&object), Some((organization, stream, session)));
        for other in ["media/org_a/str_b/00001/notes.txt", "media/org_a/str_b/1/segment-000001.mp4", "clips/a/b.mp4"] {
            assert_eq!(session_of_segment(other), None, "{other}");
        }
    }
}
