//! What must hold of what platforms tell, whatever it is.

use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::stream::SessionRow;
use crest_core::{MediaTime, OrganizationId, Session, StreamId, WallTime};

use super::heard::Heard;
use super::placed::Placing;
use super::twitch::line::{self, Line};
use super::youtube::item;

/// The start of the session, and now.
const START: WallTime = WallTime(1_795_000_000_000);
const NOW: WallTime = WallTime(1_795_000_600_000);
/// Messages that are remembered.
const REMEMBERED: usize = 8;

/// Lines of Twitch's IRC.
pub fn irc_lines(data: &[u8]) {
    let mut placing = placing();
    for line in data.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line.trim_ascii_end())) {
        match line::read(&line, NOW) {
            Some(Line::Heard(channel, heard)) => {
                assert!(line.contains(&format!("#{channel}")), "a channel that was not named: {channel}");
                place(&mut placing, heard, line.len());
            }
            Some(Line::Joined(channel) | Line::Refused(channel, _)) => assert!(!channel.is_empty()),
            Some(Line::Ping(with)) => assert!(!with.contains(['\r', '\n']), "an answer of several lines"),
            _ => {}
        }
    }
}

/// An array of YouTube's messages, or one.
pub fn youtube_items(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let mut placing = placing();
    for item in value.as_array().unwrap_or(&vec![value.clone()]) {
        if let Ok(Some(heard)) = item::read(item, NOW) {
            place(&mut placing, heard, data.len());
        }
    }
}

fn placing() -> Placing {
    let row = SessionRow {
        stream_id: StreamId::from_raw("str_a"),
        session: Session::new(1),
        started_at: START,
        ended_at: None,
    };
    Placing::new(OrganizationId::from_raw("org_a"), row, REMEMBERED)
}

fn place(placing: &mut Placing, heard: Heard, told: usize) {
    let messages = match heard {
        Heard::Said(said) => placing.said(said, NOW).into_iter().collect(),
        Heard::Removed(removal) => {
            let deletions = placing.removed(removal, NOW);
            assert!(deletions.len() <= REMEMBERED);
            assert!(deletions.iter().all(|d| d.kind == ChatKind::Deletion && d.text.is_empty()), "a removed text");
            deletions
        }
        Heard::State(_) => Vec::new(),
    };
    for message in messages {
        assert!(message.text.len() <= 4000 && message.user.len() <= 200 && message.emotes.len() <= 100);
        assert!(message.kind == ChatKind::Deletion || message.text.len() <= told.saturating_mul(3));
        assert!((MediaTime::ZERO..=MediaTime::from_millis(605_000)).contains(&message.at), "{}", message.at);
        let payload = message.encode().unwrap_or_else(|error| panic!("{message:?} cannot be written: {error}"));
        let read = ChatMessage::decode(&payload).unwrap_or_else(|error| panic!("{message:?} cannot be read: {error}"));
        assert_eq!(read, message);
    }
}
