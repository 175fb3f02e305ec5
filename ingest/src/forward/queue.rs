//! What waits for one server: bounded by bytes and by time, and where it is too much, whole groups of pictures are
//! dropped, so that what arrives can always be decoded.

use std::collections::VecDeque;

use super::tag::{Headers, Role, Tag};
use crate::rtmp::message::VIDEO;

/// What a message takes beside its body.
const OVERHEAD: usize = 64;

/// The messages that wait for one server.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Tag>,
    bytes: usize,
    max_bytes: usize,
    /// Milliseconds from the first message that waits to the last.
    max_age: i32,
    headers: Headers,
    /// Nothing was dropped so far: sound is taken before the first keyframe too, as the publisher sends it.
    fresh: bool,
    /// Headers were taken, and something after them.
    begun: bool,
    /// A keyframe was taken since then: what follows it can be decoded.
    pictures: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize, max_age: i32) -> Self {
        let (waiting, headers) = (VecDeque::new(), Headers::default());
        Self { waiting, bytes: 0, max_bytes, max_age, headers, fresh: true, begun: false, pictures: false }
    }

    /// Takes a message, and answers how many were dropped, this one perhaps among them.
    pub(super) fn push(&mut self, tag: Tag) -> u64 {
        let mut dropped = 0;
        self.headers.note(&tag);
        // Sound and pictures do not come in one order: it may lie a little before the first that waits.
        let age = |first: &Tag| tag.timestamp.wrapping_sub(first.timestamp).cast_signed();
        let age = self.waiting.front().map_or(0, age);
        if self.bytes + size(&tag) > self.max_bytes || age > self.max_age {
            dropped += self.begin_again();
        }
        match tag.role() {
            // It stands among the headers.
            Role::Header(_) if !self.begun => return dropped,
            Role::Rest if tag.kind == VIDEO && !self.pictures => return dropped + 1,
            Role::Rest if !self.begun && !self.fresh && self.headers.has_video() => return dropped + 1,
            Role::Keyframe => self.pictures = true,
            Role::Header(_) | Role::Rest => {}
        }
        if !self.begun {
            self.begun = true;
            let headers: Vec<Tag> = self.headers.at(tag.timestamp).collect();
            headers.into_iter().for_each(|header| self.keep(header));
        }
        self.keep(tag);
        dropped
    }

    /// Notes a message while the server is not there, and answers how many were dropped: this one, or none where
    /// it will be sent again.
    pub(super) fn pass(&mut self, tag: &Tag) -> u64 {
        self.headers.note(tag);
        u64::from(!matches!(tag.role(), Role::Header(_)))
    }

    /// The next message to send.
    pub(super) fn pop(&mut self) -> Option<Tag> {
        let tag = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&tag));
        Some(tag)
    }

    /// Drops what waits; what is taken next begins with the headers and a keyframe. How many were dropped.
    pub(super) fn begin_again(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        self.waiting = VecDeque::new();
        (self.bytes, self.fresh, self.begun, self.pictures) = (0, false, false, false);
        dropped
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn keep(&mut self, tag: Tag) {
        self.bytes += size(&tag);
        self.waiting.push_back(tag);
    }
}

fn size(tag: &Tag) -> usize {
    tag.body.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::{AUDIO, DATA};
    use bytes::Bytes;

    fn tag(kind: u8, timestamp: u32, body: &'static [u8]) -> Tag {
        Tag { kind, timestamp, body: Bytes::from_static(body) }
    }

    const META: (u8, &[u8]) = (DATA, b"\x02\x00\x0aonMetaData\x08");
    const AVC: (u8, &[u8]) = (VIDEO, &[0x17, 0, 0]);
    const AAC: (u8, &[u8]) = (AUDIO, &[0xaf, 0]);
    const KEY: (u8, &[u8]) = (VIDEO, &[0x17, 1, 7, 7, 7, 7, 7, 7, 7, 7]);
    const INTER: (u8, &[u8]) = (VIDEO, &[0x27, 1, 5]);
    const SOUND: (u8, &[u8]) = (AUDIO, &[0xaf, 1, 9]);

    fn fill(queue: &mut Queue, sent: &[((u8, &'static [u8]), u32)]) -> u64 {
        sent.iter().map(|((kind, body), at)| queue.push(tag(*kind, *at, body))).sum()
    }

    fn drain(queue: &mut Queue) -> Vec<((u8, Vec<u8>), u32)> {
        std::iter::from_fn(|| queue.pop()).map(|tag| ((tag.kind, tag.body.to_vec()), tag.timestamp)).collect()
    }

    fn expected(tags: &[((u8, &[u8]), u32)]) -> Vec<((u8, Vec<u8>), u32)> {
        tags.iter().map(|((kind, body), at)| ((*kind, body.to_vec()), *at)).collect()
    }

    #[test]
    fn it_begins_with_the_headers_and_all_that_can_be_decoded() {
        let mut queue = Queue::new(10_000, 10_000);
        let dropped =
            fill(&mut queue, &[(META, 0), (AVC, 0), (AAC, 0), (INTER, 40), (SOUND, 50), (INTER, 60), (KEY, 80)]);
        assert_eq!(dropped, 2, "pictures before the first keyframe");
        assert_eq!(drain(&mut queue), expected(&[(META, 50), (AVC, 50), (AAC, 50), (SOUND, 50), (KEY, 80)]));
    }

    #[test]
    fn where_there_are_no_pictures_sound_begins_at_once() {
        let mut queue = Queue::new(10_000, 10_000);
        assert_eq!(fill(&mut queue, &[(AAC, 0), (SOUND, 20), (SOUND, 40)]), 0);
        assert_eq!(drain(&mut queue), expected(&[(AAC, 20), (SOUND, 20), (SOUND, 40)]));
    }

    #[test]
    fn what_is_too_much_or_too_old_is_dropped_up_to_the_next_keyframe() {
        // Room for two headers, the keyframe, and two more: by bytes, or by time.
        let bytes = 5 * OVERHEAD + 21;
        for mut queue in [Queue::new(bytes, 10_000), Queue::new(10_000, 100)] {
            fill(&mut queue, &[(AVC, 0), (AAC, 0), (KEY, 0)]);
            let mut dropped = 0;
            for n in 1..=10 {
                dropped += fill(&mut queue, &[(INTER, n * 40)]);
            }
            assert_eq!(dropped, 13, "all that waited, and what followed it");
            assert_eq!(fill(&mut queue, &[(KEY, 440), (SOUND, 450)]), 0);
            assert_eq!(drain(&mut queue), expected(&[(AVC, 440), (AAC, 440), (KEY, 440), (SOUND, 450)]));
        }
    }

    #[test]
    fn a_server_that_is_reached_again_gets_the_headers_again() {
        let mut queue = Queue::new(10_000, 10_000);
        fill(&mut queue, &[(AVC, 0), (KEY, 0), (INTER, 40)]);
        assert_eq!(queue.begin_again(), 3);
        assert_eq!(fill(&mut queue, &[(INTER, 80), (SOUND, 90), (KEY, 120)]), 2);
        assert_eq!(drain(&mut queue), expected(&[(AVC, 120), (KEY, 120)]));
    }
}
