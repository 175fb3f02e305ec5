//! Chat messages and manual marks, as they travel on `chat.messages` and `marks`.

use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Int64Array, StringArray, UInt32Array};
use arrow_schema::{DataType, Field};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::OrganizationId;
use crate::ipc;
use crate::time::{MediaTime, Session};

/// What happened in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatKind {
    /// Somebody wrote.
    #[default]
    Message,
    /// Somebody subscribed.
    Sub,
    /// Somebody paid.
    Bits,
    /// Viewers of another channel came over.
    Raid,
    /// A message was removed: the record has that message's id, and no text. It undoes no count, for those who
    /// wrote did react; whatever shows texts must show none that a deletion names.
    Deletion,
}

/// A chat on a platform that crest follows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChatSource {
    /// The chat of a Twitch channel.
    Twitch {
        /// The channel's login name, in lower case.
        channel: String,
    },
    /// The live chat of a YouTube broadcast.
    Youtube {
        /// The broadcast's video id.
        video_id: String,
    },
}

impl ChatSource {
    /// The platform's name in the API, in logs and in metrics.
    pub const fn platform(&self) -> &'static str {
        match self {
            Self::Twitch { .. } => "twitch",
            Self::Youtube { .. } => "youtube",
        }
    }
}

/// A chat message, placed on a session's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The session it was placed in.
    pub session: Session,
    /// When it was written, on the session's timeline; not corrected for the lag of viewers.
    pub at: MediaTime,
    /// The platform's id of the message, else one of crest's own: a message that arrives twice counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who wrote it, as the platform names them.
    pub user: String,
    /// What was written.
    pub text: String,
    /// What it is.
    #[serde(default)]
    pub kind: ChatKind,
    /// Emotes in it, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emotes: Vec<String>,
    /// Bits paid with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
}

/// A moment that a person marked by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The session.
    pub session: Session,
    /// The marked instant.
    pub at: MediaTime,
    /// What the person called it.
    pub label: Option<String>,
}

impl ChatKind {
    const ALL: [ChatKind; 5] = [Self::Message, Self::Sub, Self::Bits, Self::Raid, Self::Deletion];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Sub => "sub",
            Self::Bits => "bits",
            Self::Raid => "raid",
            Self::Deletion => "deletion",
        }
    }
}

impl ChatMessage {
    /// An id for a message that came without one, so that it counts once even if it reaches the log twice.
    pub fn new_id() -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }

    /// As the payload of `chat.messages`: one row.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let text = |value: String| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        ipc::encode(
            &self.organization_id,
            self.session,
            vec![
                (field("at_ns", DataType::Int64), Arc::new(Int64Array::from(vec![self.at.nanos()])) as ArrayRef),
                (field("id", DataType::Utf8), Arc::new(StringArray::from(vec![self.id.clone()])) as ArrayRef),
                (field("user", DataType::Utf8), text(self.user.clone())),
                (field("text", DataType::Utf8), text(self.text.clone())),
                (field("kind", DataType::Utf8), text(self.kind.name().to_owned())),
                (field("emotes", DataType::Utf8), text(self.emotes.join(" "))),
                (field("bits", DataType::UInt32), Arc::new(UInt32Array::from(vec![self.bits]))),
            ],
        )
    }

    /// From the payload of `chat.messages`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let decoded = ipc::decode(payload)?;
        if decoded.batch.num_rows() != 1 {
            return Err(Error::outside("a chat.messages record carries one message"));
        }
        let text = |name: &str| -> Result<String> {
            let column = decoded.string(name)?;
            Ok(if column.is_valid(0) { column.value(0).to_owned() } else { String::new() })
        };
        let kind = text("kind")?;
        // Records of the first builds have no such column.
        let id = decoded.string("id").ok().filter(|column| column.is_valid(0)).map(|column| column.value(0).to_owned());
        Ok(Self {
            id,
            at: MediaTime::from_nanos(decoded.primitive::<Int64Type>("at_ns")?.value(0)),
            user: text("user")?,
            text: text("text")?,
            kind: ChatKind::ALL
                .into_iter()
                .find(|k| k.name() == kind)
                .ok_or_else(|| Error::outside(format!("unknown kind of chat message '{kind}'")))?,
            emotes: text("emotes")?.split_whitespace().map(str::to_owned).collect(),
            bits: ipc::cell(decoded.primitive::<UInt32Type>("bits")?, 0),
            organization_id: decoded.organization,
            session: decoded.session,
        })
    }
}

impl Mark {
    /// As the payload of `marks`: one row.
    pub fn encode(&self) -> Result<Vec<u8>> {
        ipc::encode(
            &self.organization_id,
            self.session,
            vec![
                (
                    Field::new("at_ns", DataType::Int64, true),
                    Arc::new(Int64Array::from(vec![self.at.nanos()])) as ArrayRef,
                ),
                (Field::new("label", DataType::Utf8, true), Arc::new(StringArray::from(vec![self.label.clone()]))),
            ],
        )
    }

    /// From the payload of `marks`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let decoded = ipc::decode(payload)?;
        if decoded.batch.num_rows() != 1 {
            return Err(Error::outside("a marks record carries one mark"));
        }
        let label = decoded.string("label")?;
        Ok(Self {
            at: MediaTime::from_nanos(decoded.primitive::<Int64Type>("at_ns")?.value(0)),
            label: label.is_valid(0).then(|| label.value(0).to_owned()),
            organization_id: decoded.organization,
            session: decoded.session,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_a_mark_survive_the_bus() -> Result<()> {
        let message = ChatMessage {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            at: MediaTime::from_millis(1234),
            id: Some("4f1c".into()),
            user: "viewer".into(),
            text: "что за гол 😱".into(),
            kind: ChatKind::Bits,
            emotes: vec!["PogChamp".into()],
            bits: Some(100),
        };
        assert_eq!(ChatMessage::decode(&message.encode()?)?, message);
        let mark = Mark {
            organization_id: OrganizationId::from_raw("org_a"),
            session: Session::new(1),
            at: MediaTime::from_millis(5),
            label: None,
        };
        assert_eq!(Mark::decode(&mark.encode()?)?, mark);
        Ok(())
    }
}
