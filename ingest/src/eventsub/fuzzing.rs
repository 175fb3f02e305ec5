//! What must hold of EventSub's messages, whatever they are.

use crest_core::WallTime;

use super::message::{Message, Says, Seen, read};

/// Now.
const NOW: WallTime = WallTime(1_795_000_600_000);

/// Messages of one connection, one a line.
pub fn eventsub_messages(data: &[u8]) {
    let mut seen = Seen::default();
    for line in data.split(|byte| *byte == b'\n').map(String::from_utf8_lossy) {
        let Some(message) = read(&line) else { continue };
        let first = seen.counts(&message, NOW);
        assert!(!first || message.at.0 >= NOW.0 - 600_000, "an old message counts");
        assert!(!seen.counts(&message, NOW), "a message counts twice");
        let Message { says, id, .. } = message;
        assert!(id.len() <= line.len());
        match says {
            Says::Welcome { session, silence } => {
                assert!(session.len() <= line.len());
                assert!((1..=600).contains(&silence.as_secs()) && silence.subsec_nanos() == 0);
            }
            Says::Online(user) | Says::Offline(user) => assert!(user.len() <= line.len()),
            Says::Reconnect(url) => assert!(url.len() <= line.len()),
            Says::Revoked { status, .. } => assert!(status.chars().count() <= 60),
            Says::Keepalive | Says::Other => {}
        }
    }
}
