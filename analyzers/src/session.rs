//! All analyzers of one session: samples in, entries of the signals log out.

use crest_core::MediaTime;
use crest_core::chat::ChatMessage;
use crest_core::sample::{AudioWindow, VideoBatch};
use crest_core::signal::{Modality, SignalEntry};

use crate::chat::repeats::Repeats;
use crate::{Analyzer, Values, all};

/// The analyzers of one session.
pub struct SessionAnalyzers {
    analyzers: Vec<Box<dyn Analyzer>>,
    values: Values,
    repeats: Repeats,
}

impl Default for SessionAnalyzers {
    fn default() -> Self {
        Self { analyzers: all(), values: Values::default(), repeats: Repeats::default() }
    }
}

impl SessionAnalyzers {
    /// Takes frames; returns what became complete by them, and the watermark.
    pub fn video(&mut self, batch: &VideoBatch) -> Vec<SignalEntry> {
        for analyzer in &mut self.analyzers {
            analyzer.video(batch, &mut self.values);
        }
        self.advance(Modality::Video, batch.complete_to)
    }

    /// Takes sound; returns what became complete by it, and the watermark.
    pub fn audio(&mut self, window: &AudioWindow) -> Vec<SignalEntry> {
        for analyzer in &mut self.analyzers {
            analyzer.audio(window, &mut self.values);
        }
        self.advance(Modality::Audio, window.complete_to)
    }

    /// Takes chat messages; returns the buckets they changed. Chat has no watermark of its own: it is
    /// placed by wall clock, so it is complete where the media are. A message that was taken before,
    /// by its id, changes nothing.
    pub fn chat(&mut self, messages: &[ChatMessage]) -> Vec<SignalEntry> {
        for message in messages {
            if !self.repeats.is_new(message) {
                continue;
            }
            for analyzer in &mut self.analyzers {
                analyzer.chat(message, &mut self.values);
            }
        }
        self.values.take(Modality::Chat, MediaTime::from_nanos(i64::MAX))
    }

    fn advance(&mut self, modality: Modality, to: MediaTime) -> Vec<SignalEntry> {
        let mut entries = self.values.take(modality, to);
        entries.push(SignalEntry::Watermark { modality, to });
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::chat::ChatKind;
    use crest_core::sample::VideoFrame;
    use crest_core::signal::Signal;
    use crest_core::{OrganizationId, Session};

    fn message(id: Option<&str>, kind: ChatKind) -> ChatMessage {
        ChatMessage {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            at: MediaTime::from_millis(1234),
            id: id.map(str::to_owned),
            user: "viewer".into(),
            text: "!".into(),
            kind,
            emotes: Vec::new(),
            bits: None,
        }
    }

    #[test]
    fn a_deletion_neither_counts_nor_undoes_a_count() {
        let mut session = SessionAnalyzers::default();
        let mut changes = |kind| !session.chat(&[message(Some("a"), kind)]).is_empty();
        assert!(changes(ChatKind::Message));
        for kind in [ChatKind::Deletion, ChatKind::Deletion, ChatKind::Message] {
            assert!(!changes(kind), "{kind:?} after the deletion");
        }
    }

    #[test]
    fn a_message_that_is_sent_again_counts_once() {
        let mut session = SessionAnalyzers::default();
        let mut rate = |id| {
            session.chat(&[message(id, ChatKind::Message)]).into_iter().find_map(|entry| match entry {
                SignalEntry::Value { signal: Signal::ChatRate, value, .. } => Some(value),
                _ => None,
            })
        };
        assert_eq!(rate(Some("a")), Some(2.0));
        assert_eq!(rate(Some("a")), None, "nothing changed");
        assert_eq!(rate(Some("b")), Some(4.0));
        assert_eq!(rate(None), Some(6.0));
        assert_eq!(rate(None), Some(8.0), "without an id, two alike are two");
    }

    #[test]
    fn a_bucket_is_emitted_once_it_is_complete_and_not_before() {
        let mut session = SessionAnalyzers::default();
        let batch = |from: i64, complete_to: i64| VideoBatch {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            complete_to: MediaTime::from_millis(complete_to),
            frames: (0..10)
                .map(|i| VideoFrame {
                    pts: MediaTime::from_millis(from + i * 50),
                    encoded_bytes: 1000,
                    keyframe: false,
                    picture: None,
                })
                .collect(),
        };
        let values = |entries: &[SignalEntry]| {
            entries.iter().filter(|e| matches!(e, SignalEntry::Value { signal: Signal::VideoActivity, .. })).count()
        };
        assert_eq!(values(&session.video(&batch(0, 499))), 0);
        assert_eq!(values(&session.video(&batch(500, 1000))), 2);
    }
}
