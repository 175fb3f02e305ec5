//! What must hold of what platforms tell, whatever it is.

use bytes::Bytes;
use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::stream::SessionRow;
use crest_core::{MediaTime, OrganizationId, Session, StreamId, WallTime};

use super::heard::Heard;
use super::placed::Placing;
use super::twitch::line::{self, Line};
use super::youtube::elements::{Broken, Elements};
use super::youtube::item;

/// The start of the session, and now.
const START: WallTime = WallTime(1_795_000_000_000);
const NOW: WallTime = WallTime(1_795_000_600_000);
/// Messages that are remembered.
const REMEMBERED: usize = 8;
/// The largest element of an array.
const ELEMENT: usize = 256;

type Object = serde_json::Map<String, serde_json::Value>;

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

/// An array of YouTube's messages that arrives in pieces; the first byte says how large they are.
pub fn youtube_elements(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let (whole, complete) = elements(data, data.len().max(1));
    let (pieces, still_complete) = elements(data, usize::from(*piece) + 1);
    assert_eq!((&pieces, &still_complete), (&whole, &complete), "pieces matter");
    for element in &whole {
        assert!(element.len() <= ELEMENT, "an element over the limit");
        assert!(matches!(element.as_slice(), [b'{', .., b'}' | b']']), "no element");
    }
    // Of what is an array of objects, all of them come out as they are.
    let Ok(values) = serde_json::from_slice::<Vec<Object>>(data) else { return };
    if complete.is_ok() {
        let read: Vec<_> =
            whole.iter().map(|element| serde_json::from_slice::<Object>(element).unwrap_or_default()).collect();
        assert_eq!(read, values, "not the elements of the array");
    } else {
        assert!(data.len() > ELEMENT, "an array that was not taken: {complete:?}");
    }
}

/// The elements of what arrives in pieces of so many bytes, and whether it was taken to its end.
fn elements(data: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<(), Broken>) {
    let (mut elements, mut found) = (Elements::new(ELEMENT), Vec::new());
    for piece in data.chunks(piece) {
        let mut arrived = Bytes::copy_from_slice(piece);
        loop {
            let before = arrived.len();
            match elements.next(&mut arrived) {
                Ok(Some(element)) => found.push(element),
                Ok(None) => break assert!(arrived.is_empty(), "something is left behind"),
                Err(broken) => return (found, Err(broken)),
            }
            assert!(arrived.len() < before, "an element of nothing");
        }
    }
    (found, Ok(()))
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
